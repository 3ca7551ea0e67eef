// The frames of the wire protocol, version 1: see protocol/README.md.

/** A user, as verified by the server. */
export interface User {
  readonly id: string;
  readonly name: string;
}

/**
 * A place in the log of a room or an inbox. Values of `seq` compare only within
 * one `epoch`, which is one life of the log.
 */
export interface Position {
  readonly epoch: string;
  readonly seq: number;
}

/** An event on the wire. Times are Unix milliseconds. */
export interface Envelope<Data = unknown> {
  readonly type: string;
  /**
   * Chosen by the sender. The server stores a durable event once per user and
   * id.
   */
  readonly id?: string;
  readonly room?: string;
  readonly to?: string;
  /** The author. Absent if the application is the author. */
  readonly from?: User;
  /** Position in the log of the room or inbox. Absent on volatile events. */
  readonly seq?: number;
  /**
   * The life of the log that `seq` belongs to. Added by the client. Absent if
   * the client does not know it, as in a room that it has not joined itself.
   */
  readonly epoch?: string;
  /** When the server stored or sent it. */
  readonly ts?: number;
  /** The message that this one answers. */
  readonly re?: Re;
  /** When it was last edited. */
  readonly edited?: number;
  /** When it was deleted. It has no `data` then. */
  readonly deleted?: number;
  readonly reactions?: Reactions;
  /** The position of its newest change. */
  readonly version?: number;
  /** The keys that this user has reacted with. */
  readonly mine?: readonly string[];
  /** True if this is a question: the server waits for an answer. */
  readonly ack?: boolean;
  readonly data: Data;
}

/** A private message, whose two copies have different positions. */
export interface PrivateRef {
  readonly id: string;
  /** The id of the user who wrote it. */
  readonly author: string;
}

/** A message that is answered: the `seq` of a room message, or a PrivateRef. */
export type Re = number | PrivateRef;

/** The reactions to a message, by key. */
export type Reactions = Readonly<Record<string, Reaction>>;

export interface Reaction {
  readonly count: number;
  /** The ids of the first users. The server lists up to 20. */
  readonly users: readonly string[];
}

/**
 * The data of `message-changed`. It has the message as it is now, so it
 * replaces what came before. The `seq` of the event is the version.
 */
export interface Changed<Data = unknown> {
  /** The position of the changed room message. */
  readonly seq?: number;
  /** The id of the changed private message. */
  readonly id?: string;
  /** The id of the user who wrote the changed private message. */
  readonly author?: string;
  readonly change: 'edited' | 'deleted' | 'reacted';
  readonly message: Pick<Envelope, 'edited' | 'deleted' | 'reactions'> & {
    /** Absent if the message was never edited, or is deleted. */
    readonly data?: Data;
  };
}

/** The data of `state-changed`, whose `seq` is the version of the key. */
export interface StateChanged {
  readonly key: string;
  /** Null if the key was removed. */
  readonly value: unknown;
}

/** How far this user has read a room or a private conversation. */
export interface Reading {
  /** The position of the marker. 0: there is none. */
  readonly seq: number;
  /**
   * How many messages of others follow the marker, up to `head`. 100 means 100
   * or more.
   */
  readonly unread: number;
  readonly head: number;
}

/**
 * The data of `read`. A Reading, from another connection of this user; or
 * `users`, how far the others in the room have read.
 */
export interface Read extends Partial<Reading> {
  readonly users?: readonly { readonly id: string; readonly seq: number }[];
}

/** The answer to `overview`. Rooms that are unknown or refused are absent. */
export interface Overview<RoomData = unknown, PrivateData = unknown> {
  readonly rooms: Readonly<Record<string, OverviewRoom<RoomData>>>;
  /** The newest first. Absent unless `inbox` was set. */
  readonly conversations?: readonly OverviewConversation<PrivateData>[];
  /** Up to where their unread messages are counted. */
  readonly inbox?: Position;
}

export interface OverviewRoom<Data = unknown> extends Position {
  /** The position of the marker. 0: there is none. */
  readonly read: number;
  /** 100 means 100 or more. */
  readonly unread: number;
  /** The newest message. */
  readonly last?: Envelope<Data>;
}

export interface OverviewConversation<Data = unknown> {
  readonly user: User;
  readonly read: number;
  readonly unread: number;
  readonly last?: Envelope<Data>;
}

/** The data of `welcome`, the first frame from the server. */
export interface Welcome {
  readonly clientId: string;
  readonly user: User;
  /** The time by the server's clock. */
  readonly time: number;
  readonly inbox: Position;
  readonly pingInterval?: number;
  /** Size of the largest message that the server accepts, in bytes of UTF-8. */
  readonly maxMessage?: number;
  /** When the token expires. Absent if it does not. */
  readonly expires?: number;
  /**
   * What the server has turned off: `online-users`, `room-users` or `message`.
   */
  readonly off?: readonly string[];
}

/**
 * The users that an event is about, and the number of users who are there now.
 * `users` is absent if there are too many.
 */
export interface Presence {
  readonly users?: readonly User[];
  readonly count: number;
}

/**
 * The data of `removed`, which tells this client that the application took it
 * out of a room.
 */
export interface Removed {
  /** A text from the application, possibly empty. */
  readonly reason: string;
}

/**
 * The answer to `join-room`. It has neither `users` nor `count` if the server
 * has presence turned off.
 */
export interface Joined extends Position {
  readonly users?: readonly User[];
  readonly count?: number;
  /**
   * Whether all missed messages follow. If not, only the newest ones do.
   */
  readonly recovered: boolean;
  /** The position of the user's marker. Absent if the server has none. */
  readonly read?: number;
  /** How many messages of others follow the marker, up to `seq`. */
  readonly unread?: number;
  /**
   * The state of the room. Absent if there is none, and null if it is too large
   * for the answer.
   */
  readonly state?: Readonly<Record<string, unknown>> | null;
  /** The positions at which the keys of the state were set. */
  readonly versions?: Readonly<Record<string, number>>;
}

/**
 * Where the server stored a durable event: in the log of the room, or in the
 * sender's own inbox. The receipt for a notification to another user has no
 * position and no time.
 */
export interface Receipt {
  readonly id: string;
  /** The life of the log that `seq` belongs to. Added by the client. */
  readonly epoch?: string;
  readonly seq?: number;
  readonly ts?: number;
  /** True if an event with this id was stored before. */
  readonly dup?: boolean;
}

/** Adds the epoch to an event or a receipt that has a position. */
export function withEpoch<T extends { readonly seq?: number }>(value: T, epoch: string | undefined): T {
  return value.seq !== undefined && epoch !== undefined ? { ...value, epoch } : value;
}

/** A page of a log, oldest message first. */
export interface History<Data = unknown> {
  readonly messages: readonly Envelope<Data>[];
  /** Whether the log has older messages. */
  readonly more: boolean;
  /** Whether the log has newer messages. Only with `after` or `around`. */
  readonly newer: boolean;
  /**
   * Where to go on, as `before` or `after`. Absent if the page is not cut
   * short.
   */
  readonly next?: number | undefined;
}

/** The error codes of the server. The set is closed. */
export type ServerErrorCode =
  | 'bad_request'
  | 'unknown_type'
  | 'unauthenticated'
  | 'token_expired'
  | 'forbidden'
  | 'not_in_room'
  | 'too_large'
  | 'rate_limited'
  | 'limit_exceeded'
  | 'conflict'
  | 'unavailable'
  | 'internal';

/** The error codes that the client adds. */
export type ClientErrorCode =
  /** No answer came in time. The server may have done the work. */
  | 'timeout'
  /** The caller gave up, with a signal or with `discard`. */
  | 'aborted'
  /** Too many messages are waiting. */
  | 'overflow'
  /**
   * The connection was lost before the answer came. The server may have done
   * the work.
   */
  | 'disconnected'
  /** The client was closed by `close()`, or by the server for good. */
  | 'closed';

export type ErrorCode = ServerErrorCode | ClientErrorCode;

/** The types of events from clients that the server keeps in a log. */
export type Durable =
  | 'room-message'
  | 'private-message'
  | 'send-notification'
  | 'edit-message'
  | 'delete-message'
  | 'react'
  | 'set-state';

/**
 * Whether the server keeps events of this type in a log. The client repeats
 * those until the server answers.
 */
export function isDurable(type: string): type is Durable {
  return /^((room|private|edit|delete)-message|send-notification|react|set-state)$/.test(type);
}
