// The chathub.v1 protocol: one connection that comes back by itself. No DOM.

/** How many messages are asked for at once. */
export const HISTORY = 50;

const CONNECT_TIMEOUT = 10_000; // until the welcome
const PONG_TIMEOUT = 10_000; // until anything at all arrives after a ping
const BACKOFF_MIN = 500;
const BACKOFF_MAX = 20_000;
const TYPING_EVERY = 2_000;
const TIMER_MAX = 2 ** 31 - 1; // what setTimeout can wait

const TRY_AGAIN = new Set(['rate_limited', 'unavailable']);

/**
 * Chat speaks to a hub. It dispatches, as CustomEvents with a detail:
 *
 *   state    {name: 'connecting'|'online'|'waiting'|'stopped', at?, restart?, code?, message?}
 *   welcome  the welcome's data
 *   room     {room, users, count, recovered, resumed}: a room is joined (again)
 *   refused  {room, code, message}: a room cannot be joined
 *   sent     {id, seq, ts}: a durable message is in the hub's log
 *   failed   {id, code, message}: a durable message was refused for good
 *   event    an envelope, durable ones exactly once and in order
 */
export class Chat extends EventTarget {
  #url;
  #getToken;
  #ws = null;
  #state = 'stopped';
  #attempt = 0; // connections tried since the last that worked
  #renew = false; // the next connection needs a new token
  #restart = 0; // when the server asked to be called again, if it did
  #refusal = null; // what a connect-error said
  #timer = 0; // connecting, waiting or heartbeat: one at a time
  #refresh = 0; // the timer that renews the token in time
  #offset = 0; // server time minus ours
  #pingInterval = 0;
  #maxMessage = Infinity;
  #rooms = new Map(); // name -> position {epoch, seq}, null until joined
  #inbox = null; // position
  #queue; // durable envelopes not acknowledged yet, oldest first
  #inFlight = false; // whether the first of them was sent on this connection
  #hold = 0; // the timer that keeps them back, where the server asked for it
  #requests = new Map(); // id -> {envelope, done}, of this connection
  #typing = new Map(); // room -> {at, on}: when typing was sent last, and whether it still holds

  /**
   * url: ws or wss. getToken(renew): resolves to a token; an error with `stop`
   * set ends all attempts. queue: what an earlier page had not got rid of.
   */
  constructor({ url, getToken, queue = [] }) {
    super();
    this.#url = url;
    this.#getToken = getToken;
    this.#queue = [...queue];
  }

  get state() {
    return this.#state;
  }

  /** The durable envelopes that the hub has not acknowledged, oldest first. */
  get queue() {
    return [...this.#queue];
  }

  connect() {
    if (this.#state === 'stopped') this.#open();
  }

  /** Ends the connection and all attempts. */
  close() {
    this.#drop();
    this.#setState('stopped');
  }

  /** Something changed (network, tab): connect now, or find out whether the server is there. */
  wake() {
    if (this.#state === 'waiting') this.#open();
    else if (this.#state === 'online') this.#ping();
  }

  join(room) {
    if (this.#rooms.has(room)) return;
    this.#rooms.set(room, null);
    if (this.#state === 'online') this.#joinNow(room);
  }

  leave(room) {
    this.#rooms.delete(room);
    this.#typing.delete(room);
    const gone = this.#queue.filter((e) => e.room === room);
    if (gone.includes(this.#queue[0])) this.#inFlight = false;
    this.#queue = this.#queue.filter((e) => e.room !== room);
    for (const { id } of gone) this.#emit('failed', { id, code: 'not_in_room', message: 'You left the room' });
    if (this.#state === 'online') this.#write({ type: 'leave-room', room });
    this.#flush();
  }

  /** Queues a durable message and returns its id, the same in every attempt. */
  send(envelope) {
    const id = envelope.id ?? newID();
    this.#queue.push({ ...envelope, id });
    queueMicrotask(() => this.#flush()); // the caller knows the id before it hears of it
    return id;
  }

  /** Asks for the messages of a room before a position; done(error, data). */
  history(room, before, done) {
    if (this.#state !== 'online') return done({ code: 'unavailable', message: 'Not connected' });
    this.#request({ type: 'history', room, data: { before, limit: HISTORY } }, done);
  }

  /** To be called at every key: says so at most every two seconds. */
  typing(room) {
    const now = Date.now();
    if (this.#state !== 'online' || now - (this.#typing.get(room)?.at ?? 0) < TYPING_EVERY) return;
    this.#typing.set(room, { at: now, on: true });
    this.#write({ type: 'typing', room });
  }

  stopTyping(room) {
    const typing = this.#typing.get(room);
    if (!typing?.on) return;
    typing.on = false;
    this.#write({ type: 'stop-typing', room });
  }

  // Connecting.

  async #open() {
    clearTimeout(this.#timer);
    this.#setState('connecting');
    const attempt = ++this.#attempt;
    this.#restart = 0;
    this.#refusal = null;
    let token;
    try {
      token = await this.#getToken(this.#renew);
    } catch (err) {
      if (this.#state !== 'connecting' || attempt !== this.#attempt) return;
      if (err.stop) return this.#stop(err.code, err.message);
      return this.#wait();
    }
    if (this.#state !== 'connecting' || attempt !== this.#attempt) return; // closed meanwhile
    this.#renew = false;
    const ws = new WebSocket(this.#url, ['chathub.v1', `chathub.bearer.${token}`]);
    this.#ws = ws;
    ws.onmessage = ({ data }) => this.#receive(data);
    ws.onclose = ({ code, reason }) => this.#closed(code, reason);
    this.#timer = setTimeout(() => this.#lost(), CONNECT_TIMEOUT);
  }

  #closed(code, reason) {
    this.#drop();
    if (code >= 4500 && code <= 4999) return this.#stop(code, this.#refusal?.message || reason);
    if (code === 4003) this.#renew = true;
    this.#wait();
  }

  // The server is there no longer, whatever the socket says: a close handshake
  // would have to wait for it.
  #lost() {
    this.#drop();
    this.#wait();
  }

  #drop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#refresh);
    clearTimeout(this.#hold);
    this.#hold = 0;
    const ws = this.#ws;
    this.#ws = null;
    this.#inFlight = false;
    this.#typing.clear();
    const requests = [...this.#requests.values()];
    this.#requests.clear();
    if (ws) {
      ws.onmessage = ws.onclose = null;
      ws.close();
    }
    for (const { done } of requests) done({ code: 'unavailable', message: 'Connection lost' });
  }

  #wait() {
    const now = Date.now();
    const restart = this.#restart > 0;
    const cap = Math.min(BACKOFF_MAX, BACKOFF_MIN * 2 ** Math.min(this.#attempt, 10));
    const delay = restart ? Math.max(0, this.#restart - now) : cap * Math.random();
    this.#setState('waiting', { at: now + delay, restart });
    this.#timer = setTimeout(() => this.#open(), delay);
  }

  #stop(code, message) {
    this.#setState('stopped', { code, message });
  }

  #setState(name, more = {}) {
    this.#state = name;
    this.#emit('state', { name, ...more });
  }

  // Receiving.

  #receive(text) {
    const e = JSON.parse(text);
    if (this.#state === 'online') this.#alive();
    switch (e.type) {
      case 'welcome':
        return this.#welcome(e.data);
      case 'connect-error':
        this.#refusal = e.data;
        return;
      case 'reconnect':
        this.#restart = Date.now() + e.data.afterMs;
        return;
      case 'ack':
      case 'error':
        return this.#answer(e);
      case 'pong':
        return;
    }
    if (e.ack) this.#write({ type: 'ack', id: e.id, data: null });
    // What a log holds comes again after the answer to resume, in its place.
    if (e.seq !== undefined && (this.#state !== 'online' || !this.#isNew(e))) return;
    this.#emit('event', e);
  }

  #welcome(data) {
    this.#pingInterval = data.pingInterval || 25_000;
    this.#maxMessage = data.maxMessage || Infinity;
    this.#offset = data.time - Date.now();
    if (data.expires) this.#refreshBefore(data.expires);
    this.#emit('welcome', data);

    // From the inbox's beginning where this page has seen nothing of it: that
    // is how messages arrive that were sent while the user was away.
    this.#inbox ??= { epoch: data.inbox.epoch, seq: 0 };
    const known = [...this.#rooms].filter(([, position]) => position);
    // fromEntries makes own properties, so a room may be called __proto__.
    const resume = { rooms: Object.fromEntries(known), inbox: this.#inbox };
    this.#request({ type: 'resume', data: resume }, (err, reply) => {
      if (err) return this.#ws && this.#lost();
      this.#attempt = 0;
      if (this.#inbox.epoch !== reply.inbox.epoch) this.#inbox = { epoch: reply.inbox.epoch, seq: 0 };
      for (const [room, info] of Object.entries(reply.rooms)) this.#joined(room, info, true);
      this.#setState('online');
      this.#alive();
      for (const [room, position] of this.#rooms) if (!position) this.#joinNow(room);
      this.#flush();
    });
  }

  #joinNow(room) {
    this.#request({ type: 'join-room', room, data: { history: HISTORY } }, (err, info) => {
      if (!err) this.#joined(room, info, false);
      else if (this.#ws) this.#refused(room, err); // otherwise the next connection asks again
    });
  }

  // The messages of the room follow its answer: each moves the position.
  #joined(room, info, resumed) {
    if (info.error) return this.#refused(room, info.error);
    if (!this.#rooms.has(room)) return this.#write({ type: 'leave-room', room }); // left meanwhile
    if (this.#rooms.get(room)?.epoch !== info.epoch) this.#rooms.set(room, { epoch: info.epoch, seq: 0 });
    this.#emit('room', { ...info, room, resumed });
    this.#flush();
  }

  #refused(room, error) {
    if (this.#rooms.delete(room)) this.#emit('refused', { room, ...error });
    this.#flush();
  }

  // Only what a log holds has a seq.
  #isNew(e) {
    const position = e.room === undefined ? this.#inbox : this.#rooms.get(e.room);
    if (!position || e.seq <= position.seq) return false;
    position.seq = e.seq;
    return true;
  }

  // Heartbeat: a browser does not see ping frames, so the page asks by itself
  // where it has heard nothing for a while.
  #alive() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ping(), this.#pingInterval);
  }

  #ping() {
    clearTimeout(this.#timer);
    this.#write({ type: 'ping' });
    this.#timer = setTimeout(() => this.#lost(), PONG_TIMEOUT);
  }

  #refreshBefore(expires) {
    const left = expires - Date.now() - this.#offset;
    this.#refresh = setTimeout(async () => {
      const ws = this.#ws;
      const token = await this.#getToken(true).catch(() => null); // 4003 will tell
      if (!token || ws !== this.#ws) return;
      this.#request({ type: 'refresh-token', data: { token } }, (err, reply) => {
        if (!err && reply?.expires) this.#refreshBefore(reply.expires);
      });
    }, Math.min(left * 0.9, TIMER_MAX));
  }

  // Sending.

  #write(envelope) {
    this.#ws?.send(JSON.stringify(envelope));
  }

  // A request is of this connection. What the server cannot do now is asked again.
  #request(envelope, done) {
    const id = newID();
    this.#requests.set(id, { envelope: { ...envelope, id }, done });
    this.#write({ ...envelope, id });
  }

  #answer(e) {
    const first = this.#queue[0];
    if (this.#inFlight && e.id === first?.id) return this.#answerSend(first, e);
    const request = this.#requests.get(e.id);
    if (!request) return; // of an event that needs no answer, such as typing
    if (e.type === 'error' && TRY_AGAIN.has(e.data.code)) {
      const ws = this.#ws;
      setTimeout(() => ws === this.#ws && this.#write(request.envelope), e.data.retryAfterMs ?? 1_000);
      return;
    }
    this.#requests.delete(e.id);
    if (e.type === 'ack') request.done(null, e.data);
    else request.done(e.data);
  }

  // One message is on its way at a time, so that one that has to be repeated
  // is not overtaken by the next.
  #flush() {
    if (this.#state !== 'online' || this.#inFlight || this.#hold || this.#queue.length === 0) return;
    const first = this.#queue[0];
    if (this.#rooms.get(first.room) === null) return; // once it is joined
    const text = JSON.stringify(first);
    if (new TextEncoder().encode(text).length > this.#maxMessage) {
      this.#queue.shift();
      this.#emit('failed', { id: first.id, code: 'too_large', message: 'The message is too long' });
      return this.#flush();
    }
    this.#inFlight = true;
    this.#ws.send(text);
  }

  #answerSend(first, e) {
    this.#inFlight = false;
    if (e.type === 'error' && TRY_AGAIN.has(e.data.code)) {
      this.#hold = setTimeout(() => {
        this.#hold = 0;
        this.#flush();
      }, e.data.retryAfterMs ?? 1_000);
      return;
    }
    this.#queue.shift();
    if (e.type === 'ack') this.#emit('sent', { id: first.id, seq: e.seq, ts: e.ts });
    else this.#emit('failed', { id: first.id, ...e.data });
    this.#flush();
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

// crypto.randomUUID is not there on a plain http origin.
function newID() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
}
