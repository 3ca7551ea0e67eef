import type { ChatError } from './error.js';

const CROWD = 32; // how many events may wait for their answers
const GAP_MAX = 300; // ms

/**
 * Pace decides when events may be sent. When the server asks to wait, it stops
 * all of them. They then go one at a time until none is left, with a gap if the
 * server limits their rate. If all went at once, the server would refuse most
 * of them again, and close the connection of a client that goes on so.
 */
export class Pace {
  readonly #send: () => void;
  #slow = false;
  #gap = 0; // ms
  #stopped = false;
  #until = 0; // when it goes on
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `send` is called when more may be sent. */
  constructor(send: () => void) {
    this.#send = send;
  }

  /** Whether to send another event while so many wait for their answers. */
  allows(waiting: number): boolean {
    return !this.#stopped && waiting < (this.#slow ? 1 : CROWD);
  }

  /** The server has asked to wait. Returns how long, in ms. */
  refused(error: ChatError): number {
    const ms = error.retryAfterMs || 1_000;
    // Others may use up the same limit, so each wait makes the gap longer. Of
    // events that were refused together, the first counts.
    if (!this.#stopped && ms < GAP_MAX) this.#gap = Math.min(this.#gap + ms, GAP_MAX);
    this.#slow = true;
    this.#stop(ms);
    return ms;
  }

  /** The server has answered an event, and so many are left. Sends more. */
  answered(left: number): void {
    if (left === 0) {
      this.#slow = false;
      this.#gap = 0;
    }
    if (this.#gap > 0) this.#stop(this.#gap);
    else this.#send();
  }

  /** The server has asked for nothing on this connection. */
  reset(): void {
    clearTimeout(this.#timer);
    this.#slow = this.#stopped = false;
    this.#gap = 0;
  }

  #stop(ms: number): void {
    const until = Date.now() + ms;
    if (this.#stopped && until <= this.#until) return;
    clearTimeout(this.#timer);
    this.#stopped = true;
    this.#until = until;
    this.#timer = setTimeout(() => {
      this.#stopped = false;
      this.#send();
    }, ms);
  }
}
