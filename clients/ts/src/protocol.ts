// What goes over the wire: protocol/README.md of the project, version 1.

/** A user, as the server has verified it. */
export interface User {
  readonly id: string;
  readonly name: string;
}

/** A place in the log of a room or an inbox. `seq` counts within one `epoch`. */
export interface Position {
  readonly epoch: string;
  readonly seq: number;
}

/** One event on the wire. Times are Unix milliseconds. */
export interface Envelope<Data = unknown> {
  readonly type: string;
  /** Chosen by who sent it; a durable event is stored once per user and id. */
  readonly id?: string;
  readonly room?: string;
  readonly to?: string;
  /** Who caused it; absent where the application did. */
  readonly from?: User;
  /** Position in the log of the room or inbox; absent on volatile events. */
  readonly seq?: number;
  /** The server's time. */
  readonly ts?: number;
  /** The server asks, and waits for an answer. */
  readonly ack?: boolean;
  readonly data: Data;
}

/** What the server says first. */
export interface Welcome {
  readonly clientId: string;
  readonly user: User;
  /** The server's clock. */
  readonly time: number;
  readonly inbox: Position;
  readonly pingInterval?: number;
  /** Largest message that the server takes, in bytes of UTF-8. */
  readonly maxMessage?: number;
  /** When the token expires; absent where it does not. */
  readonly expires?: number;
}

/** Users concerned and how many are there now; `users` is absent where there are too many. */
export interface Presence {
  readonly users?: readonly User[];
  readonly count: number;
}

/** The answer to `join-room`. Without presence it has neither `users` nor `count`. */
export interface Joined extends Position {
  readonly users?: readonly User[];
  readonly count?: number;
  /** Whether all that was missed follows; else the newest messages do. */
  readonly recovered: boolean;
}

/** Where a durable event is kept. A notification to somebody else has no `seq` and `ts`. */
export interface Receipt {
  readonly id: string;
  readonly seq?: number;
  readonly ts?: number;
  /** The id had been stored before. */
  readonly dup?: boolean;
}

/** A page of a room's log, oldest message first. */
export interface History<Data = unknown> {
  readonly messages: readonly Envelope<Data>[];
  /** Whether the log has still older ones. */
  readonly more: boolean;
}

/** The codes of the server's errors: a closed set. */
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

/** The codes that the client itself adds. */
export type ClientErrorCode =
  /** No answer within the time given. Whether it was done is not known. */
  | 'timeout'
  /** The caller's signal. */
  | 'aborted'
  /** Too many messages wait already. */
  | 'overflow'
  /** The connection was lost before the answer. Whether it was done is not known. */
  | 'disconnected'
  /** The client was closed, by `close()` or by the server for good. */
  | 'closed';

export type ErrorCode = ServerErrorCode | ClientErrorCode;

/** What a log keeps of what clients send. */
export type Durable = 'room-message' | 'private-message' | 'send-notification';

/** Whether a log keeps events of this type: then they are sent until they are answered. */
export function isDurable(type: string): type is Durable {
  return type === 'room-message' || type === 'private-message' || type === 'send-notification';
}
