import type { ChatError } from './error.js';

const CROWD = 32; // how many events may wait for their answers
const GAP_MAX = 300; // ms

/**
 * Decides when events may be sent. When the server asks to wait, it stops all
 * of them. They then go one at a time until none is left, with a gap if the
 * server limits their rate. If all went at once, the server would refuse most
 * of them again, and close the connection of a client that goes on so.
 */
export interface Pace {
  /** How many events wait for their answers, by the owner's count. */
  _waiting: number;
  /** Whether to send another event while so many wait for their answers. */
  _canSend(waiting: number): boolean;
  /** The server has asked to wait. Returns how long, in ms. */
  _postpone(error: ChatError): number;
  /** The server has answered an event, and so many are left. Sends more. */
  _answer(left: number): void;
  /** The server has asked for nothing on this connection. */
  _dropped(): void;
}

/** `send` is called when more may be sent. */
export function newPace(send: () => void): Pace {
  let slow = false;
  let gap = 0; // ms
  let until = 0; // when it goes on
  let timer: ReturnType<typeof setTimeout> | undefined; // if it is stopped

  function stop(ms: number) {
    const end = Date.now() + ms;
    if (timer && end <= until) return;
    clearTimeout(timer);
    until = end;
    timer = setTimeout(() => {
      timer = undefined;
      send();
    }, ms);
  }

  return {
    _waiting: 0,
    _canSend: (waiting) => !timer && waiting < (slow ? 1 : CROWD),
    _postpone({ retryAfterMs }) {
      const ms = retryAfterMs || 1_000;
      // Others may use up the same limit, so each wait makes the gap longer. Of
      // events that were refused together, the first counts.
      if (!timer && ms < GAP_MAX) gap = Math.min(gap + ms, GAP_MAX);
      slow = true;
      stop(ms);
      return ms;
    },
    _answer(left) {
      if (!left) {
        slow = false;
        gap = 0;
      }
      if (gap) stop(gap);
      else send();
    },
    _dropped() {
      clearTimeout(timer);
      timer = undefined;
      slow = false;
      gap = 0;
    },
  };
}
