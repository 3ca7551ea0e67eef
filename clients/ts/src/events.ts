import type { Envelope, Presence } from './protocol.js';

/**
 * What the application's events carry, by type. Extend it by declaration:
 *
 *     declare module 'chathub-client' {
 *       interface ChatEvents {
 *         'room-message': { text: string };
 *         'poll:closed': Result;
 *       }
 *     }
 *
 * Data comes from other people: a type is a promise of your server, not a check.
 */
// biome-ignore lint/suspicious/noEmptyInterface: for applications to extend
export interface ChatEvents {}

/** What the server's handlers take and return, by type: `'order:confirm': (order: Order) => Status`. */
// biome-ignore lint/suspicious/noEmptyInterface: for applications to extend
export interface ChatCalls {}

/** What the server asks (`EmitWithAck`), by type: `'still-there': (data: null) => boolean`. */
// biome-ignore lint/suspicious/noEmptyInterface: for applications to extend
export interface ChatQuestions {}

/** What the protocol's own events carry. */
export interface BuiltinEvents {
  message: unknown;
  'room-message': unknown;
  'private-message': unknown;
  notification: unknown;
  typing: undefined;
  'stop-typing': undefined;
  'user-joined': Presence;
  'user-left': Presence;
  'online-users': Presence;
  'user-online': Presence;
  'user-offline': Presence;
}

/** What events of type K carry: as the application declares it, else as the protocol does. */
export type EventData<E, K> = K extends keyof E ? E[K] : K extends keyof BuiltinEvents ? BuiltinEvents[K] : unknown;

/** The types of events that are known. */
export type EventType<E> = (keyof E | keyof BuiltinEvents) & string;

/** What a call of type K takes. */
export type CallData<C, K> = K extends keyof C ? (C[K] extends (data: infer D) => unknown ? D : never) : unknown;

/** What a call of type K is answered with. */
export type CallReply<C, K> = K extends keyof C ? (C[K] extends (data: never) => infer R ? R : never) : unknown;

/** Gets the data of an event, and the event. */
export type Listener<Data> = (data: Data, event: Envelope<Data>) => void;

/** Takes the listener away again. */
export type Unsubscribe = () => void;

/** Calls functions by name. One that throws stops neither the others nor the connection. */
export class Emitter<Args extends readonly unknown[]> {
  readonly #listeners = new Map<string, Set<{ readonly fn: (...args: Args) => void }>>();
  readonly #report: (err: unknown) => void;

  /** `report` gets what a listener throws. */
  constructor(report: (err: unknown) => void) {
    this.#report = report;
  }

  on(name: string, fn: (...args: Args) => void): Unsubscribe {
    const entry = { fn }; // the same function twice is called twice
    const set = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, set.add(entry));
    return () => void set.delete(entry);
  }

  emit(name: string, ...args: Args): void {
    for (const { fn } of [...(this.#listeners.get(name) ?? [])]) {
      try {
        fn(...args);
      } catch (err) {
        this.#report(err);
      }
    }
  }
}
