import { isCount, isObject, isText, TIMER_MAX } from './check.js';
import type { ErrorCode } from './protocol.js';

/** The error that every promise of this package rejects with. */
export class ChatError extends Error {
  override readonly name = 'ChatError';
  declare readonly code: ErrorCode;
  /** How long the server asks to wait before another attempt, in ms. */
  declare readonly retryAfterMs: number | undefined;

  /** The message is the code by default. */
  constructor(
    code: ErrorCode,
    message: string = code,
    options?: { retryAfterMs?: number | undefined; cause?: unknown },
  ) {
    super(message, options);
    this.code = code;
    this.retryAfterMs = options?.retryAfterMs;
  }

  /**
   * Whether another attempt may succeed. Nothing was stored, so it is safe to
   * repeat.
   */
  get temporary(): boolean {
    return this.code === 'rate_limited' || this.code === 'unavailable';
  }
}

/** Makes an error from the `data` of an `error` or a `connect-error`. */
export function errorOf(data: unknown): ChatError {
  const error = isObject(data) ? data : {};
  const code = isText(error.code) ? error.code : 'internal';
  return new ChatError(code as ErrorCode, isText(error.message) ? error.message : undefined, {
    retryAfterMs: isCount(error.retryAfterMs) ? Math.min(error.retryAfterMs, TIMER_MAX) : undefined,
  });
}

/** For an answer that is not what the protocol says. */
export const invalid = () => new ChatError('internal', 'Invalid answer');
export const conflict = () => new ChatError('conflict', 'Id in use');
export const otherUser = () => new ChatError('forbidden', 'Another user');
export const lostLog = () => new ChatError('conflict', 'Log is lost');
