import type { Connection } from './connection.js';
import { ChatError } from './error.js';
import { newId } from './id.js';
import type { Envelope } from './protocol.js';
import { isOver, toJSON, wellFormed } from './text.js';

/**
 * How to send an event that the server does not keep in a log. `once`: as soon
 * as there is a connection, and never again. `read`: until there is an answer,
 * on the next connection too, because it changes nothing. `now`: on this
 * connection only, and again if the server cannot serve it yet.
 */
export type Mode = 'once' | 'read' | 'now';

export type Answer = Envelope | ChatError;

export interface WaitOptions {
  /** Gives up after this many ms. The server may have done the work. */
  timeout?: number | undefined;
  /** Gives up when it is aborted. The server may have done the work. */
  signal?: AbortSignal | undefined;
  /** Your own id: at most 64 bytes, unique among the events of this user. */
  id?: string | undefined;
}

interface Pending {
  readonly id: string;
  readonly text: string;
  readonly mode: Mode;
  /** Whether it waits for a connection. */
  queued: boolean;
  /** Runs until it is sent again. */
  timer?: ReturnType<typeof setTimeout>;
  settle(answer: Answer): void;
}

/**
 * Requests sends events that the server does not keep in a log, and matches
 * them with their answers.
 */
export class Requests {
  readonly #connection: Connection;
  readonly #max: number;
  readonly #timeout: number;
  readonly #pending = new Map<string, Pending>();
  /** Size of the largest message that the server accepts, in bytes. */
  maxMessage = Infinity;

  constructor(connection: Connection, max = 256, timeout = 10_000) {
    this.#connection = connection;
    this.#max = max;
    this.#timeout = timeout;
  }

  /** Sends an event and resolves with its answer. */
  send(event: object, mode: Mode, options: WaitOptions = {}): Promise<Envelope> {
    const { timeout = this.#timeout } = options;
    const id = wellFormed(options.id ?? newId());
    return cancellable<Envelope>(
      (settle) => this.ask(event, mode, settle, id),
      (error) => this.answer(id, error),
      { ...options, timeout },
    );
  }

  /**
   * Sends an event and calls `settle` with its answer, before the client
   * handles the frames that follow the answer.
   */
  ask(event: object, mode: Mode, settle: (answer: Answer) => void, id = newId()): void {
    const text = encode({ ...event, id });
    const queued = mode !== 'now' && !this.#connection.ready;
    if (text instanceof ChatError) return settle(text);
    if (this.#connection.stopped) return settle(closed());
    if (isOver(text, this.maxMessage)) return settle(tooLarge());
    if (queued && this.#pending.size >= this.#max) return settle(overflow());
    if (this.#pending.has(id)) return settle(conflict());
    const p: Pending = { id, text, mode, queued, settle };
    this.#pending.set(id, p);
    if (!queued) this.#write(p);
  }

  /**
   * Ends the request with that id, with an answer or an error. Ignores an
   * unknown id.
   */
  answer(id: string, answer: Answer): void {
    const p = this.#pending.get(id);
    if (!p) return;
    clearTimeout(p.timer);
    if (answer instanceof ChatError && answer.temporary && p.mode !== 'once') {
      p.timer = setTimeout(() => this.#write(p), answer.retryAfterMs ?? 1_000);
      return;
    }
    this.#pending.delete(id);
    p.settle(answer);
  }

  /** The connection can be used. */
  opened(): void {
    for (const p of [...this.#pending.values()]) if (p.queued) this.#write(p);
  }

  /** The connection is gone. With an `error`, it will not come back. */
  dropped(error?: ChatError): void {
    for (const p of [...this.#pending.values()]) {
      clearTimeout(p.timer);
      p.queued ||= p.mode === 'read';
      if (error || !p.queued) this.answer(p.id, error ?? new ChatError('disconnected', 'The connection was lost'));
    }
  }

  #write(p: Pending): void {
    p.queued = false;
    this.#connection.write(p.text);
  }
}

export function encode(envelope: object): string | ChatError {
  try {
    return toJSON(envelope);
  } catch (cause) {
    return new ChatError('bad_request', 'The data cannot be encoded as JSON', { cause });
  }
}

/** For an answer that is not what the protocol says. */
export const invalid = () => new ChatError('internal', 'The server sent an invalid answer');
export const closed = () => new ChatError('closed', 'The client is closed');
export const conflict = () => new ChatError('conflict', 'An event with this id is waiting already');
export const overflow = () => new ChatError('overflow', 'Too many messages are waiting');
export const tooLarge = () => new ChatError('too_large', 'The message is too large for the server');

/**
 * Resolves with the result that `begin` settles. Calls `cancel` on a timeout or
 * when the signal is aborted.
 */
export function cancellable<T>(
  begin: (settle: (result: T | ChatError) => void) => void,
  cancel: (error: ChatError) => void,
  { timeout = Infinity, signal }: WaitOptions,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const aborted = () => new ChatError('aborted', 'Aborted', { cause: signal?.reason });
    if (signal?.aborted) return reject(aborted());
    const abort = () => cancel(aborted());
    signal?.addEventListener('abort', abort);
    const late = () => cancel(new ChatError('timeout', `No answer within ${timeout} ms`));
    const timer = timeout < Infinity ? setTimeout(late, timeout) : undefined;
    begin((result) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      if (result instanceof ChatError) reject(result);
      else resolve(result);
    });
  });
}
