import type { OverviewConversation, User } from 'chathub-client';
import { useChat, useConnection, useEvent, useOverview, usePrivateMessages } from 'chathub-client/react';
import { type ReactNode, useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { flushSync } from 'react-dom';
import { Banner } from './Banner.js';
import { useBreaks } from './breaks.js';
import { PrivateConversation, RoomConversation } from './Conversation.js';
import { JoinDialog, LogoutDialog } from './dialogs.js';
import { Drafts } from './drafts.js';
import type { Refused } from './Editor.js';
import { useHeads } from './following.js';
import { useLink } from './link.js';
import { useReports, useStanding, useWritten } from './moderation.js';
import { KnownUsers, useNames } from './names.js';
import { useNotifications } from './notify.js';
import { useReceipts } from './receipts.js';
import { Sidebar } from './Sidebar.js';
import { isOver, type Session, saveSession } from './session.js';
import { load, ofBrowser, save } from './storage.js';
import { type Toast, Toasts } from './Toasts.js';
import { keyOf, type Place, privately, room, textOf } from './types.js';

interface Props {
  session: Session;
  /** The user has logged out, or the server refuses them. */
  onEnd: (message: string) => void;
}

/** The page after the log-in. */
export function Chat({ session, onEnd }: Props): ReactNode {
  const client = useChat();
  const connection = useConnection();
  const me = session.user;
  const [rooms, setRooms] = useState(session.rooms);
  const [opened, setActive] = useState<Place | null>(session.active);
  const [joining, setJoining] = useState(false);
  const [leaving, setLeaving] = useState(false);
  const [seeing, setSeeing] = useState(false);
  const [drafts] = useState(() => new Drafts());
  const overview = useOverview(rooms, { inbox: true });
  const names = useNames();
  const places = usePlaces(rooms, overview.conversations, names, opened);
  // The list may know a newer name.
  const active = opened && (places.find((p) => keyOf(p) === keyOf(opened)) ?? opened);
  const { unread, report } = useUnread();
  const heads = useHeads();
  const receipts = useReceipts();
  const breaks = useBreaks();
  const standing = useStanding(undefined, connection.status === 'connected');
  const reports = useReports(standing.moderator);
  const written = useWritten(me);
  const { refused, onRefused } = useRefused();
  const { toasts, say } = useToasts();
  const notifications = useNotifications(me.id, unread, (place, seq) => seq > heads.of(place), open);
  const { link, forget } = useLink((link) => open(room(link.room)));

  useEffect(() => saveSession({ rooms, active }), [rooms, active]);
  useEffect(() => {
    if (isOver(connection)) onEnd('Your session has ended. Please log in again.');
  }, [connection, onEnd]);
  useTitle(active, unread);

  useEvent('message', (data, e) => say(e.from?.name ?? 'Server', textOf(data)));
  useEvent('notification', (data, e) => {
    // The inbox keeps notifications, and sends them to every new page.
    if (isShown(me.id, e.ts ?? 0)) return;
    say(e.from?.name ?? 'Server', textOf(data));
  });

  function open(place: Place) {
    setActive(place);
    if (place.kind === 'room') setRooms((rooms) => (rooms.includes(place.name) ? rooms : [...rooms, place.name]));
  }

  function logOut() {
    if (client.outbox.length > 0) setLeaving(true);
    else onEnd('');
  }

  function leave(name: string) {
    const rest = rooms.filter((r) => r !== name);
    setRooms(rest);
    setActive(rest[0] === undefined ? null : room(rest[0]));
  }

  // The first starts a client that has given up, the second one that waits.
  function retry() {
    client.connect();
    client.wake();
  }

  const step = useCallback(
    (by: number) => {
      const at = active ? places.findIndex((p) => keyOf(p) === keyOf(active)) : -1;
      const next = places[(at + by + places.length) % places.length];
      if (next) setActive(next);
    },
    [active, places],
  );
  useEffect(() => {
    const keydown = (event: KeyboardEvent) => {
      if (!event.altKey || event.ctrlKey || event.metaKey || document.querySelector('dialog[open]')) return;
      if (event.key !== 'ArrowUp' && event.key !== 'ArrowDown') return;
      event.preventDefault();
      step(event.key === 'ArrowUp' ? -1 : 1);
    };
    document.addEventListener('keydown', keydown);
    return () => document.removeEventListener('keydown', keydown);
  }, [step]);

  function back() {
    const from = active && keyOf(active);
    flushSync(() => setActive(null));
    document.querySelector<HTMLElement>(`[data-place="${CSS.escape(from ?? '')}"]`)?.focus();
  }

  const shared = {
    me,
    drafts,
    heads,
    breaks: active ? breaks.of(keyOf(active)) : [],
    refused,
    onRefused,
    link: active?.kind === 'room' && active.name === link?.room ? link : null,
    onLinked: forget,
    say,
    onBack: back,
    onMessage: (user: User) => open(privately(user)),
    standing,
    reports,
    written,
    onSeeing: setSeeing,
  };
  const known = useMemo(() => ({ me, names }), [me, names]);

  return (
    <main className="app" data-state={connection.status} data-open={active !== null}>
      <h1 className="sr">chathub</h1>
      <Banner state={connection} onRetry={retry} />
      <Sidebar
        me={me}
        drafts={drafts}
        heads={heads}
        places={places}
        active={active}
        seeing={seeing}
        rooms={overview.rooms}
        conversations={overview.conversations}
        notifications={notifications}
        onUnread={report}
        onBreak={breaks.add}
        onOpen={open}
        onJoin={() => setJoining(true)}
        onLogout={logOut}
      />
      <div className="pane">
        <KnownUsers value={known}>
          {active?.kind === 'room' && (
            <RoomConversation
              key={keyOf(active)}
              {...shared}
              name={active.name}
              receipts={receipts(active.name)}
              onLeave={() => leave(active.name)}
            />
          )}
          {active?.kind === 'user' && <PrivateConversation key={keyOf(active)} {...shared} user={active} />}
        </KnownUsers>
        {!active && (
          <div className="empty nothing">
            <img src="./icon.svg" alt="" width="56" height="56" />
            <h2>No conversation open</h2>
            <p>Join a room by its name, or pick somebody who is online.</p>
            <button type="button" className="primary" onClick={() => setJoining(true)}>
              Join a room
            </button>
          </div>
        )}
      </div>
      {joining && <JoinDialog onClosed={() => setJoining(false)} onJoin={(name) => open(room(name))} />}
      {leaving && <LogoutDialog onClosed={() => setLeaving(false)} onLogout={() => onEnd('')} />}
      <Toasts toasts={toasts} />
    </main>
  );
}

/** Returns the rooms by name, then the private conversations, latest first. */
function usePlaces(
  rooms: readonly string[],
  overview: readonly OverviewConversation[],
  names: ReadonlyMap<string, string>,
  opened: Place | null,
): readonly Place[] {
  const conversations = usePrivateMessages();
  return useMemo(() => {
    const users = conversations.map(({ userId, user, messages }): Place => {
      const known = opened?.kind === 'user' && opened.id === userId ? opened.name : undefined;
      // If another tab wrote first, its message has the name.
      const sent = messages.map((m) => m.data?.toName).find((name) => typeof name === 'string');
      return { kind: 'user', id: userId, name: user?.name ?? names.get(userId) ?? sent ?? known ?? 'Someone' };
    });
    // Older ones are not loaded.
    for (const { user } of overview) {
      if (!users.some((p) => p.kind === 'user' && p.id === user.id)) users.push(privately(user));
    }
    if (opened?.kind === 'user' && !users.some((p) => keyOf(p) === keyOf(opened))) users.unshift(opened);
    return [...[...rooms].sort((a, b) => a.localeCompare(b)).map(room), ...users];
  }, [rooms, conversations, overview, names, opened]);
}

/** Reports whether a notification was shown before, and notes that it is. */
function isShown(userId: string, ts: number): boolean {
  const key = `chathub:notified:${userId}`;
  if (ts <= Number(load(ofBrowser, key))) return true;
  save(ofBrowser, key, ts);
  return false;
}

/** Collects how many messages are unread in each place. */
function useUnread() {
  const [unread, setUnread] = useState<ReadonlyMap<string, number>>(new Map());
  const report = useCallback((place: string, count: number) => {
    setUnread((before) => ((before.get(place) ?? 0) === count ? before : new Map(before).set(place, count)));
  }, []);
  return { unread, report };
}

/** Shows what is unread in the tab. */
function useTitle(active: Place | null, unread: ReadonlyMap<string, number>): void {
  const count = [...unread.values()].reduce((a, b) => a + b, 0);
  const title = active ? `${active.name} · chathub` : 'chathub';
  useEffect(() => {
    document.title = count ? `(${count > 99 ? '99+' : count}) ${title}` : title;
    const icon = document.querySelector<HTMLLinkElement>('link[rel=icon]');
    if (icon) icon.href = count ? './icon-unread.svg' : './icon.svg';
  }, [count, title]);
}

/** Keeps the texts of edits that were refused, until they are saved or left. */
function useRefused() {
  const [refused, setRefused] = useState<ReadonlyMap<string, Refused>>(new Map());
  const onRefused = useCallback((key: string, left?: Refused) => {
    setRefused((all) => {
      const rest = [...all].filter(([other]) => other !== key);
      return new Map(left ? [...rest, [key, left]] : rest);
    });
  }, []);
  return { refused, onRefused };
}

const TOAST = 7_000;

function useToasts() {
  const [toasts, setToasts] = useState<readonly Toast[]>([]);
  const next = useRef(0);
  const say = useCallback((title: string, text: string) => {
    const toast = { key: next.current++, title, text };
    setToasts((old) => [...old.slice(-3), toast]);
    setTimeout(() => setToasts((old) => old.filter((t) => t !== toast)), TOAST);
  }, []);
  return { toasts, say };
}
