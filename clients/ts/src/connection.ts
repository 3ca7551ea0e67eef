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

/** The functions that a Connection calls. */
export interface Owner {
  /**
   * A connection was opened. The owner calls `markReady()` once it can be used.
   */
  welcome(welcome: Welcome): void;
  receive(envelope: Envelope): void;
  /**
   * The connection is gone, for whatever reason. `code` is the close code of
   * the WebSocket.
   */
  dropped(code: number | undefined): void;
  changed(state: ConnectionState): void;
  /** Sends a new token to the server. Resolves with the time of its expiry. */
  refresh(token: string): Promise<number | undefined>;
}

const IDLE = disconnected('idle', null);
const RESTART = 4000; // close codes
const TOKEN_EXPIRED = 4003;
const PING_MIN = 1_000; // the shortest interval that a server can ask for, in ms
const REFRESH_MIN = 1_000; // the shortest wait before a token is renewed, in ms

/**
 * Connection keeps one WebSocket open at a time. It connects, notices when the
 * server has died, and reconnects.
 */
export class Connection {
  readonly #url: string;
  readonly #options: ChatOptions;
  readonly #owner: Owner;
  #state = IDLE;
  #ws: WebSocketLike | null = null;
  #run = 0; // counts attempts and ends, to recognise results of older ones
  #attempt = 0; // attempts since the last connection that lasted
  #readySince = 0;
  #token: string | null = null;
  #tokenReason: TokenReason = 'connect';
  #tokenExpires = Infinity; // by the local clock
  #clockOffset = 0; // how far the server's clock is ahead
  #restartAt = 0; // when the server asked the client to return, or 0
  #refusal: ChatError | undefined; // from a connect-error
  #welcome: Welcome | undefined;
  #lastFrame = 0; // when the last frame arrived
  #pinging = false;
  #timer: Timer; // for connecting, waiting or the heartbeat: one at a time
  #refreshTimer: Timer;

  constructor(url: string, options: ChatOptions, owner: Owner) {
    this.#url = url;
    this.#options = options;
    this.#owner = owner;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  get ready(): boolean {
    return this.#ws !== null && this.#state.status === 'connected';
  }

  /** Whether it is closed and makes no attempts by itself. */
  get stopped(): boolean {
    const s = this.#state;
    return s.status === 'disconnected' && (s.reason === 'closed' || s.reason === 'refused');
  }

  // Whether there is neither a connection nor to be another attempt.
  get #ended(): boolean {
    return this.#state.status === 'disconnected' && this.#state.retryAt === null;
  }

  /** Identifies the present connection. Null if there is none. */
  get socket(): object | null {
    return this.#ws;
  }

  /** Connects, unless it is connected or connecting already. */
  open(): void {
    if (!this.#ended) return;
    this.#attempt = 0;
    this.#listen(true);
    this.#open();
  }

  /** Ends the connection and all attempts. */
  close(): void {
    if (this.#ended) return;
    this.#stop('closed');
  }

  /**
   * To be called when the network or the page comes back. Connects at once, or
   * checks whether the server is alive.
   */
  readonly wake = (): void => {
    if (this.#state.status === 'connected') this.#ping();
    else if (this.#state.status === 'disconnected' && !this.#ended && this.#restartAt === 0) this.#open();
  };

  /** Sends an envelope or its text. Does nothing without a connection. */
  write(envelope: object | string): void {
    this.#ws?.send(typeof envelope === 'string' ? envelope : toJSON(envelope));
  }

  /** The owner's answer to `welcome`: the connection can be used. */
  markReady(): void {
    const { clientId, user } = this.#welcome as Welcome;
    this.#readySince = Date.now();
    this.#heartbeat();
    this.#setState({ status: 'connected', clientId, user });
  }

  /** Gives this connection up. Another attempt follows. */
  lost(error?: ChatError): void {
    this.#drop();
    this.#wait('lost', error);
  }

  /** The server has asked to wait: connecting may take that much longer. */
  postpone(ms: number): void {
    if (this.#state.status === 'connecting') this.#expectWithin(ms);
  }

  async #open(): Promise<void> {
    const run = ++this.#run;
    this.#restartAt = 0;
    this.#refusal = this.#welcome = undefined;
    this.#setState({ status: 'connecting', attempt: ++this.#attempt });
    if (run !== this.#run) return; // a listener has closed it

    this.#expectWithin();
    if (this.#options.getToken && (this.#token === null || this.#tokenExpires <= Date.now())) {
      try {
        const token = await this.#askToken(this.#tokenReason);
        if (run !== this.#run) return;
        this.#token = token;
      } catch (err) {
        if (run !== this.#run) return;
        this.#drop();
        if (err instanceof ChatError && err.code === 'unauthenticated') return this.#stop('refused', err);
        return this.#wait('token', new ChatError('unavailable', 'getToken failed', { cause: err }));
      }
      this.#tokenReason = 'connect';
      this.#tokenExpires = Infinity;
      this.#expectWithin();
    }

    let ws: WebSocketLike;
    try {
      const protocols = ['chathub.v1'];
      if (this.#token) protocols.push(bearer(this.#token));
      const Socket = this.#options.WebSocket ?? (globalThis.WebSocket as WebSocketConstructor);
      ws = new Socket(absolute(this.#url), protocols);
    } catch {
      // The cause is dropped because it may quote the token.
      return this.#stop('refused', new ChatError('bad_request', 'No WebSocket, or an invalid URL'));
    }
    this.#ws = ws;
    ws.onmessage = ({ data }: { data: unknown }) => this.#receive(data);
    ws.onclose = ({ code = 1006, reason = '' }: { code?: number; reason?: string }) => this.#closed(code, reason);
    ws.onerror = () => {}; // onclose follows
  }

  #expectWithin(more = 0): void {
    clearTimeout(this.#timer);
    const slow = () => this.lost(timedOut());
    this.#timer = setTimeout(slow, Math.min((this.#options.connectTimeout ?? 10_000) + more, TIMER_MAX));
  }

  async #askToken(reason: TokenReason): Promise<string | null> {
    return (await this.#options.getToken?.(reason)) ?? null;
  }

  #closed(code: number, reason: string): void {
    const refusal = this.#refusal;
    this.#drop(code);
    if (code >= 4500 && code <= 4999) {
      return this.#stop('refused', refusal ?? new ChatError('closed', reason || undefined), code);
    }
    if (code === TOKEN_EXPIRED) {
      this.#token = null;
      this.#tokenReason = 'expired';
      return this.#wait('token', refusal ?? new ChatError('token_expired', reason || undefined), code);
    }
    this.#wait(this.#restartAt > 0 || code === RESTART ? 'restart' : 'lost', refusal, code);
  }

  // Does not wait for the close handshake, which takes long if the server has
  // died.
  #drop(code?: number): void {
    this.#run++;
    this.#pinging = false;
    clearTimeout(this.#timer);
    clearTimeout(this.#refreshTimer);
    const ws = this.#ws;
    this.#ws = null;
    if (!ws) return;
    ws.onmessage = ws.onclose = null;
    ws.close(); // does nothing if it is closed already
    this.#owner.dropped(code);
  }

  #wait(reason: DisconnectReason, error?: ChatError, code?: number): void {
    const now = Date.now();
    const { max = 20_000, min = 500 } = this.#options.backoff ?? {};
    // The bound starts again only after a connection that lasted, so that a
    // server that fails right after the welcome gets no more attempts than a
    // dead one.
    if (this.#readySince > 0 && now - this.#readySince > max) this.#attempt = 1;
    this.#readySince = 0;
    const cap = Math.min(max, min * 2 ** (this.#attempt - 1));
    const delay = this.#restartAt > 0 ? Math.max(0, this.#restartAt - now) : cap * Math.random();
    this.#timer = setTimeout(() => void this.#open(), delay);
    this.#setState(disconnected(reason, now + delay, code, error));
  }

  #stop(reason: DisconnectReason, error?: ChatError, code?: number): void {
    this.#drop();
    this.#token = null;
    this.#tokenReason = 'connect';
    this.#readySince = 0;
    this.#restartAt = 0;
    this.#listen(false);
    this.#setState(disconnected(reason, null, code, error));
  }

  #setState(state: ConnectionState): void {
    this.#state = state;
    this.#owner.changed(state);
  }

  #receive(data: unknown): void {
    this.#lastFrame = Date.now();
    if (this.#pinging) this.#heartbeat();
    let e: unknown;
    try {
      e = JSON.parse(data as string);
    } catch {
      return; // not a frame of this protocol
    }
    if (!isEnvelope(e)) return;
    switch (e.type) {
      case 'welcome':
        if (this.#welcome) return; // only the first one counts
        if (!isWelcome(e.data)) return this.lost(invalid());
        this.#welcome = e.data;
        this.#clockOffset = this.#welcome.time - Date.now();
        this.#refreshBefore(this.#welcome.expires);
        return this.#owner.welcome(this.#welcome);
      case 'connect-error':
        this.#refusal = errorOf(e.data);
        return;
      case 'reconnect':
        if (isObject(e.data) && isCount(e.data.afterMs)) {
          this.#restartAt = Date.now() + Math.min(e.data.afterMs, TIMER_MAX);
        }
        return;
      case 'pong':
        return;
      default:
        return this.#owner.receive(e);
    }
  }

  // A script in a browser cannot see the server's ping frames, so the client
  // sends pings of its own when the server has been silent for a while.
  #heartbeat(): void {
    this.#pinging = false;
    clearTimeout(this.#timer);
    const own = Math.min(Math.max(this.#welcome?.pingInterval || 25_000, PING_MIN), TIMER_MAX);
    const interval = this.#options.pingInterval ?? own;
    const left = this.#lastFrame + interval - Date.now();
    if (left <= 0) return this.#ping();
    this.#timer = setTimeout(() => this.#heartbeat(), left);
  }

  #ping(): void {
    if (this.#pinging) return; // an answer is due already
    this.#pinging = true;
    clearTimeout(this.#timer);
    this.write({ type: 'ping' });
    const silent = () => this.lost(timedOut());
    this.#timer = setTimeout(silent, this.#options.pongTimeout ?? 10_000);
  }

  // Renews the token when a tenth of its life is left, or a minute if that is
  // less. If that fails, the server closes with 4003 later.
  #refreshBefore(expires: number | undefined): void {
    clearTimeout(this.#refreshTimer);
    this.#tokenExpires = expires ? expires - this.#clockOffset : Infinity;
    const left = this.#tokenExpires - Date.now();
    if (left === Infinity || !this.#options.getToken) return;
    const delay = Math.max(left - Math.min(left / 10, 60_000), REFRESH_MIN);
    const due = () => (delay > TIMER_MAX ? this.#refreshBefore(expires) : void this.#refresh(this.#run));
    this.#refreshTimer = setTimeout(due, Math.min(delay, TIMER_MAX));
  }

  async #refresh(run: number): Promise<void> {
    try {
      const token = await this.#askToken('refresh');
      if (token === null || run !== this.#run) return;
      const expires = await this.#owner.refresh(token);
      if (run !== this.#run) return;
      this.#token = token;
      this.#refreshBefore(expires);
    } catch {
      // The old token stays valid until it expires.
    }
  }

  #listen(on: boolean): void {
    const change = on ? 'addEventListener' : 'removeEventListener';
    for (const type of ['online', 'offline', 'visibilitychange']) globalThis[change]?.(type, this.#noticed);
  }

  readonly #noticed = ({ type }: { type: string }): void => {
    const wakes = type === 'offline' ? this.ready : type === 'online' || document.visibilityState === 'visible';
    if (wakes) this.wake();
  };
}

type Timer = ReturnType<typeof setTimeout> | undefined;

function disconnected(
  reason: DisconnectReason,
  retryAt: number | null,
  code?: number,
  error?: ChatError,
): ConnectionState {
  return { status: 'disconnected', reason, retryAt, code, error };
}

// Returns the subprotocol that carries a token, since a script in a browser
// cannot set headers. A subprotocol has the characters of a token of RFC 9110
// only.
function bearer(token: string): string {
  if (/^[\w!#$%&'*+.^`|~-]+$/.test(token)) return `chathub.bearer.${token}`;
  const base64 = btoa(String.fromCharCode(...new TextEncoder().encode(token))).replace(
    /[+/=]/g,
    (c) => ({ '+': '-', '/': '_' })[c] ?? '',
  );
  return `chathub.bearer64.${base64}`;
}

// Completes a path with the page's origin, and turns http into ws.
function absolute(url: string): string {
  const full = url.startsWith('/') && globalThis.location ? location.origin + url : url;
  return full.replace(/^http/i, 'ws');
}
