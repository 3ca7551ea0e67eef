import type { Joined, Position } from './protocol.js';

/** How far this client has read the log of a room, or its inbox. */
export interface Log {
  /** Of the last event. */
  _position: Position | null;
  /** Whether the next event comes after the position. */
  _live: boolean;
  /** Everything after this position was heard. */
  _heardFrom: number;
  /** The epoch of the events that come now. Undefined if it is unknown. */
  readonly _epoch: string | undefined;
  /**
   * Takes the answer after which events come. They begin after the position, or
   * after `first` if there is none. Returns whether there was one.
   */
  _open(answer: Joined, first?: number): boolean;
  /** Events come no longer. */
  _close(): void;
  /** Whether an event is new. If so, moves the position to it. */
  _isNew(seq: number): boolean;
}

export function newLog(): Log {
  const log: Log = {
    _position: null,
    _live: false,
    _heardFrom: 0,
    get _epoch() {
      return log._live ? log._position?.epoch : undefined;
    },
    _open({ epoch, seq, recovered }, first = 0) {
      const asked = log._position;
      const from = recovered ? asked?.seq : undefined;
      log._position = { epoch, seq: asked ? (from ?? 0) : first };
      log._heardFrom = from ?? seq;
      log._live = true;
      return !!asked;
    },
    _close() {
      log._live = false;
      log._heardFrom = 0;
    },
    _isNew(seq) {
      const { _position } = log;
      if (!log._live || !_position || seq <= _position.seq) return false;
      log._position = { epoch: _position.epoch, seq };
      return true;
    },
  };
  return log;
}
