import type { Message } from 'chathub-client/react';
import { type FormEvent, type ReactNode, useRef } from 'react';
import { Dialog, Name } from './parts.js';
import { shortOf } from './types.js';

export function JoinDialog({ onJoin, onClosed }: { onJoin: (name: string) => void; onClosed: () => void }): ReactNode {
  const input = useRef<HTMLInputElement>(null);
  return (
    <Dialog title="Join a room" onClosed={onClosed}>
      {(close) => (
        <form
          onSubmit={(event: FormEvent) => {
            event.preventDefault();
            const name = input.current?.value.trim();
            if (!name) return;
            close(); // first, since it returns focus, which the conversation takes
            onJoin(name);
          }}
        >
          <label htmlFor="room">Name of the room</label>
          <input
            ref={input}
            id="room"
            className="field"
            type="text"
            maxLength={64}
            required
            autoComplete="off"
            autoCapitalize="none"
            spellCheck={false}
            enterKeyHint="go"
            aria-describedby="room-hint"
          />
          <p id="room-hint" className="hint">
            Anyone who knows the name can join. A room that does not exist yet is created.
          </p>
          <div className="dialog-actions">
            <button type="button" className="secondary" onClick={close}>
              Cancel
            </button>
            <button type="submit" className="primary">
              Join
            </button>
          </div>
        </form>
      )}
    </Dialog>
  );
}

/** Asks for confirmation if messages would be lost by logging out. */
export function LogoutDialog({ onLogout, onClosed }: { onLogout: () => void; onClosed: () => void }): ReactNode {
  return (
    <Dialog title="Log out now?" onClosed={onClosed}>
      {(close) => (
        <>
          <p>Some messages have not reached the server yet. If you log out, they will not be sent.</p>
          <div className="dialog-actions">
            <button type="button" className="secondary" onClick={close}>
              Stay
            </button>
            <button type="button" className="primary" onClick={onLogout}>
              Log out
            </button>
          </div>
        </>
      )}
    </Dialog>
  );
}

/** Asks whether to delete a message. */
export function DeleteDialog(props: { message: Message; onDelete: () => void; onClosed: () => void }): ReactNode {
  const { message, onDelete, onClosed } = props;
  return (
    <Dialog title="Delete this message?" onClosed={onClosed}>
      {(close) => (
        <>
          <p>
            It is deleted for everyone: <Name of={shortOf(message)} className="quoted" />
          </p>
          <div className="dialog-actions">
            <button type="button" className="secondary" onClick={close}>
              Keep
            </button>
            <button
              type="button"
              className="primary"
              onClick={() => {
                close(); // first, since it returns focus
                onDelete();
              }}
            >
              Delete
            </button>
          </div>
        </>
      )}
    </Dialog>
  );
}
