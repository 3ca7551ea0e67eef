import type { ChatClient } from '../index.js';

// A client of whatever types: stores do not look into data.
// biome-ignore lint/suspicious/noExplicitAny: its parameters are both taken and given
export type AnyClient = ChatClient<any, any, any>;

/** Something that hooks subscribe to. `snapshot` is the same object until something changes. */
export abstract class Store<T> {
  readonly #listeners = new Set<() => void>();
  #users = 0;
  #stop: (() => void) | undefined;

  abstract readonly snapshot: T;

  /** Begins, when the first subscribes; returns how to end it. */
  protected abstract start(): () => void;

  /** Whether it has to go on although nobody subscribes. */
  protected get busy(): boolean {
    return false;
  }

  readonly subscribe = (fn: () => void): (() => void) => {
    const listener = () => fn();
    this.#listeners.add(listener);
    this.#users++;
    this.#stop ??= this.start();
    return () => {
      if (!this.#listeners.delete(listener)) return;
      this.#users--;
      // StrictMode, and a change of pages, subscribe again at once.
      setTimeout(() => this.release());
    };
  };

  /** Ends, if nobody needs it. */
  protected release(): void {
    if (this.#users > 0 || this.busy) return;
    this.#stop?.();
    this.#stop = undefined;
  }

  protected changed(): void {
    for (const fn of [...this.#listeners]) fn();
  }
}
