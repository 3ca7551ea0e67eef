import type { Message } from 'chathub-client/react';
import { type ReactNode, useContext } from 'react';
import { KnownUsers, whoText } from './names.js';

interface Props {
  message: Message;
  /** Undefined if the message can no longer be changed. */
  onReact: ((key: string, on: boolean) => void) | undefined;
}

/** Who has reacted to a message. A click adds the user, or takes them out. */
export function Reactions({ message, onReact }: Props): ReactNode {
  const known = useContext(KnownUsers);
  const all = Object.entries(message.reactions ?? {});
  if (all.length === 0) return null;
  return (
    <ul className="reactions" aria-label="Reactions to this message">
      {all.map(([key, { count, users }]) => {
        const mine = message.mine?.includes(key) ?? false;
        // A long list is cut short, and may lack the user.
        const ids = mine && !users.includes(known.me.id) ? [known.me.id, ...users] : users;
        const who = whoText(ids, count, known);
        return (
          <li key={key}>
            <button
              type="button"
              className="reaction"
              aria-pressed={mine}
              aria-label={`\u2068${key}\u2069 ${count}: ${who}`}
              title={who}
              disabled={!onReact}
              onClick={() => onReact?.(key, !mine)}
            >
              <bdi>{key}</bdi> {count}
            </button>
          </li>
        );
      })}
    </ul>
  );
}
