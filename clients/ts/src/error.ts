import type { ErrorCode } from './protocol.js';

/** What every promise of this package is rejected with. */
export class ChatError extends Error {
  override readonly name = 'ChatError';
  readonly code: ErrorCode;
  /** How long the server asks to wait before trying again, in ms. */
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, options?: { retryAfterMs?: number | undefined; cause?: unknown }) {
    super(message, options);
    this.code = code;
    this.retryAfterMs = options?.retryAfterMs;
  }

  /** Whether the same may work later: nothing was stored that a repetition would double. */
  get temporary(): boolean {
    return this.code === 'rate_limited' || this.code === 'unavailable';
  }
}

/** Makes an error of the `data` of an `error` or `connect-error`. */
export function errorOf(data: unknown): ChatError {
  const { code = 'internal', message = code, retryAfterMs } = (data ?? {}) as Partial<ChatError>;
  return new ChatError(code, message, { retryAfterMs });
}
