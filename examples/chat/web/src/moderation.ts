import type { ChatClient, User } from 'chathub-client';
import { useChat, useEvent } from 'chathub-client/react';
import { useCallback, useEffect, useRef, useState } from 'react';

// The events are those of package moderation. Times are Unix times in ms, and
// an end that is 0 is none.

/** The room with the reports, which moderators may join. */
const REPORTS = 'moderation/reports';

/** What holds for everybody in a room. */
export interface Rules {
  /** Slow mode: one message of each user in this time, in ms. 0: off. */
  readonly everyMs: number;
  readonly slowUntil: number;
  readonly frozen: boolean;
  readonly frozenUntil: number;
}

export interface Muted {
  /** Undefined: everywhere. */
  readonly room: string | undefined;
  readonly until: number;
  readonly reason: string;
}

export type Kind = 'mute' | 'ban' | 'slow' | 'freeze';

/** A decision that holds. */
export interface Decision {
  readonly kind: Kind;
  /** Undefined: the whole service. */
  readonly room: string | undefined;
  /** The id of the user whom it is about. Possibly empty. */
  readonly user: string;
  /** The id of the moderator. Possibly empty. */
  readonly by: string;
  readonly everyMs: number;
  readonly until: number;
  readonly reason: string;
}

/** What concerns the user of this page. */
export interface Standing {
  readonly muted: Muted | undefined;
  /** Slow mode and freeze are not for this user. */
  readonly exempt: boolean;
  readonly moderator: boolean;
  /** For moderators, the newest first. */
  readonly decisions: readonly Decision[];
  /** There are further ones. */
  readonly more: boolean;
}

/** A message that somebody should look at. */
export interface Report {
  readonly key: string;
  readonly ts: number;
  /** Undefined: the server. */
  readonly by: User | undefined;
  /** The place of a message in a room. */
  readonly room: string | undefined;
  readonly seq: number;
  /** The id of the author. Possibly empty. */
  readonly author: string;
  readonly reason: string;
  /** What a private message says, according to the user who reports it. */
  readonly quote: string;
}

const NOTHING: Standing = { muted: undefined, exempt: false, moderator: false, decisions: [], more: false };

const objectOf = (value: unknown) =>
  (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
const textIn = (value: unknown) => (typeof value === 'string' ? value : '');
const numberIn = (value: unknown) => (typeof value === 'number' && value > 0 ? value : 0);
const roomIn = (value: unknown) => textIn(value) || undefined;

/** Returns what the state of a room says about it. */
export function rulesOf(state: Readonly<Record<string, unknown>>): Rules {
  const { everyMs, slowUntil, frozen, frozenUntil } = objectOf(state.moderation);
  return {
    everyMs: numberIn(everyMs),
    slowUntil: numberIn(slowUntil),
    frozen: frozen === true,
    frozenUntil: numberIn(frozenUntil),
  };
}

function standingOf(answer: unknown): Standing {
  const { muted, exempt, moderator, decisions, more } = objectOf(answer);
  const { room, until, reason } = objectOf(muted);
  return {
    muted: muted ? { room: roomIn(room), until: numberIn(until), reason: textIn(reason) } : undefined,
    exempt: exempt === true,
    moderator: moderator === true,
    decisions: Array.isArray(decisions) ? decisions.map(decisionOf) : [],
    more: more === true,
  };
}

function decisionOf(value: unknown): Decision {
  const { kind, room, user, by, everyMs, until, reason } = objectOf(value);
  return {
    kind: textIn(kind) as Kind,
    room: roomIn(room),
    user: textIn(user),
    by: textIn(by),
    everyMs: numberIn(everyMs),
    until: numberIn(until),
    reason: textIn(reason),
  };
}

/** What a user may do, and a function that asks the server again. */
export interface Asked extends Standing {
  readonly ask: () => void;
}

/**
 * Asks what concerns the user in a room or, without a room, in the whole
 * service: when it is `ready`, and after a mute or its end. Moderators ask
 * again when `version` changes.
 */
export function useStanding(room: string | undefined, ready: boolean, version = 0): Asked {
  const client = useChat();
  const [standing, setStanding] = useState(NOTHING);
  const last = useRef(0);
  const ask = useCallback(() => {
    const n = ++last.current;
    client.send('moderation', {}, { room }).then(
      (answer) => n === last.current && setStanding(standingOf(answer)),
      () => {}, // it is asked again after the next join
    );
  }, [client, room]);
  const known = standing.moderator ? version : 0; // others have no decisions
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new version is asked about
  useEffect(() => {
    if (ready) ask();
  }, [ready, ask, known]);
  useEvent('muted', (data) => {
    const of = roomIn(objectOf(data).room);
    if (of === undefined || of === room) ask();
  });
  return { ...standing, ask };
}

/** What a moderator wants. Without a room, it is for the whole service. */
export interface Order {
  readonly action: Kind | `un${Kind}`;
  readonly room?: string | undefined;
  readonly user?: string | undefined;
  readonly forMs?: number;
  readonly everyMs?: number;
  readonly reason?: string;
}

export async function moderate(client: ChatClient, { room, ...data }: Order): Promise<void> {
  await client.send('moderate', data, { room });
}

/** Returns what undoes a decision. */
export const liftOf = ({ kind, room, user }: Decision): Order => ({
  action: `un${kind}`,
  room,
  ...(user ? { user } : {}),
});

/**
 * Returns when the user has last written in each room. Slow mode counts from
 * there.
 */
export function useWritten(me: User): (room: string) => number {
  const client = useChat();
  const [all, setAll] = useState<ReadonlyMap<string, number>>(new Map());
  const note = useCallback((room: string | undefined, at: number) => {
    if (room === undefined) return;
    setAll((all) => ((all.get(room) ?? 0) >= at ? all : new Map(all).set(room, at)));
  }, []);
  // The server has counted from the time of the message, which is earlier.
  useEffect(
    () =>
      client.onSend(({ status, message }) => {
        if (status === 'sent' && message.type === 'room-message') note(message.room, Date.now());
      }),
    [client, note],
  );
  useEvent('room-message', (_, { room, from, ts }) => {
    if (from?.id === me.id) note(room, Math.min(ts ?? 0, Date.now()));
  });
  return useCallback((room) => all.get(room) ?? 0, [all]);
}

/** Returns what users have reported, the newest first, for a moderator. */
export function useReports(moderator: boolean): readonly Report[] {
  const client = useChat();
  const [reports, setReports] = useState<readonly Report[]>([]);
  useEffect(() => {
    if (!moderator) return;
    const room = client.room(REPORTS);
    const end = room.on('report', (data, { seq: at, ts = 0, from }) => {
      const { room, seq, author, reason, quote } = objectOf(data);
      const report: Report = {
        key: `${ts}/${at}`,
        ts,
        by: from,
        room: roomIn(room),
        seq: numberIn(seq),
        author: textIn(author),
        reason: textIn(reason),
        quote: textIn(quote),
      };
      setReports((all) => (all.some(({ key }) => key === report.key) ? all : [report, ...all].slice(0, 100)));
    });
    room.join({ history: 100 }).catch(() => {});
    return () => {
      end();
      room.leave();
    };
  }, [client, moderator]);
  return reports;
}

/** Reports whether a time is still to come. */
export function usePending(until: number): boolean {
  const [, again] = useState(0);
  const pending = until > Date.now();
  useEffect(() => {
    if (!pending) return;
    let timer: ReturnType<typeof setTimeout>;
    const wait = () => {
      const left = until - Date.now();
      if (left <= 0) again((n) => n + 1);
      else timer = setTimeout(wait, Math.min(left, 3_600_000)); // no timer can be set for a month
    };
    wait();
    return () => clearTimeout(timer);
  }, [until, pending]);
  return pending;
}
