import type { ChatError } from './error.js';

/** The waits that the server asks for. */
export class Pause {
  /**
   * Whether the server has asked to wait lately. The owner then sends one event
   * at a time, because a crowd of them would be refused again. It sets this to
   * false once none is left.
   */
  slow = false;
  /** Whether to send nothing. */
  on = false;
  readonly #ended: () => void;
  #until = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `ended` is called at the end of each wait. */
  constructor(ended: () => void) {
    this.#ended = ended;
  }

  /** Waits as long as a temporary error says. Returns the ms. */
  after(error: ChatError): number {
    const ms = error.retryAfterMs || 1_000;
    this.extend(ms);
    return ms;
  }

  /** Waits so many ms from now, or longer if it would be on for longer. */
  extend(ms: number): void {
    const until = Date.now() + ms;
    if (this.on && until <= this.#until) return;
    this.reset();
    this.slow = this.on = true;
    this.#until = until;
    this.#timer = setTimeout(() => {
      this.on = false;
      this.#ended();
    }, ms);
  }

  reset(): void {
    this.slow = this.on = false;
    clearTimeout(this.#timer);
  }
}
