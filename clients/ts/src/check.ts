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
  Reading,
  Receipt,
  Removed,
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
export const isAny = (_: unknown): boolean => true;
const isFlag: Check = (value) => typeof value === 'boolean';
const isType: Check = (value) => isText(value) && /^[a-z0-9][a-z0-9:._-]{0,63}$/.test(value);

export const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || check(value);

const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every((v) => check(v));

const mapOf =
  (check: Check): Check =>
  (value) =>
    isObject(value) && Object.values(value).every(check);

/** Makes a check for objects from the checks of their fields. */
export function shape<T>(fields: { readonly [K in keyof Required<T>]: Check }): (value: unknown) => value is T {
  const checks = Object.entries<Check>(fields);
  return (value): value is T => isObject(value) && checks.every(([name, check]) => check(value[name]));
}

const isUser = shape<User>({ id: isText, name: isText });

const position = { epoch: isText, seq: isCount };
export const isPosition = shape<Position>(position);

const users = optional(listOf(isUser));
export const isPresence = shape<Presence>({ users, count: isCount });
export const isRemoved = shape<Removed>({ reason: isText });
export const isJoined = shape<Joined>({
  ...position,
  users,
  count: optional(isCount),
  recovered: isFlag,
  read: optional(isCount),
  unread: optional(isCount),
});

const isRef = shape<PrivateRef>({ id: isText, author: isText });
export const isRe = optional((value) => isCount(value) || isRef(value));

const content = {
  edited: optional(isCount),
  deleted: optional(isCount),
  reactions: optional(mapOf(shape<Reaction>({ count: isCount, users: listOf(isText) }))),
};

export const isEnvelope = shape<Envelope>({
  type: isType,
  id: optional(isText),
  room: optional(isText),
  to: optional(isText),
  from: optional(isUser),
  seq: optional(isCount),
  epoch: optional(isText),
  ts: optional(isCount),
  ack: optional(isFlag),
  data: isAny,
  re: isRe,
  ...content,
  mine: optional(listOf(isText)),
});

const isMessage = shape<Changed['message']>({ data: isAny, ...content });
export const isChanged = shape<Changed>({
  seq: optional(isCount),
  id: optional(isText),
  author: optional(isText),
  change: isText,
  message: isMessage,
});

export const isReading = shape<Reading>({ seq: isCount, unread: isCount, head: isCount });
const isReaders = shape({ users: listOf(shape({ id: isText, seq: isCount })) });
export const isRead: Check = (value) => isReading(value) || isReaders(value);

const reading = { read: isCount, unread: isCount, last: optional(isEnvelope) };
export const isOverview = shape<Overview>({
  rooms: mapOf(shape<OverviewRoom>({ ...position, ...reading })),
  conversations: optional(listOf(shape<OverviewConversation>({ user: isUser, ...reading }))),
});

/** Checks the data of an ack to a durable event. */
export const isReceipt = shape<Omit<Receipt, 'id' | 'epoch'>>({
  seq: optional(isCount),
  ts: optional(isCount),
  dup: optional(isFlag),
});

export const isWelcome = shape<Welcome>({
  clientId: isText,
  user: isUser,
  time: isCount,
  inbox: isPosition,
  pingInterval: optional(isCount),
  maxMessage: optional(isCount),
  expires: optional(isCount),
});
