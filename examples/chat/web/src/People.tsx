import type { User } from 'chathub-client';
import type { ReactNode } from 'react';
import { Dialog, IconButton } from './parts.js';
import { PersonItem } from './Sidebar.js';

interface Props {
  me: User;
  users: readonly User[];
  count: number;
  onMessage: (user: User) => void;
  /** Shows what a moderator can do about a user. Undefined for others. */
  onModerate: ((user: User) => void) | undefined;
}

/** The people in a room, with the user of the page first. */
export function PeopleList({ me, users, count, onMessage, onModerate }: Props): ReactNode {
  const sorted = [...users].sort(
    (a, b) => Number(b.id === me.id) - Number(a.id === me.id) || a.name.localeCompare(b.name),
  );
  return (
    <>
      <ul>
        {sorted.map((user) => (
          <li key={user.id} className="person">
            {user.id === me.id ? (
              <PersonItem user={user} />
            ) : (
              <PersonItem user={user} onMessage={() => onMessage(user)} />
            )}
            {onModerate && user.id !== me.id && (
              <IconButton icon="shield" label={`Moderate \u2068${user.name}\u2069`} onClick={() => onModerate(user)} />
            )}
          </li>
        ))}
      </ul>
      {users.length < count && <p className="quiet">Too many to list.</p>}
    </>
  );
}

/** The same as a dialog, for screens without room beside the conversation. */
export function PeopleDialog({
  onClosed,
  onMessage,
  onModerate,
  ...props
}: Props & { onClosed: () => void }): ReactNode {
  return (
    <Dialog title="Who is here" className="sheet" onClosed={onClosed}>
      {(close) => (
        <PeopleList
          {...props}
          onMessage={(user) => {
            close();
            onMessage(user);
          }}
          onModerate={
            onModerate &&
            ((user) => {
              close();
              onModerate(user);
            })
          }
        />
      )}
    </Dialog>
  );
}
