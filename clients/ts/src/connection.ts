import { ChatError, errorOf } from './error.js';
import type { ChatOptions, TokenReason, WebSocketConstructor, WebSocketLike } from './options.js';
import type { Envelope, User, Welcome } from './protocol.js';

/** Why there is no connection. */
export type DisconnectReason =
  /** `connect()` was not called yet. */
  | 'idle'
  /** `close()` was called. */
  | 'closed'
  /** It broke, could not be made, or the server fell silent. */
  | 'lost'
  /** The server shuts down, and has said when to come back. */
  | 'restart'
  /** There is no token: `getToken` failed, or the last one has expired. */
  | 'token'
  /** The server does not want this client, or the URL is none: `error` says why. */
  | 'refused';

/** Never changed: a new state is a new object. */
export type ConnectionState =
  | { readonly status: 'connecting'; readonly attempt: number }
  | { readonly status: 'connected'; readonly clientId: string; readonly user: User }
  | {
      readonly status: 'disconnected';
      readonly reason: DisconnectReason;
      /** When the next attempt begins (Date.now()); null: never by itself. */
      readonly retryAt: number | null;
      /** The close code of the WebSocket, where there was one. */
      readonly code?: number | undefined;
      readonly error?: ChatError | undefined;
    };

/** What a Connection's owner does. */
export interface Owner {
  /** A connection was opened: answer with `ready()` once it can be used. */
  welcome(welcome: Welcome): void;
  receive(envelope: Envelope): void;
  /** The connection has gone, for whatever reason; `code` is the WebSocket's. */
  dropped(code: number | undefined): void;
  changed(state: ConnectionState): void;
  /** Hands a new token to the server; resolves to when it expires. */
  refresh(token: string): Promise<number | undefined>;
}

const IDLE = disconnected('idle', null);
const RESTART = 4000; // close codes
const TOKEN_EXPIRED = 4003;
const TIMER_MAX = 2 ** 31 - 1; // what setTimeout can wait

/** Connection is one WebSocket after the other: it connects, notices a dead server, and comes back. */
export class Connection {
  readonly #url: string;
  readonly #options: ChatOptions;
  readonly #owner: Owner;
  #state = IDLE;
  #ws: WebSocketLike | null = null;
  #run = 0; // counts attempts and ends: what is of an older one is void
  #attempt = 0; // connections tried since the last that lasted
  #readySince = 0;
  #token: string | null = null;
  #tokenReason: TokenReason = 'connect';
  #tokenExpires = Infinity; // by the clock of this machine
  #clockOffset = 0; // what the server's clock is ahead
  #restartAt = 0; // when the server asked to be called again; 0: it did not
  #refusal: ChatError | undefined; // what a connect-error said
  #welcome: Welcome | undefined;
  #heard = 0; // when anything came last
  #pinging = false;
  #timer: Timer; // connecting, waiting or heartbeat: one at a time
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

  /** Whether it is closed, for all that it knows for good. */
  get stopped(): boolean {
    const s = this.#state;
    return s.status === 'disconnected' && (s.reason === 'closed' || s.reason === 'refused');
  }

  /** Which connection it is now; null without one. */
  get socket(): object | null {
    return this.#ws;
  }

  /** Connects, unless it is at it already. */
  open(): void {
    if (this.#state.status !== 'disconnected' || this.#state.retryAt !== null) return;
    this.#attempt = 0;
    this.#listen(true);
    this.#open();
  }

  /** Ends the connection and all attempts. */
  close(): void {
    if (this.#state.status === 'disconnected' && this.#state.retryAt === null) return;
    this.#stop(disconnected('closed', null));
  }

  /** Something changed (network, page): connect now, or find out whether the server is there. */
  readonly wake = (): void => {
    if (this.#state.status === 'connected') this.#ping();
    else if (this.#state.status === 'disconnected' && this.#state.retryAt !== null && this.#restartAt === 0)
      this.#open();
  };

  /** Sends an envelope, or the text of one, unless the connection has gone. */
  write(envelope: object | string): void {
    this.#ws?.send(typeof envelope === 'string' ? envelope : JSON.stringify(envelope));
  }

  /** The owner's answer to `welcome`: events may flow. */
  markReady(): void {
    const { clientId, user } = this.#welcome as Welcome;
    this.#readySince = Date.now();
    this.#heartbeat();
    this.#setState({ status: 'connected', clientId, user });
  }

  /** Gives this connection up; the next one follows. */
  lost(error?: ChatError): void {
    this.#drop();
    this.#wait('lost', error);
  }

  async #open(): Promise<void> {
    const run = ++this.#run;
    this.#restartAt = 0;
    this.#refusal = undefined;
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
        if (err instanceof ChatError && err.code === 'unauthenticated') return this.#refuse(err);
        return this.#wait('token', new ChatError('unavailable', 'getToken failed', { cause: err }));
      }
      this.#tokenReason = 'connect';
      this.#tokenExpires = Infinity;
      this.#expectWithin();
    }

    const protocols = ['chathub.v1'];
    if (this.#token) protocols.push(`chathub.bearer.${this.#token}`);
    let ws: WebSocketLike;
    try {
      const Socket = this.#options.WebSocket ?? (globalThis.WebSocket as WebSocketConstructor);
      ws = new Socket(absolute(this.#url), protocols);
    } catch {
      // What was thrown may quote the token.
      return this.#refuse(
        new ChatError('bad_request', 'No WebSocket here, or one that the URL or the token does not fit'),
      );
    }
    this.#ws = ws;
    ws.onmessage = ({ data }: { data: unknown }) => this.#receive(data);
    ws.onclose = ({ code = 1006, reason = '' }: { code?: number; reason?: string }) => this.#closed(code, reason);
    ws.onerror = () => {}; // a close follows
  }

  #expectWithin(): void {
    clearTimeout(this.#timer);
    const slow = () => this.lost(new ChatError('timeout', 'Connecting took too long'));
    this.#timer = setTimeout(slow, this.#options.connectTimeout ?? 10_000);
  }

  async #askToken(reason: TokenReason): Promise<string | null> {
    return (await this.#options.getToken?.(reason)) ?? null;
  }

  #closed(code: number, reason: string): void {
    const refusal = this.#refusal;
    this.#drop(code);
    if (code >= 4500 && code <= 4999) {
      return this.#refuse(refusal ?? new ChatError('closed', reason || 'Closed by the server'), code);
    }
    if (code === TOKEN_EXPIRED) {
      this.#token = null;
      this.#tokenReason = 'expired';
      return this.#wait('token', refusal ?? new ChatError('token_expired', reason || 'The token has expired'), code);
    }
    this.#wait(this.#restartAt > 0 || code === RESTART ? 'restart' : 'lost', refusal, code);
  }

  // A close handshake with a server that is not there would take long: nobody waits for it.
  #drop(code?: number): void {
    this.#run++;
    this.#pinging = false;
    clearTimeout(this.#timer);
    clearTimeout(this.#refreshTimer);
    const ws = this.#ws;
    this.#ws = null;
    if (!ws) return;
    ws.onmessage = ws.onclose = null;
    ws.close(); // of no effect where it has closed
    this.#owner.dropped(code);
  }

  #wait(reason: DisconnectReason, error?: ChatError, code?: number): void {
    const now = Date.now();
    const max = this.#options.backoff?.max ?? 20_000;
    const min = this.#options.backoff?.min ?? 500;
    // A server that welcomes and then fails at once is not asked faster than one that fails at once.
    if (this.#readySince > 0 && now - this.#readySince > max) this.#attempt = 1;
    this.#readySince = 0;
    const cap = Math.min(max, min * 2 ** (this.#attempt - 1));
    const delay = this.#restartAt > 0 ? Math.max(0, this.#restartAt - now) : cap * Math.random();
    this.#timer = setTimeout(() => void this.#open(), delay);
    this.#setState(disconnected(reason, now + delay, code, error));
  }

  #refuse(error: ChatError, code?: number): void {
    this.#stop(disconnected('refused', null, code, error));
  }

  #stop(state: ConnectionState): void {
    this.#drop();
    this.#token = null;
    this.#tokenReason = 'connect';
    this.#readySince = 0;
    this.#restartAt = 0;
    this.#listen(false);
    this.#setState(state);
  }

  #setState(state: ConnectionState): void {
    this.#state = state;
    this.#owner.changed(state);
  }

  #receive(data: unknown): void {
    this.#heard = Date.now();
    if (this.#pinging) this.#heartbeat();
    let e: Envelope;
    try {
      e = JSON.parse(data as string);
      if (typeof e.type !== 'string') return;
    } catch {
      return; // not of this protocol
    }
    switch (e.type) {
      case 'welcome':
        this.#welcome = e.data as Welcome;
        this.#clockOffset = this.#welcome.time - Date.now();
        this.#refreshBefore(this.#welcome.expires);
        return this.#owner.welcome(this.#welcome);
      case 'connect-error':
        this.#refusal = errorOf(e.data);
        return;
      case 'reconnect':
        this.#restartAt = Date.now() + ((e.data as { afterMs?: number }).afterMs ?? 0);
        return;
      case 'pong':
        return;
      default:
        return this.#owner.receive(e);
    }
  }

  // A browser does not see ping frames: the client asks by itself where it has heard nothing for a while.
  #heartbeat(): void {
    this.#pinging = false;
    clearTimeout(this.#timer);
    const interval = this.#options.pingInterval ?? (this.#welcome?.pingInterval || 25_000);
    const left = this.#heard + interval - Date.now();
    if (left <= 0) return this.#ping();
    this.#timer = setTimeout(() => this.#heartbeat(), left);
  }

  #ping(): void {
    if (this.#pinging) return; // the answer is due soon enough
    this.#pinging = true;
    clearTimeout(this.#timer);
    this.write({ type: 'ping' });
    const silent = () => this.lost(new ChatError('timeout', 'The server has fallen silent'));
    this.#timer = setTimeout(silent, this.#options.pongTimeout ?? 10_000);
  }

  // In time: with a tenth of its life left, a minute at most. Where that fails, 4003 will tell.
  #refreshBefore(expires: number | undefined): void {
    clearTimeout(this.#refreshTimer);
    this.#tokenExpires = expires ? expires - this.#clockOffset : Infinity;
    const left = this.#tokenExpires - Date.now();
    if (left === Infinity || !this.#options.getToken) return;
    const delay = left - Math.min(left / 10, 60_000);
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
      // The old token holds until it expires.
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

// A path is of the page's own origin; http is ws.
function absolute(url: string): string {
  const full = url.startsWith('/') && globalThis.location ? location.origin + url : url;
  return full.replace(/^http/i, 'ws');
}
