import type { Message } from 'chathub-client/react';
import { type KeyboardEvent, type ReactNode, useEffect, useRef, useState } from 'react';
import { Dialog, Icon, IconButton, type IconName } from './parts.js';

/** What can be done with a message. */
export interface RowActions {
  retry(id: string): void;
  discard(id: string): void;
  reply(m: Message): void;
  /** Begins to edit it in its place. */
  edit(m: Message): void;
  /** Ends that, with another text or none. */
  edited(m: Message, text?: string): void;
  /** Deletes it after a question. */
  remove(m: Message): void;
  react(m: Message, key: string, on: boolean): void;
  /** Undefined if there are no links to these messages. */
  copyLink: ((m: Message) => void) | undefined;
  /** Pins it, or takes the pin back. Undefined if there are no pins here. */
  pin: ((m: Message, on: boolean) => void) | undefined;
  /** Asks why moderators should look at it. */
  report(m: Message): void;
  /** Shows what a moderator can do about its author. */
  moderate(m: Message): void;
  /** Shows the message that it answers. */
  jump(m: Message): void;
  /** Shows what can be done in a dialog, on a screen without hovering. */
  menu(m: Message): void;
}

/** What the user may do with messages. */
export interface Rights {
  /** Not if the user is muted or the room is frozen. */
  readonly write: boolean;
  readonly moderate: boolean;
}

const REACTIONS = {
  '👍': 'thumbs up',
  '❤️': 'heart',
  '😂': 'tears of joy',
  '🎉': 'party',
  '😮': 'surprise',
  '😢': 'tears',
  '🙏': 'thanks',
  '👀': 'eyes',
};

interface Props {
  message: Message;
  mine: boolean;
  pinned: boolean;
  may: Rights;
  on: RowActions;
}

/** The bar of a message that the pointer is over, or that has focus. */
export function ActionBar({ message, mine, pinned, may, on }: Props): ReactNode {
  const [picking, setPicking] = useState(false);
  const bar = useRef<HTMLFieldSetElement>(null);
  const picked = useRef(picking);
  useEffect(() => {
    // Opening and closing the palette removes the button that had focus.
    if (picked.current !== picking) bar.current?.querySelector<HTMLElement>('button')?.focus();
    picked.current = picking;
  }, [picking]);
  function keydown(event: KeyboardEvent) {
    if (event.key !== 'Escape' || !picking) return;
    event.stopPropagation();
    setPicking(false);
  }
  return (
    <fieldset
      ref={bar}
      className="actions"
      aria-label={picking ? 'Reactions' : 'Actions for this message'}
      onKeyDown={keydown}
    >
      {picking && may.write ? (
        <Palette message={message} onPick={() => setPicking(false)} on={on} />
      ) : (
        <>
          {may.write && <IconButton icon="react" label="React" onClick={() => setPicking(true)} />}
          {actionsOf({ message, mine, pinned, may, on }).map(({ icon, label, act }) => (
            <IconButton key={label} icon={icon} label={label} onClick={act} />
          ))}
        </>
      )}
    </fieldset>
  );
}

interface Item {
  icon: IconName;
  label: string;
  act: () => void;
}

function actionsOf({ message, mine, pinned, may, on }: Props): Item[] {
  const { copyLink, pin } = on;
  const others = !mine && message.from !== undefined;
  const all: (Item | false | undefined)[] = [
    may.write && { icon: 'reply', label: 'Reply', act: () => on.reply(message) },
    may.write && mine && { icon: 'edit', label: 'Edit', act: () => on.edit(message) },
    // What was written before a mute can still be deleted.
    (mine || may.moderate) && { icon: 'delete', label: 'Delete', act: () => on.remove(message) },
    may.write &&
      pin && { icon: pinned ? 'unpin' : 'pin', label: pinned ? 'Unpin' : 'Pin', act: () => pin(message, !pinned) },
    copyLink && { icon: 'link', label: 'Copy link', act: () => copyLink(message) },
    others && { icon: 'flag', label: 'Report', act: () => on.report(message) },
    others && may.moderate && { icon: 'shield', label: 'Moderate', act: () => on.moderate(message) },
  ];
  return all.filter((item) => item !== false && item !== undefined);
}

function Palette({ message, on, onPick }: Omit<Props, 'mine' | 'pinned' | 'may'> & { onPick: () => void }): ReactNode {
  return Object.entries(REACTIONS).map(([key, name]) => {
    const pressed = message.mine?.includes(key) ?? false;
    return (
      <button
        key={key}
        type="button"
        className="emoji"
        aria-label={`React with ${name}`}
        aria-pressed={pressed}
        title={name}
        onClick={() => {
          onPick();
          on.react(message, key, !pressed);
        }}
      >
        {key}
      </button>
    );
  });
}

/** The same after a long press. */
export function ActionSheet({ onClosed, ...props }: Props & { onClosed: () => void }): ReactNode {
  return (
    <Dialog title="Message" className="sheet action-sheet" onClosed={onClosed}>
      {(close) => (
        <>
          {props.may.write && (
            <fieldset className="palette" aria-label="Reactions">
              <Palette {...props} onPick={close} />
            </fieldset>
          )}
          <ul>
            {actionsOf(props).map(({ icon, label, act }) => (
              <li key={label}>
                <button
                  type="button"
                  className="item compact"
                  onClick={() => {
                    close(); // first, since it returns focus, which the action takes
                    act();
                  }}
                >
                  <Icon of={icon} />
                  {label}
                </button>
              </li>
            ))}
          </ul>
        </>
      )}
    </Dialog>
  );
}
