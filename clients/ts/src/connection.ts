import { isCount, isEnvelope, isObject, isWelcome, TIMER_MAX } from './check.js';
import { ChatError, errorOf, invalid, timedOut } from './error.js';
import type { ChatOptions, TokenReason, WebSocketConstructor, WebSocketLike } from './options.js';
import type { Envelope, User, Welcome } from './protocol.js';
import { toJSON } from './text.js';

/** Why there is no connection. */
export type DisconnectReason =
  /** `connect()` was not called yet. */
  | 'idle'
  /** `close()` was called. */
  | 'closed'
  /** The connection broke or could not be made, or the server fell silent. */
  | 'lost'
  /** The server is restarting and has said when to come back. */
  | 'restart'
  /** There is no valid token: `getToken` failed, or the last one expired. */
  | 'token'
  /**
   * The server refuses this client, or the URL is not valid. `error` says why.
   */
  | 'refused';

/** Immutable: a change makes a new object. */
export type ConnectionState =
  | { readonly status: 'connecting'; readonly attempt: number }
  | { readonly status: 'connected'; readonly clientId: string; readonly user: User }
  | {
      readonly status: 'disconnected';
      readonly reason: DisconnectReason;
      /**
       * When the next attempt starts, in Unix milliseconds. Null if there will
       * be none.
       */
      readonly retryAt: number | null;
      /** The close code of the WebSocket, if there was one. */
      readonly code?: number | undefined;
      readonly error?: ChatError | undefined;
    };

/** The functions that a connection calls. */
export interface Owner {
  /**
   * A connection was opened. The owner calls `markReady()` once it can be used.
   */
  _welcome(welcome: Welcome): void;
  _receive(envelope: Envelope): void;
  /**
   * The connection is gone, for whatever reason. `code` is the close code of
   * the WebSocket.
   */
  _dropped(code: number | undefined): void;
  _changed(state: ConnectionState): void;
  /** Sends a new token to the server. Resolves with the time of its expiry. */
  _refresh(token: string): Promise<number | undefined>;
}

/**
 * Keeps one WebSocket open at a time. It connects, notices when the server has
 * died, and reconnects.
 */
export interface Connection {
  readonly _state: ConnectionState;
  readonly _ready: boolean;
  /** Whether it is closed and makes no attempts by itself. */
  readonly _stopped: boolean;
  /** Identifies the present connection. Null if there is none. */
  readonly _socket: object | null;
  /** Connects, unless it is connected or connecting already. */
  _open(): void;
  /** Ends the connection and all attempts. */
  _close(): void;
  /**
   * To be called when the network or the page comes back. Connects at once, or
   * checks whether the server is alive.
   */
  _wake(): void;
  /** Sends an envelope or its text. Does nothing without a connection. */
  _write(envelope: object | string): void;
  /** The owner's answer to `welcome`: the connection can be used. */
  _markReady(): void;
  /** Gives this connection up. Another attempt follows. */
  _lost(error?: ChatError): void;
  /** The server has asked to wait: connecting may take that much longer. */
  _postpone(ms: number): void;
}

type Timer = ReturnType<typeof setTimeout> | undefined;

const RESTART = 4000; // close codes
const TOKEN_EXPIRED = 4003;
const PING_MIN = 1_000; // the shortest interval that a server can ask for, in ms
const REFRESH_MIN = 1_000; // the shortest wait before a token is renewed, in ms

export function newConnection(url: string, options: ChatOptions, owner: Owner): Connection {
  let state: ConnectionState = { status: 'disconnected', reason: 'idle', retryAt: null };
  let ws: WebSocketLike | null = null;
  let run = 0; // counts attempts and ends, to recognise results of older ones
  let attempt = 0; // attempts since the last connection that lasted
  let readySince = 0;
  let token: string | null = null;
  let tokenReason: TokenReason = 'connect';
  let tokenExpires = Infinity; // by the local clock
  let clockOffset = 0; // how far the server's clock is ahead
  let restartAt = 0; // when the server asked the client to return, or 0
  let refusal: ChatError | undefined; // from a connect-error
  let welcome: Welcome | undefined;
  let lastFrame = 0; // when the last frame arrived
  let pinging = false;
  let timer: Timer; // for connecting, waiting or the heartbeat: one at a time
  let refreshTimer: Timer;

  const after = (ms: number, fn: () => void) => {
    clearTimeout(timer);
    timer = setTimeout(fn, Math.min(ms, TIMER_MAX));
  };

  const setState = (next: ConnectionState) => {
    state = next;
    owner._changed(state);
  };

  const disconnected = (reason: DisconnectReason, retryAt: number | null, error?: ChatError, code?: number) =>
    setState({ status: 'disconnected', reason, retryAt, code, error });

  // Whether there is neither a connection nor to be another attempt.
  const isEnded = () => state.status === 'disconnected' && state.retryAt === null;

  async function open() {
    const id = ++run;
    restartAt = 0;
    refusal = welcome = undefined;
    setState({ status: 'connecting', attempt: ++attempt });
    if (id !== run) return; // a listener has closed it

    expectWithin();
    if (options.getToken && (token === null || tokenExpires <= Date.now())) {
      try {
        const next = await askToken(tokenReason);
        if (id !== run) return;
        token = next;
      } catch (cause) {
        if (id !== run) return;
        drop();
        if (cause instanceof ChatError && cause.code === 'unauthenticated') return stop('refused', cause);
        return wait('token', new ChatError('unavailable', 'getToken failed', { cause }));
      }
      tokenReason = 'connect';
      tokenExpires = Infinity;
      expectWithin();
    }

    try {
      const protocols = ['chathub.v1'];
      if (token) protocols.push(bearer(token));
      const Socket = options.WebSocket ?? (globalThis.WebSocket as WebSocketConstructor);
      ws = new Socket(absolute(url), protocols);
    } catch {
      // The cause is dropped because it may quote the token.
      return stop('refused', new ChatError('bad_request', 'No WebSocket, or an invalid URL'));
    }
    ws.onmessage = ({ data }: { data: string }) => receive(data);
    ws.onclose = ({ code = 1006, reason = '' }: { code?: number; reason?: string }) => closed(code, reason);
    ws.onerror = () => {}; // onclose follows
  }

  function expectWithin(more = 0) {
    after((options.connectTimeout ?? 10_000) + more, late);
  }

  const late = () => lost(timedOut());

  async function askToken(reason: TokenReason): Promise<string | null> {
    return (await options.getToken?.(reason)) ?? null;
  }

  function closed(code: number, reason: string) {
    const error = (other: 'closed' | 'token_expired') => refusal ?? new ChatError(other, reason || undefined);
    drop(code);
    if (code >= 4500 && code <= 4999) return stop('refused', error('closed'), code);
    if (code !== TOKEN_EXPIRED) return wait(restartAt > 0 || code === RESTART ? 'restart' : 'lost', refusal, code);
    token = null;
    tokenReason = 'expired';
    wait('token', error('token_expired'), code);
  }

  // Does not wait for the close handshake, which takes long if the server has
  // died.
  function drop(code?: number) {
    run++;
    pinging = false;
    clearTimeout(timer);
    clearTimeout(refreshTimer);
    const old = ws;
    ws = null;
    if (!old) return;
    old.onmessage = old.onclose = null;
    old.close(); // does nothing if it is closed already
    owner._dropped(code);
  }

  function lost(error?: ChatError) {
    drop();
    wait('lost', error);
  }

  function wait(reason: DisconnectReason, error?: ChatError, code?: number) {
    const now = Date.now();
    const { max = 20_000, min = 500 } = options.backoff ?? {};
    // The bound starts again only after a connection that lasted, so that a
    // server that fails right after the welcome gets no more attempts than a
    // dead one.
    if (readySince > 0 && now - readySince > max) attempt = 1;
    readySince = 0;
    const cap = Math.min(max, min * 2 ** (attempt - 1));
    const planned = restartAt > 0 ? Math.max(0, restartAt - now) : cap * Math.random();
    const delay = planned + (error?.retryAfterMs ?? 0); // the server is busy
    after(delay, open);
    disconnected(reason, now + delay, error, code);
  }

  function stop(reason: DisconnectReason, error?: ChatError, code?: number) {
    drop();
    token = null;
    tokenReason = 'connect';
    readySince = restartAt = 0;
    listen('removeEventListener');
    disconnected(reason, null, error, code);
  }

  function receive(data: string) {
    lastFrame = Date.now();
    if (pinging) heartbeat();
    let e: unknown;
    try {
      e = JSON.parse(data);
    } catch {
      return; // not a frame of this protocol
    }
    if (!isEnvelope(e)) return;
    const { type, data: d } = e;
    if (type === 'welcome') {
      if (welcome) return; // only the first one counts
      if (!isWelcome(d)) return lost(invalid());
      welcome = d;
      clockOffset = d.time - lastFrame;
      refreshBefore(d.expires);
      owner._welcome(d);
    } else if (type === 'connect-error') refusal = errorOf(d);
    else if (type === 'reconnect') {
      if (isObject(d) && isCount(d.afterMs)) restartAt = lastFrame + d.afterMs;
    } else if (type !== 'pong') owner._receive(e);
  }

  // A script in a browser cannot see the server's ping frames, so the client
  // sends pings of its own when the server has been silent for a while.
  function heartbeat() {
    pinging = false;
    const own = Math.max(welcome?.pingInterval || 25_000, PING_MIN);
    const left = lastFrame + (options.pingInterval ?? own) - Date.now();
    if (left <= 0) ping();
    else after(left, heartbeat);
  }

  function ping() {
    if (pinging) return; // an answer is due already
    pinging = true;
    write({ type: 'ping' });
    after(options.pongTimeout ?? 10_000, late);
  }

  function write(envelope: object | string) {
    ws?.send(typeof envelope === 'string' ? envelope : toJSON(envelope));
  }

  // Renews the token when a tenth of its life is left, or a minute if that is
  // less. If that fails, the server closes with 4003 later.
  function refreshBefore(expires: number | undefined) {
    clearTimeout(refreshTimer);
    tokenExpires = expires ? expires - clockOffset : Infinity;
    const left = tokenExpires - Date.now();
    if (left === Infinity || !options.getToken) return;
    const delay = Math.max(left - Math.min(left / 10, 60_000), REFRESH_MIN);
    const due = () => (delay > TIMER_MAX ? refreshBefore(expires) : refresh(run));
    refreshTimer = setTimeout(due, Math.min(delay, TIMER_MAX));
  }

  async function refresh(id: number) {
    try {
      const next = await askToken('refresh');
      if (next === null || id !== run) return;
      const expires = await owner._refresh(next);
      if (id !== run) return;
      token = next;
      refreshBefore(expires);
    } catch {
      // The old token stays valid until it expires.
    }
  }

  function wake() {
    if (state.status === 'connected') ping();
    else if (state.status === 'disconnected' && !isEnded() && restartAt === 0) open();
  }

  function listen(change: 'addEventListener' | 'removeEventListener') {
    for (const type of ['online', 'offline', 'visibilitychange']) globalThis[change]?.(type, noticed);
  }

  function noticed({ type }: { type: string }) {
    const connected = state.status === 'connected';
    if (type === 'offline' ? connected : type === 'online' || document.visibilityState === 'visible') wake();
  }

  return {
    get _state() {
      return state;
    },
    get _ready() {
      return ws !== null && state.status === 'connected';
    },
    get _stopped() {
      return isEnded() && (state as { reason: DisconnectReason }).reason !== 'idle';
    },
    get _socket() {
      return ws;
    },
    _open() {
      if (!isEnded()) return;
      attempt = 0;
      listen('addEventListener');
      open();
    },
    _close() {
      if (!isEnded()) stop('closed');
    },
    _wake: wake,
    _write: write,
    _markReady() {
      const { clientId, user } = welcome as Welcome;
      readySince = Date.now();
      heartbeat();
      setState({ status: 'connected', clientId, user });
    },
    _lost: lost,
    _postpone(ms) {
      if (state.status === 'connecting') expectWithin(ms);
    },
  };
}

// Returns the subprotocol that carries a token, since a script in a browser
// cannot set headers. A subprotocol has the characters of a token of RFC 9110
// only.
function bearer(token: string): string {
  if (/^[\w!#$%&'*+.^`|~-]+$/.test(token)) return `chathub.bearer.${token}`;
  const base64 = btoa(String.fromCharCode(...new TextEncoder().encode(token)));
  return `chathub.bearer64.${base64.replace(/[+/=]/g, (c) => '-_'['+/'.indexOf(c)] ?? '')}`;
}

// Completes a path with the page's origin, and turns http into ws.
function absolute(url: string): string {
  const full = url.startsWith('/') && globalThis.location ? location.origin + url : url;
  return full.replace(/^http/i, 'ws');
}
