import type { User } from 'chathub-client';
import type { ReactNode } from 'react';
import { Dialog } from './parts.js';
import { PersonItem } from './Sidebar.js';

interface Props {
  me: User;
  users: readonly User[];
  count: number;
  onMessage: (user: User) => void;
}

/** The people in a room, with the user of the page first. */
export function PeopleList({ me, users, count, onMessage }: Props): ReactNode {
  const sorted = [...users].sort(
    (a, b) => Number(b.id === me.id) - Number(a.id === me.id) || a.name.localeCompare(b.name),
  );
  return (
    <>
      <ul>
        {sorted.map((user) => (
          <li key={user.id}>
            {user.id === me.id ? (
              <PersonItem user={user} />
            ) : (
              <PersonItem user={user} onMessage={() => onMessage(user)} />
            )}
          </li>
        ))}
      </ul>
      {users.length < count && <p className="quiet">Too many to list.</p>}
    </>
  );
}

/** The same as a dialog, for screens without room beside the conversation. */
export function PeopleDialog({ onClosed, onMessage, ...props }: Props & { onClosed: () => void }): ReactNode {
  return (
    <Dialog title="Who is here" className="sheet" onClosed={onClosed}>
      {(close) => (
        <PeopleList
          {...props}
          onMessage={(user) => {
            close();
            onMessage(user);
          }}
        />
      )}
    </Dialog>
  );
}
