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
  /** True if this is a question: the server waits for an answer. */
  readonly ack?: boolean;
  readonly data: Data;
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
  return value.seq === undefined || epoch === undefined ? value : { ...value, epoch };
}

/** A page of a room's log, oldest message first. */
export interface History<Data = unknown> {
  readonly messages: readonly Envelope<Data>[];
  /** Whether the log has older messages. */
  readonly more: boolean;
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
export type Durable = 'room-message' | 'private-message' | 'send-notification';

/**
 * Whether the server keeps events of this type in a log. The client repeats
 * those until the server answers.
 */
export function isDurable(type: string): type is Durable {
  return type === 'room-message' || type === 'private-message' || type === 'send-notification';
}
