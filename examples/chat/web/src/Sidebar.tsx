import type { User } from 'chathub-client';
import { type Message, useConnection, usePresence, usePrivateMessages, useRoom } from 'chathub-client/react';
import { type ReactNode, useEffect } from 'react';
import { type Break, useInboxBreaks, useRoomBreaks } from './breaks.js';
import { peopleText, refusalText, typingText } from './format.js';
import { useOnline } from './online.js';
import { Avatar, IconButton, Name, RoomAvatar, Spoken } from './parts.js';
import { type ReadMarks, useReadMark } from './read.js';
import { keyOf, type Place, privately, room, textOf } from './types.js';

interface Props {
  me: User;
  marks: ReadMarks;
  places: readonly Place[];
  active: Place | null;
  unread: ReadonlyMap<string, number>;
  onUnread: (place: string, count: number) => void;
  onBreak: (place: string, found: Break) => void;
  onOpen: (place: Place) => void;
  onJoin: () => void;
  onLogout: () => void;
}

export function Sidebar({ me, places, active, onOpen, onJoin, onLogout, ...rest }: Props): ReactNode {
  const { users, count } = usePresence();
  const connected = useConnection().status === 'connected';
  const item = (place: Place) => {
    const key = keyOf(place);
    const current = active !== null && key === keyOf(active);
    return { me, current, onOpen: () => onOpen(place), ...rest };
  };
  const rooms = places.filter((p) => p.kind === 'room');
  const people = places.filter((p) => p.kind === 'user');
  // Each person is listed once, with messages or as somebody to write to.
  const listed = new Set([me.id, ...people.map((p) => p.id)]);
  const others = users.filter((u) => !listed.has(u.id)).sort((a, b) => a.name.localeCompare(b.name));
  const otherCount = Math.max(0, count - 1);

  return (
    <nav className="sidebar" aria-label="Conversations">
      <div className="brand" aria-hidden="true">
        <img src="./icon.svg" alt="" width="28" height="28" />
        <strong>chathub</strong>
      </div>
      <div className="sidebar-scroll">
        <section aria-labelledby="rooms">
          <div className="section-head">
            <h2 id="rooms">Rooms</h2>
            <IconButton icon="plus" label="Join a room" onClick={onJoin} />
          </div>
          <ul>
            {rooms.map((place) => (
              <li key={keyOf(place)}>
                <RoomItem name={place.name} {...item(place)} />
              </li>
            ))}
          </ul>
          {rooms.length === 0 && <p className="quiet">You are not in any room.</p>}
        </section>
        <section aria-labelledby="others">
          <div className="section-head">
            <h2 id="others">
              People {connected && otherCount > 0 && <span className="count">{otherCount} online</span>}
            </h2>
          </div>
          <ul>
            {people.map((place) => (
              <li key={keyOf(place)}>
                <PrivateItem user={place} {...item(place)} />
              </li>
            ))}
            {others.map((user) => (
              <li key={user.id}>
                <PersonItem user={user} onMessage={() => onOpen(privately(user))} />
              </li>
            ))}
          </ul>
          {otherCount === 0 && <p className="quiet">Nobody else is online.</p>}
          {users.length < count && <p className="quiet">Too many to list.</p>}
        </section>
      </div>
      <Me me={me} onLogout={onLogout} />
    </nav>
  );
}

function Me({ me, onLogout }: { me: User; onLogout: () => void }): ReactNode {
  const { status } = useConnection();
  return (
    <footer className="me">
      <Avatar id={me.id} name={me.name} online={status === 'connected'} />
      <div className="me-text">
        <Name of={me.name} className="me-name" />
        <span className="me-state">
          {status === 'connected' ? 'Online' : status === 'connecting' ? 'Connecting…' : 'Not connected'}
        </span>
      </div>
      <IconButton icon="exit" label="Log out" onClick={onLogout} />
    </footer>
  );
}

interface ItemProps {
  me: User;
  marks: ReadMarks;
  current: boolean;
  unread: ReadonlyMap<string, number>;
  onUnread: (place: string, count: number) => void;
  onBreak: (place: string, found: Break) => void;
  onOpen: () => void;
}

/** A room in the list. It stays joined while it is there. */
function RoomItem({ name, ...props }: ItemProps & { name: string }): ReactNode {
  const { messages, typing, status, removed, count } = useRoom(name);
  const place = keyOf(room(name));
  useRoomBreaks(name, messages, (found) => props.onBreak(place, found));
  const last = messages.at(-1);
  const preview = () => {
    if (status === 'refused') return refusalText(removed);
    if (typing.length > 0) return `${typingText(typing)}…`;
    if (last) return `${last.from?.id === props.me.id ? 'You' : (last.from?.name ?? 'Server')}: ${short(last)}`;
    return count > 0 ? peopleText(count) : 'Joining…';
  };
  return (
    <Item {...props} place={place} title={name} preview={preview()} messages={messages}>
      <RoomAvatar />
    </Item>
  );
}

function PrivateItem({ user, ...props }: ItemProps & { user: User }): ReactNode {
  const { messages } = usePrivateMessages(user.id);
  const place = keyOf(privately(user));
  useInboxBreaks(messages, (found) => props.onBreak(place, found));
  const online = useOnline()(user.id);
  const last = messages.at(-1);
  const preview = last ? (last.from?.id === props.me.id ? `You: ${short(last)}` : short(last)) : 'No messages yet';
  return (
    <Item {...props} place={place} title={user.name} preview={preview} messages={messages} online={online}>
      <Avatar id={user.id} name={user.name} online={online} />
    </Item>
  );
}

interface RowProps extends ItemProps {
  place: string;
  title: string;
  preview: string;
  messages: readonly Message[];
  online?: boolean | undefined;
  children: ReactNode;
}

function Item({ me, marks, current, place, title, preview, messages, online, children, ...on }: RowProps): ReactNode {
  const readTo = useReadMark(marks, place);
  const unread = messages.filter((m) => m.from?.id !== me.id && (m.ts ?? 0) > readTo).length;
  const { onUnread } = on;
  useEffect(() => onUnread(place, unread), [onUnread, place, unread]);
  useEffect(() => () => onUnread(place, 0), [onUnread, place]);
  return (
    <button
      type="button"
      className={unread ? 'item unread' : 'item'}
      data-place={place}
      aria-current={current}
      onClick={on.onOpen}
    >
      {children}
      <span className="item-text">
        <Name of={title} className="item-title" />
        {online !== undefined && <Spoken>{online ? ' (online)' : ' (offline)'}</Spoken>}
        <Name of={preview} className="item-sub" />
      </span>
      {unread > 0 && (
        <span className="badge">
          {unread > 99 ? '99+' : unread}
          <Spoken> unread</Spoken>
        </span>
      )}
    </button>
  );
}

const short = (m: Message) => textOf(m.data).replace(/\s+/g, ' ').slice(0, 80);

/** A person to write to or, without `onMessage`, the user of this page. */
export function PersonItem({ user, onMessage }: { user: User; onMessage?: () => void }): ReactNode {
  const online = useOnline()(user.id);
  const content = (
    <>
      <Avatar id={user.id} name={user.name} online={online} />
      <Name of={user.name} className="item-title" />
    </>
  );
  if (!onMessage) {
    return (
      <div className="item compact">
        {content}
        <span className="quiet">you</span>
      </div>
    );
  }
  return (
    <button type="button" className="item compact" title={`Message ${user.name}`} onClick={onMessage}>
      {content}
    </button>
  );
}
