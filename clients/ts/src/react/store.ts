import type { ChatClient } from '../index.js';

// A client of whatever types: stores do not look into data.
// biome-ignore lint/suspicious/noExplicitAny: its parameters are both taken and given
export type AnyClient = ChatClient<any, any, any>;

const PROMPT = 10;

/**
 * Tells of the changes of all stores of a client: the first ones at once, more of them together.
 * React gives up ("Maximum update depth exceeded") after 50 of them without a pause, as a replay
 * has, where effects set state too.
 */
class Pace {
  readonly #late = new Set<() => void>();
  #told = 0;

  tell(fn: () => void): void {
    if (this.#told >= PROMPT) return void this.#late.add(fn);
    if (this.#told++ === 0) setTimeout(() => this.#pause());
    fn();
  }

  #pause(): void {
    this.#told = 0;
    const late = [...this.#late];
    this.#late.clear();
    for (const fn of late) fn();
  }
}

const paces = new WeakMap<AnyClient, Pace>();

/** Something that hooks subscribe to. `snapshot` is the same object until something changes. */
export abstract class Store<T> {
  readonly #listeners = new Set<() => void>();
  readonly #pace: Pace;
  #users = 0;
  #stop: (() => void) | undefined;

  constructor(client: AnyClient) {
    this.#pace = paces.get(client) ?? new Pace();
    paces.set(client, this.#pace);
  }

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
    this.#pace.tell(this.#tell);
  }

  readonly #tell = (): void => {
    for (const fn of [...this.#listeners]) fn();
  };
}
