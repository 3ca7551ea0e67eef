// What applications see of the outbox.
import type { ChatError } from './error.js';
import type { Re, Receipt } from './protocol.js';

/** A durable event that the server has not acknowledged. */
export interface Outgoing {
  readonly type: string;
  readonly id: string;
  readonly room?: string | undefined;
  readonly to?: string | undefined;
  readonly re?: Re | undefined;
  /** Of a change: the life of the log that the changed message is in. */
  readonly epoch?: string | undefined;
  readonly data: unknown;
}

/** A change in the state of a durable event. */
export type SendEvent =
  | { readonly status: 'queued'; readonly message: Outgoing }
  | { readonly status: 'sent'; readonly message: Outgoing; readonly receipt: Receipt }
  | { readonly status: 'failed'; readonly message: Outgoing; readonly error: ChatError };

/** What a storage keeps of an outbox. */
export interface StoredOutbox {
  readonly messages: readonly Outgoing[];
  /** Whose messages these are. Undefined: of the next user to connect. */
  readonly user: string | undefined;
  /**
   * Puts what another outbox left in front. It fails if it is of another user.
   */
  restore(messages: readonly Outgoing[], user: string | undefined): void;
}

/**
 * Keeps an outbox for the next page, as `keptIn` of `chathub-client/storage`
 * does. Returns a function that is called after changes.
 */
export type OutboxStorage = (outbox: StoredOutbox, report: (err: unknown) => void) => () => void;

export interface WaitOptions {
  /**
   * Gives up after this many ms, however long the server has asked to wait. The
   * server may have done the work.
   */
  timeout?: number | undefined;
  /** Gives up when it is aborted. The server may have done the work. */
  signal?: AbortSignal | undefined;
  /** Your own id: at most 64 bytes, unique among the events of this user. */
  id?: string | undefined;
}
