/** The part of a browser's WebSocket that is used: React Native's has it too, and the npm package ws. */
export interface WebSocketLike {
  onopen: ((event: never) => unknown) | null;
  onmessage: ((event: never) => unknown) | null;
  onclose: ((event: never) => unknown) | null;
  onerror: ((event: never) => unknown) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

/** Where messages that the server has not acknowledged outlive the page: localStorage, sessionStorage, AsyncStorage. */
export interface StorageLike {
  getItem(key: string): string | null | Promise<string | null>;
  setItem(key: string, value: string): unknown;
  removeItem(key: string): unknown;
}

/** Why a token is asked for: the first one, one in time before the old expires, or because it was refused as expired. */
export type TokenReason = 'connect' | 'refresh' | 'expired';

export interface ChatOptions {
  /**
   * Returns a token, which is kept until it expires. An error means to try again
   * later; a ChatError of code `unauthenticated` ends all attempts. Null, or no
   * `getToken`, connects without one.
   */
  getToken?: ((reason: TokenReason) => string | null | Promise<string | null>) | undefined;
  /** Default: the global one, which Node has from version 22 on. */
  WebSocket?: WebSocketConstructor | undefined;
  /**
   * Where the inbox begins for a client that has seen nothing of it: with all that the
   * server keeps (the default: what was sent while the user was away arrives), with what
   * is new, or behind a position from an earlier `client.inbox`.
   */
  inbox?: 'all' | 'new' | { readonly epoch: string; readonly seq: number } | undefined;
  /** Keeps the outbox. Tabs that share a storage need different keys. */
  storage?: StorageLike | undefined;
  /** Default `chathub:outbox`. */
  storageKey?: string | undefined;
  /** How many durable messages may wait, and how many other calls. Default 256. */
  maxOutbox?: number | undefined;
  /** How long a call waits for its answer, in ms. Default 10 s. Durable messages wait without end. */
  timeout?: number | undefined;
  /** How long a token, and then a connection, may take, in ms. Default 10 s. */
  connectTimeout?: number | undefined;
  /** Silence after which the server is asked whether it is there, in ms. Default: what the server says, else 25 s. */
  pingInterval?: number | undefined;
  /** How long it may take to answer that, in ms. Default 10 s. */
  pongTimeout?: number | undefined;
  /** Waits are random, up to `min` doubled each time, and up to `max`, in ms. Default 500 ms and 20 s. */
  backoff?: { min?: number | undefined; max?: number | undefined } | undefined;
  /** Gets what a listener threw. Default: it is thrown again, outside of the client. */
  onError?: ((err: unknown) => void) | undefined;
}
