import type { OverviewConversation, OverviewRoom, User } from 'chathub-client';
import { type Message, useConnection, usePresence, usePrivateMessages, useRoom } from 'chathub-client/react';
import { type KeyboardEvent, type ReactNode, useEffect, useRef, useState } from 'react';
import { type Break, useInboxBreaks, useRoomBreaks } from './breaks.js';
import type { Drafts } from './drafts.js';
import { type Heads, useRoomHead } from './following.js';
import { foldedOf, peopleText, refusalText, typingText } from './format.js';
import type { Notifications } from './notify.js';
import { useOnline } from './online.js';
import { Avatar, IconButton, Name, RoomAvatar, Spoken } from './parts.js';
import { keyOf, type Place, privately, room, shortOf } from './types.js';

interface ListProps {
  me: User;
  drafts: Drafts;
  heads: Heads;
  onUnread: (place: string, count: number) => void;
  onBreak: (place: string, found: Break) => void;
}

interface Props extends ListProps {
  places: readonly Place[];
  active: Place | null;
  /** Whether the reader sees the newest messages of the active place. */
  seeing: boolean;
  rooms: Readonly<Record<string, OverviewRoom>>;
  conversations: readonly OverviewConversation[];
  notifications: Notifications;
  onOpen: (place: Place) => void;
  onJoin: () => void;
  onLogout: () => void;
}

export function Sidebar(props: Props): ReactNode {
  const { me, places, active, seeing, rooms, conversations, notifications, onOpen, onJoin, onLogout, ...rest } = props;
  const { users, count } = usePresence();
  const connected = useConnection().status === 'connected';
  const [sought, setSought] = useState('');
  const isSought = (name: string) => foldedOf(name).includes(foldedOf(sought.trim()));
  const open = (place: Place) => {
    setSought('');
    onOpen(place);
  };
  const item = (place: Place) => {
    const current = active !== null && keyOf(place) === keyOf(active);
    // Items stay, since they keep their rooms joined.
    const hidden = !isSought(place.name);
    return { me, current, hidden, seeing: current && seeing, onOpen: () => open(place), ...rest };
  };
  const roomPlaces = places.filter((p) => p.kind === 'room');
  const people = places.filter((p) => p.kind === 'user');
  // Each person is listed once, with messages or as somebody to write to.
  const listed = new Set([me.id, ...people.map((p) => p.id)]);
  const others = users
    .filter((u) => !listed.has(u.id) && isSought(u.name))
    .sort((a, b) => a.name.localeCompare(b.name));
  const otherCount = Math.max(0, count - 1);
  const found = [...places.filter((p) => isSought(p.name)), ...others.map(privately)];

  return (
    <nav className="sidebar" aria-label="Conversations">
      <div className="brand">
        <img src="./icon.svg" alt="" width="28" height="28" />
        <strong aria-hidden="true">chathub</strong>
        <NotifyButton of={notifications} />
      </div>
      <Search
        value={sought}
        onChange={setSought}
        onPick={() => found[0] && open(found[0])}
        result={sought.trim() && (found.length === 0 ? 'Nothing found' : `${found.length} found`)}
      />
      <div className="sidebar-scroll">
        <section aria-labelledby="rooms">
          <div className="section-head">
            <h2 id="rooms">Rooms</h2>
            <IconButton icon="plus" label="Join a room" onClick={onJoin} />
          </div>
          <ul>
            {roomPlaces.map((place) => (
              <li key={keyOf(place)}>
                <RoomItem name={place.name} overview={rooms[place.name]} {...item(place)} />
              </li>
            ))}
          </ul>
          {roomPlaces.length === 0 && <p className="quiet">You are not in any room.</p>}
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
                <PrivateItem
                  user={place}
                  overview={conversations.find((c) => c.user.id === place.id)}
                  {...item(place)}
                />
              </li>
            ))}
            {others.map((user) => (
              <li key={user.id}>
                <PersonItem user={user} onMessage={() => open(privately(user))} />
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

/** Asks for consent when it is clicked, and never unasked. */
function NotifyButton({ of: { on, toggle } }: { of: Notifications }): ReactNode {
  if (on === undefined) return null;
  return on ? (
    <IconButton icon="bell" label="Turn notifications off" onClick={toggle} />
  ) : (
    <IconButton icon="muted" label="Turn notifications on" onClick={toggle} />
  );
}

interface SearchProps {
  value: string;
  onChange: (text: string) => void;
  /** The user wants the first one found. */
  onPick: () => void;
  result: string;
}

function Search({ value, onChange, onPick, result }: SearchProps): ReactNode {
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const keydown = (event: globalThis.KeyboardEvent) => {
      if (event.key !== 'k' || !(event.ctrlKey || event.metaKey) || document.querySelector('dialog[open]')) return;
      event.preventDefault();
      input.current?.focus();
    };
    document.addEventListener('keydown', keydown);
    return () => document.removeEventListener('keydown', keydown);
  }, []);
  function keydown(event: KeyboardEvent) {
    if (event.key === 'Escape') onChange('');
    else if (event.key === 'Enter' && value.trim()) onPick();
    else return;
    event.preventDefault();
  }
  return (
    <div className="search">
      <input
        ref={input}
        type="search"
        value={value}
        aria-label="Search rooms and people"
        placeholder="Search"
        autoComplete="off"
        autoCapitalize="none"
        spellCheck={false}
        enterKeyHint="go"
        dir="auto"
        onChange={(event) => onChange(event.target.value)}
        onKeyDown={keydown}
      />
      <p className="quiet" role="status">
        {result}
      </p>
    </div>
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

interface ItemProps extends ListProps {
  current: boolean;
  seeing: boolean;
  hidden: boolean;
  onOpen: () => void;
}

/** A room in the list. It stays joined while it is there. */
function RoomItem({
  name,
  overview,
  ...props
}: ItemProps & { name: string; overview: OverviewRoom | undefined }): ReactNode {
  const { messages, typing, status, removed, count, unread } = useRoom(name);
  const place = keyOf(room(name));
  useRoomBreaks(name, messages, (found) => props.onBreak(place, found));
  useRoomHead(name, props.heads);
  const last = lastOf(messages, overview);
  const preview = () => {
    if (status === 'refused') return refusalText(removed);
    // A mark of the direction comes first, so that a name does not decide it.
    if (typing.length > 0) return `\u200e${typingText(typing)}…`;
    const who = last?.from?.id === props.me.id ? 'You' : (last?.from?.name ?? 'Server');
    if (last) return `\u200e\u2068${who}\u2069: \u2068${shortOf(last)}\u2069`;
    return count > 0 ? peopleText(count) : 'Joining…';
  };
  return (
    <Item {...props} place={place} title={name} preview={preview()} unread={unread}>
      <RoomAvatar />
    </Item>
  );
}

function PrivateItem({
  user,
  overview,
  ...props
}: ItemProps & { user: User; overview: OverviewConversation | undefined }): ReactNode {
  const { messages, unread } = usePrivateMessages(user.id);
  const place = keyOf(privately(user));
  useInboxBreaks(messages, (found) => props.onBreak(place, found));
  const online = useOnline()(user.id);
  const last = lastOf(messages, overview);
  const preview = last
    ? last.from?.id === props.me.id
      ? `\u200eYou: \u2068${shortOf(last)}\u2069`
      : shortOf(last)
    : 'No messages yet';
  return (
    <Item {...props} place={place} title={user.name} preview={preview} unread={unread} online={online}>
      <Avatar id={user.id} name={user.name} online={online} />
    </Item>
  );
}

// The server does not know yet what is being sent. What is loaded may be an
// older part of the log.
function lastOf(
  messages: readonly Message[],
  overview: { readonly last?: Pick<Message, 'from' | 'data'> } | undefined,
) {
  const end: Pick<Message, 'from' | 'data' | 'status' | 'deleted'> | undefined = messages.at(-1);
  return end && end.status !== 'sent' ? end : (overview?.last ?? end);
}

interface RowProps extends ItemProps {
  place: string;
  title: string;
  preview: string;
  unread: number | undefined;
  online?: boolean | undefined;
  children: ReactNode;
}

function Item({ current, seeing, hidden, place, title, preview, online, children, ...props }: RowProps): ReactNode {
  const { drafts, onUnread } = props;
  // What the reader sees is read, although the server may not know it yet.
  const unread = seeing ? 0 : (props.unread ?? 0);
  const draft = current ? '' : drafts.of(place);
  useEffect(() => onUnread(place, unread), [onUnread, place, unread]);
  useEffect(() => () => onUnread(place, 0), [onUnread, place]);
  return (
    <button
      type="button"
      className={unread ? 'item unread' : 'item'}
      data-place={place}
      aria-current={current}
      hidden={hidden}
      onClick={props.onOpen}
    >
      {children}
      <span className="item-text">
        <Name of={title} className="item-title" />
        {online !== undefined && <Spoken>{online ? ' (online)' : ' (offline)'}</Spoken>}
        <Name of={draft ? `Draft: ${shortOf({ data: draft })}` : preview} className="item-sub" />
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
