import type { ChatClient } from '../index.js';

// A client of any types, since stores do not read the data.
// biome-ignore lint/suspicious/noExplicitAny: its type parameters are invariant
export type AnyClient = ChatClient<any, any, any>;

const AT_ONCE = 10;

/**
 * Pace spreads the notifications of all stores of a client: it passes on the
 * first few at once, and batches the rest. A replay causes many, and React
 * fails with "Maximum update depth exceeded" after 50 without a pause if
 * effects set state.
 */
class Pace {
  readonly #late = new Set<() => void>();
  #notified = 0;

  _tell(fn: () => void): void {
    if (this.#notified >= AT_ONCE) return void this.#late.add(fn);
    if (this.#notified++ === 0) setTimeout(() => this.#pause());
    fn();
  }

  #pause(): void {
    this.#notified = 0;
    const late = [...this.#late];
    this.#late.clear();
    for (const fn of late) fn();
  }
}

const paces = new WeakMap<AnyClient, Pace>();

/**
 * A state to subscribe to. It follows the client while it has subscribers.
 */
export abstract class Store<T> {
  /** The snapshot on a server, and until something is known. */
  readonly initial: T;
  readonly #listeners = new Set<() => void>();
  readonly #pace: Pace;
  #snapshot: T | undefined; // until something changes
  #stop: (() => void) | undefined;

  constructor(client: AnyClient, initial: T) {
    this.initial = initial;
    this.#pace = paces.get(client) ?? new Pace();
    paces.set(client, this.#pace);
  }

  /** Functions that the hooks return besides the snapshot. */
  declare readonly actions?: object;

  /** Immutable, and the same object until something changes. */
  get snapshot(): T {
    this.#snapshot ??= this._read();
    return this.#snapshot;
  }

  /** Makes a snapshot. */
  protected abstract _read(): T;

  /**
   * Called for the first subscriber. Returns a function that undoes it, which
   * is called after the last one.
   */
  protected abstract _start(): () => void;

  /** Whether it must go on without subscribers. */
  protected get _busy(): boolean {
    return false;
  }

  /**
   * Calls `fn` after changes of `snapshot`, several of which may be one call.
   * Returns a function that ends this.
   */
  readonly subscribe = (fn: () => void): (() => void) => {
    const listener = () => fn();
    this.#listeners.add(listener);
    if (!this.#stop) {
      this.#snapshot = undefined;
      this.#stop = this._start();
    }
    return () => {
      // StrictMode and a change of pages subscribe again at once.
      if (this.#listeners.delete(listener)) setTimeout(() => this._release());
    };
  };

  /** Stops, unless it is still needed. */
  protected _release(): void {
    if (this.#listeners.size > 0 || this._busy) return;
    this.#stop?.();
    this.#stop = undefined;
  }

  protected _changed(): void {
    this.#snapshot = undefined;
    this.#pace._tell(this.#tell);
  }

  readonly #tell = (): void => {
    for (const fn of [...this.#listeners]) fn();
  };
}

/** A state that the client has already. */
export class View<T> extends Store<T> {
  protected readonly _read: () => T;
  readonly #on: (fn: () => void) => () => void;

  constructor(client: AnyClient, initial: T, on: (fn: () => void) => () => void, read: () => T) {
    super(client, initial);
    this.#on = on;
    this._read = read;
  }

  protected override _start(): () => void {
    return this.#on(() => this._changed());
  }
}
