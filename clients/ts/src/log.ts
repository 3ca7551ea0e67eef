import type { Joined, Position } from './protocol.js';

/** How far this client has read the log of a room, or its inbox. */
export class Log {
  /** Of the last event. */
  _position: Position | null = null;
  /** Whether the next event comes after the position. */
  _live = false;
  /** Everything after this position was heard. */
  _heardFrom = 0;

  /** The epoch of the events that come now. Undefined if it is unknown. */
  get _epoch(): string | undefined {
    return this._live ? this._position?.epoch : undefined;
  }

  /**
   * Takes the answer after which events come. They begin after the position, or
   * after `first` if there is none. Returns whether there was one.
   */
  _begin({ epoch, seq, recovered }: Joined, first = 0): boolean {
    const asked = this._position;
    const from = recovered ? asked?.seq : undefined;
    this._position = { epoch, seq: asked ? (from ?? 0) : first };
    this._heardFrom = from ?? seq;
    this._live = true;
    return asked !== null;
  }

  /** Events come no longer. */
  _end(): void {
    this._live = false;
    this._heardFrom = 0;
  }

  /** Whether an event is new. If so, moves the position to it. */
  _isNew(seq: number): boolean {
    if (!this._live || !this._position || seq <= this._position.seq) return false;
    this._position = { epoch: this._position.epoch, seq };
    return true;
  }
}
