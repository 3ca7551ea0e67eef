import type { OutboxStorage } from './outbox.js';

/**
 * The part of a browser's WebSocket that the client uses. React Native and the
 * npm package ws have it too.
 */
export interface WebSocketLike {
  onopen: ((event: never) => unknown) | null;
  onmessage: ((event: never) => unknown) | null;
  onclose: ((event: never) => unknown) | null;
  onerror: ((event: never) => unknown) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

/**
 * Why a token is requested. `connect`: for the first connection. `refresh`: the
 * present token expires soon. `expired`: the server refused the present token
 * because it has expired.
 */
export type TokenReason = 'connect' | 'refresh' | 'expired';

export interface ChatOptions {
  /**
   * Returns a token, which the client keeps until it expires. If it throws, the
   * client tries again later. A ChatError with code `unauthenticated` ends all
   * attempts. Without `getToken`, or if it returns null, the client connects
   * without a token.
   */
  getToken?: ((reason: TokenReason) => string | null | Promise<string | null>) | undefined;
  /**
   * The class to use. Default: the global one, which Node has since version 22.
   */
  WebSocket?: WebSocketConstructor | undefined;
  /**
   * Where a new client starts to read the inbox. `all`: with the oldest message
   * that the server still has, so that messages sent while the user was away
   * arrive. `new`: with the next message. A position from an earlier
   * `client.inbox`: with the message after it. Default `all`.
   */
  inbox?: 'all' | 'new' | { readonly epoch: string; readonly seq: number } | undefined;
  /**
   * Keeps the outbox, so that it outlives the page: `keptIn(localStorage)` from
   * `chathub-client/storage`. Default: none.
   */
  storage?: OutboxStorage | undefined;
  /**
   * The number of durable messages that may wait for the server, and separately
   * the number of other calls. Default 256.
   */
  maxOutbox?: number | undefined;
  /**
   * How long a call waits for its answer, in ms. Default 10 s. `history` and
   * `onlineUsers` also wait as long as the server asks. Durable messages wait
   * without a limit.
   */
  timeout?: number | undefined;
  /**
   * How long to wait for a token, and then for a connection, in ms. Default 10
   * s.
   */
  connectTimeout?: number | undefined;
  /**
   * How long the server may be silent before the client pings it, in ms.
   * Default: the server's own interval, or 25 s.
   */
  pingInterval?: number | undefined;
  /** How long to wait for the answer to a ping, in ms. Default 10 s. */
  pongTimeout?: number | undefined;
  /**
   * The wait before another attempt to connect, in ms. It is random, between 0
   * and a bound that starts at `min` and doubles with each attempt up to `max`.
   * Default 500 ms and 20 s.
   */
  backoff?: { min?: number | undefined; max?: number | undefined } | undefined;
  /**
   * Receives whatever a listener throws. Default: it becomes an uncaught error.
   */
  onError?: ((err: unknown) => void) | undefined;
}
