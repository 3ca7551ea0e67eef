import type { ChatError, Room } from 'chathub-client';
import type { Message } from 'chathub-client/react';
import { type FormEvent, type ReactNode, useRef, useState } from 'react';
import { useFetched } from './fetched.js';
import { Dialog, IconButton, Name } from './parts.js';
import { LONGEST_TOPIC, setTopic, topicOf, topicVersion } from './roomState.js';
import { shortOf } from './types.js';

/** The topic of a room, which a click changes. */
export function Topic({ topic, onChange }: { topic: string; onChange: (() => void) | undefined }): ReactNode {
  return (
    <button
      type="button"
      className={topic ? 'topic' : 'topic none'}
      disabled={!onChange}
      aria-label={topic ? `Topic: \u2068${topic}\u2069. Change it` : 'Add a topic'}
      title={topic || undefined}
      onClick={onChange}
    >
      <Name of={topic || 'Add a topic'} />
    </button>
  );
}

/** Asks for a topic. It stays open until the server has it. */
export function TopicDialog({ room, onClosed }: { room: Room; onClosed: () => void }): ReactNode {
  const [before, setBefore] = useState(() => ({ topic: topicOf(room.state), version: topicVersion(room.state) }));
  const [text, setText] = useState(before.topic);
  const [saving, setSaving] = useState(false);
  const [problem, setProblem] = useState('');

  async function save(close: () => void) {
    const topic = text.replace(/\s+/g, ' ').trim();
    if (topic === before.topic) return close();
    setSaving(true);
    setProblem('');
    try {
      await setTopic(room, topic, before.version);
      close();
    } catch (err) {
      const { code, message } = err as ChatError;
      const now = topicOf(room.state);
      setProblem(
        code === 'conflict'
          ? `Somebody else has changed it meanwhile${now ? `, to: \u2068${now}\u2069` : ''}. Save again to replace that.`
          : `Not saved: ${message}.`,
      );
      setBefore({ topic: now, version: topicVersion(room.state) });
      setSaving(false);
    }
  }

  return (
    <Dialog title="Topic of the room" onClosed={onClosed}>
      {(close) => (
        <form
          onSubmit={(event: FormEvent) => {
            event.preventDefault();
            if (!saving) void save(close);
          }}
        >
          <label htmlFor="topic">What is it about?</label>
          <input
            id="topic"
            className="field"
            type="text"
            value={text}
            maxLength={LONGEST_TOPIC}
            autoComplete="off"
            enterKeyHint="done"
            dir="auto"
            aria-describedby="topic-hint"
            aria-invalid={problem !== ''}
            onChange={(event) => setText(event.target.value)}
          />
          <p id="topic-hint" className={problem ? 'hint bad' : 'hint'} role="status">
            {problem || 'Everyone in the room sees it and may change it.'}
          </p>
          <div className="dialog-actions">
            <button type="button" className="secondary" onClick={close}>
              Cancel
            </button>
            <button type="submit" className="primary" disabled={saving}>
              {saving ? 'Saving…' : 'Save'}
            </button>
          </div>
        </form>
      )}
    </Dialog>
  );
}

interface PinsProps {
  room: string;
  /** The positions of the pinned messages, the last pinned one last. */
  pins: readonly number[];
  messages: readonly Message[];
  epoch: string | undefined;
  onJump: (seq: number) => void;
  onUnpin: (seq: number) => void;
  onClosed: () => void;
}

/** The pinned messages of a room. A click leads to them. */
export function PinsDialog({ room, pins, messages, epoch, onJump, onUnpin, onClosed }: PinsProps): ReactNode {
  const list = useRef<HTMLUListElement>(null);
  return (
    <Dialog title="Pinned messages" className="sheet" onClosed={onClosed}>
      {(close) => (
        <ul ref={list} className="pins">
          {pins.length === 0 && <li className="quiet">Nothing is pinned any more.</li>}
          {pins.toReversed().map((seq) => (
            <PinItem
              key={seq}
              room={room}
              seq={seq}
              loaded={messages.find((m) => m.seq === seq && m.epoch === epoch)}
              onJump={() => {
                close(); // first, since it returns focus, which the message takes
                onJump(seq);
              }}
              onUnpin={() => {
                onUnpin(seq);
                list.current?.closest('dialog')?.focus(); // the button goes
              }}
            />
          ))}
        </ul>
      )}
    </Dialog>
  );
}

interface PinProps {
  room: string;
  seq: number;
  loaded: Message | undefined;
  onJump: () => void;
  onUnpin: () => void;
}

function PinItem({ loaded, ...props }: PinProps): ReactNode {
  return loaded ? <Pin {...props} of={loaded} /> : <FetchedPin {...props} />;
}

function FetchedPin(props: Omit<PinProps, 'loaded'>): ReactNode {
  return <Pin {...props} of={useFetched(props.room, props.seq)} />;
}

function Pin({ of, onJump, onUnpin }: Pick<PinProps, 'onJump' | 'onUnpin'> & { of: ReturnType<typeof useFetched> }) {
  const text = of ? shortOf(of) : of === null ? 'This message is no longer there' : 'An earlier message';
  return (
    <li>
      <button type="button" className="item pin" onClick={onJump}>
        <span className="item-text">
          {of && <Name of={of.from?.name ?? 'Server'} className="item-title" />}
          <Name of={text} className="pin-text" />
        </span>
      </button>
      <IconButton icon="unpin" label={`Unpin: \u2068${text}\u2069`} onClick={onUnpin} />
    </li>
  );
}
