// Checks for everything that comes from a server or a storage. A value that
// does not have the right shape is dropped.
import type {
  Changed,
  Envelope,
  Joined,
  Overview,
  OverviewConversation,
  OverviewRoom,
  Position,
  Presence,
  PrivateRef,
  Reaction,
  Read,
  Reading,
  Receipt,
  StateChanged,
  User,
  Welcome,
} from './protocol.js';

/** The longest wait of setTimeout, in ms. A longer one would end at once. */
export const TIMER_MAX = 2 ** 31 - 1;

type Check = (value: unknown) => boolean;

export const isText = (value: unknown): value is string => typeof value === 'string';
export const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
export const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null;
const isFlag: Check = (value) => value === true || value === false;
const isType: Check = (value) => isText(value) && /^[a-z0-9][a-z0-9:._-]{0,63}$/.test(value);

const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);

const mapOf =
  (check: Check): Check =>
  (value) =>
    isObject(value) && Object.values(value).every(check);

type Optional<T> = { [K in keyof T]-?: object extends Pick<T, K> ? K : never }[keyof T];

/**
 * Makes a check for objects from the checks of the fields that they must have,
 * and of those that they may have.
 */
export function shape<T>(
  must: { readonly [K in Exclude<keyof T, Optional<T>>]: Check },
  may: { readonly [K in Optional<T>]: Check },
): (value: unknown) => value is T;
export function shape<T>(must: { readonly [K in keyof T]: Check }): (value: unknown) => value is T;
export function shape(must: object, may = {}): Check {
  const checks = Object.entries<Check>({ ...must, ...may });
  return (value) =>
    isObject(value) &&
    checks.every(([name, check]) => (name in may && value[name] === undefined) || check(value[name]));
}

const isUser = shape<User>({ id: isText, name: isText });

const position = { epoch: isText, seq: isCount };
export const isPosition = shape<Position>(position);

const users = listOf(isUser);
const isPresence = shape<Presence>({ count: isCount }, { users });
export const isJoined = shape<Joined>(
  { ...position, recovered: isFlag },
  {
    users,
    count: isCount,
    read: isCount,
    unread: isCount,
    state: (value) => value === null || isObject(value),
    versions: mapOf(isCount),
  },
);

const isRef = shape<PrivateRef>({ id: isText, author: isText });
export const isRe: Check = (value) => isCount(value) || isRef(value);

const content = {
  edited: isCount,
  deleted: isCount,
  reactions: mapOf(shape<Reaction>({ count: isCount, users: listOf(isText) })),
};

export const isEnvelope = shape<Omit<Envelope, 'data'>>(
  { type: isType },
  {
    id: isText,
    room: isText,
    to: isText,
    from: isUser,
    seq: isCount,
    epoch: isText,
    ts: isCount,
    ack: isFlag,
    re: isRe,
    ...content,
    mine: listOf(isText),
    version: isCount,
  },
) as (value: unknown) => value is Envelope;

const isChanged = shape<Changed>(
  { change: isText, message: shape<Omit<Changed['message'], 'data'>>({}, content) },
  { seq: isCount, id: isText, author: isText },
);

const isStateChanged = shape<Pick<StateChanged, 'key'>>({ key: isText });

const inInbox = { position: isCount }; // of the marker
export const isReading = shape<Reading & { position?: number }>(
  { seq: isCount, unread: isCount, head: isCount },
  inInbox,
);
const isReaders = shape<Read>({ users: listOf(shape({ id: isText, seq: isCount })) } as never, inInbox as never);
const isRead: Check = (value) => isReading(value) || isReaders(value);

/** Checks the data of events, by type. */
export const CHECKS = {
  __proto__: null, // no type is called like a method
  'online-users': isPresence,
  'user-online': isPresence,
  'user-offline': isPresence,
  'user-joined': isPresence,
  'user-left': isPresence,
  'message-changed': isChanged,
  'state-changed': isStateChanged,
  read: isRead,
} as unknown as Readonly<Record<string, Check | undefined>>;

const counts = { read: isCount, unread: isCount };
const last = { last: isEnvelope };
export const isOverview = shape<Overview>(
  { rooms: mapOf(shape<OverviewRoom>({ ...position, ...counts }, last)) },
  { conversations: listOf(shape<OverviewConversation>({ user: isUser, ...counts }, last)), inbox: isPosition },
);

/** Checks the data of an ack to a durable event. */
export const isReceipt = shape<Omit<Receipt, 'id' | 'epoch'>>({}, { seq: isCount, ts: isCount, dup: isFlag });

export const isWelcome = shape<Welcome>(
  { clientId: isText, user: isUser, time: isCount, inbox: isPosition },
  { pingInterval: isCount, maxMessage: isCount, expires: isCount, off: listOf(isText) },
);
