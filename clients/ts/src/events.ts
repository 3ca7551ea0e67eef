import type { Changed, Envelope, Presence, Read, Removed, StateChanged } from './protocol.js';

/**
 * The data of the application's events, by type. Declare your own like this:
 *
 *     declare module 'chathub-client' {
 *       interface ChatEvents {
 *         'room-message': { text: string };
 *         'poll:closed': Result;
 *       }
 *     }
 *
 * Types check your code. They do not check the data that other people send.
 */
// biome-ignore lint/suspicious/noEmptyInterface: for applications to extend
export interface ChatEvents {}

/**
 * The server's handlers, by type, each as a function from its data to its
 * answer: `'order:confirm': (order: Order) => Status`.
 */
// biome-ignore lint/suspicious/noEmptyInterface: for applications to extend
export interface ChatCalls {}

/**
 * The questions that the server asks with `EmitWithAck`, by type:
 * `'still-there': (data: null) => boolean`.
 */
// biome-ignore lint/suspicious/noEmptyInterface: for applications to extend
export interface ChatQuestions {}

/** The data of the protocol's own events. */
export interface BuiltinEvents {
  message: unknown;
  'room-message': unknown;
  'private-message': unknown;
  notification: unknown;
  'message-changed': Changed;
  read: Read;
  'state-changed': StateChanged;
  typing: undefined;
  'stop-typing': undefined;
  'user-joined': Presence;
  'user-left': Presence;
  removed: Removed;
  'online-users': Presence;
  'user-online': Presence;
  'user-offline': Presence;
}

/**
 * The data of events of type K, as declared by the application or else by the
 * protocol.
 */
export type EventData<E, K> = K extends keyof E ? E[K] : K extends keyof BuiltinEvents ? BuiltinEvents[K] : unknown;

/** All event types that are declared. */
export type EventType<E> = (keyof E | keyof BuiltinEvents) & string;

/** The data of a call of type K. */
export type CallData<C, K> = K extends keyof C ? (C[K] extends (data: infer D) => unknown ? D : never) : unknown;

/** The answer to a call of type K. */
export type CallReply<C, K> = K extends keyof C ? (C[K] extends (data: never) => infer R ? R : never) : unknown;

/** Receives the data of an event, and the whole event. */
export type Listener<Data> = (data: Data, event: Envelope<Data>) => void;

/** Removes the listener. */
export type Unsubscribe = () => void;

type Fn = (...args: never[]) => void;

/** Functions by name, to call. */
export interface Emitter {
  on(name: string, fn: Fn): Unsubscribe;
  /** If one throws, the others are called all the same. */
  _emit(name: string, ...args: unknown[]): void;
}

/**
 * Makes an Emitter. A name is the type of an event, `TYPE\nROOM`, or one of the
 * client's own, which begins with a line break. `report` receives whatever a
 * listener throws.
 */
export function newEmitter(report: (err: unknown) => void): Emitter {
  const listeners = new Set<readonly [string, Fn]>();
  return {
    on(name, fn) {
      const entry = [name, fn] as const; // the same function can be registered twice
      listeners.add(entry);
      return () => void listeners.delete(entry);
    },
    _emit(name, ...args) {
      for (const [type, fn] of [...listeners]) {
        try {
          if (type === name) fn(...(args as never[]));
        } catch (err) {
          report(err);
        }
      }
    },
  };
}
