import { isCount, isObject, isText, TIMER_MAX } from './check.js';
import type { ErrorCode } from './protocol.js';

/** The error that every promise of this package rejects with. */
export class ChatError extends Error {
  override readonly name = 'ChatError';
  readonly code: ErrorCode;
  /** How long the server asks to wait before another attempt, in ms. */
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, options?: { retryAfterMs?: number | undefined; cause?: unknown }) {
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
  return new ChatError(code as ErrorCode, isText(error.message) ? error.message : code, {
    retryAfterMs: isCount(error.retryAfterMs) ? Math.min(error.retryAfterMs, TIMER_MAX) : undefined,
  });
}
