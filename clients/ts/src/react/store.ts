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

  tell(fn: () => void): void {
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
 * A state that hooks subscribe to. `snapshot` is the same object until
 * something changes.
 */
export abstract class Store<T> {
  readonly #listeners = new Set<() => void>();
  readonly #pace: Pace;
  #subscribers = 0;
  #stop: (() => void) | undefined;

  constructor(client: AnyClient) {
    this.#pace = paces.get(client) ?? new Pace();
    paces.set(client, this.#pace);
  }

  abstract readonly snapshot: T;

  /**
   * Called for the first subscriber. Returns a function that undoes it, which
   * is called after the last one.
   */
  protected abstract start(): () => void;

  /** Whether it must go on without subscribers. */
  protected get busy(): boolean {
    return false;
  }

  readonly subscribe = (fn: () => void): (() => void) => {
    const listener = () => fn();
    this.#listeners.add(listener);
    this.#subscribers++;
    this.#stop ??= this.start();
    return () => {
      if (!this.#listeners.delete(listener)) return;
      this.#subscribers--;
      // StrictMode and a change of pages subscribe again at once.
      setTimeout(() => this.release());
    };
  };

  /** Stops, unless it is still needed. */
  protected release(): void {
    if (this.#subscribers > 0 || this.busy) return;
    this.#stop?.();
    this.#stop = undefined;
  }

  protected changed(): void {
    this.#pace.tell(this.#tell);
  }

  readonly #tell = (): void => {
    for (const fn of [...this.#listeners]) fn();
  };
}
