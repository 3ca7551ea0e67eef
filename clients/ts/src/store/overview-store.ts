import type { ChatError, Envelope, OverviewConversation, OverviewRoom } from '../index.js';
import { changed, refersTo } from './message.js';
import { type AnyClient, Store } from './store.js';

/** Rooms and conversations for a sidebar. Immutable. */
export interface OverviewSnapshot<RoomData = unknown, PrivateData = unknown> {
  /** By name. Rooms that are unknown or refused are absent. */
  readonly rooms: Readonly<Record<string, OverviewRoom<RoomData>>>;
  /** The newest first. Empty unless `inbox` is set. */
  readonly conversations: readonly OverviewConversation<PrivateData>[];
  /** Whether the server has not answered yet. */
  readonly loading: boolean;
  /** Why there is no newer answer. */
  readonly error: ChatError | undefined;
}

export interface OverviewOptions {
  /** Whether to list the private conversations. */
  inbox?: boolean | undefined;
  /**
   * Asks the server again after this many ms. Default: only after a reconnect
   * and on `refresh`. Joined rooms and conversations need none of that.
   */
  every?: number | undefined;
}

type Next = (last: Envelope | undefined) => Envelope | undefined;

const same: Next = (last) => last;
const AT_ONCE = 500; // rooms: the server takes no more

/**
 * The newest message and the unread count of many rooms, which need not be
 * joined. Those of joined rooms, and of conversations, are live.
 */
export class OverviewStore extends Store<OverviewSnapshot> {
  readonly #client: AnyClient;
  readonly #names: ReadonlySet<string>;
  readonly #options: OverviewOptions;
  readonly #rooms = new Map<string, OverviewRoom>();
  readonly #conversations = new Map<string, OverviewConversation>(); // the newest last
  readonly #ends = new Map<string, () => void>(); // by conversation
  #loading = true;
  #error: ChatError | undefined;
  #asked = 0;

  constructor(client: AnyClient, rooms: readonly string[], options: OverviewOptions = {}) {
    super(client, { rooms: {}, conversations: [], loading: true, error: undefined });
    this.#client = client;
    this.#names = new Set(rooms);
    this.#options = options;
  }

  protected override _read(): OverviewSnapshot {
    return {
      rooms: Object.fromEntries(this.#rooms),
      conversations: [...this.#conversations.values()].reverse(),
      loading: this.#loading,
      error: this.#error,
    };
  }

  /** Asks the server again. */
  readonly refresh = async (): Promise<void> => {
    const asked = ++this.#asked;
    this.#error = undefined;
    try {
      let { inbox } = this.#options;
      const names = [...this.#names];
      do {
        const part = names.splice(0, AT_ONCE);
        const { rooms, conversations = [] } = await this.#client.overview({ rooms: part, inbox });
        if (asked !== this.#asked) return;
        for (const name of part) {
          const room = rooms[name];
          if (room) this.#rooms.set(name, room);
          else this.#rooms.delete(name);
        }
        if (inbox) this.#conversations.clear();
        for (const c of [...conversations].reverse()) {
          this.#conversations.set(c.user.id, c);
          this.#follow(c.user.id);
        }
        inbox = undefined;
      } while (names.length > 0);
    } catch (err) {
      if (asked !== this.#asked) return;
      this.#error = err as ChatError;
    }
    this.#loading = false;
    this._changed();
  };

  override readonly actions = { refresh: this.refresh };

  protected override _start(): () => void {
    const client = this.#client;
    const { every } = this.#options;
    const ends = [
      ...[...this.#names].map((name) => client.room(name).onRead(() => this.#room(name, same))),
      client.onState(({ status }) => status === 'connected' && void this.refresh()),
      client.on('room-message', (_, e) => this.#room(e.room, () => e)),
      client.on('private-message', (_, e) => this.#conversation(e, () => e)),
      client.onSend((e) => {
        // The server does not send it to this client.
        if (e.status !== 'sent' || e.message.type !== 'private-message') return;
        const sent = { ...e.message, from: client.user, ...e.receipt } as Envelope;
        this.#conversation(sent, () => sent);
      }),
      client.on('message-changed', (data, e) => {
        // It may be of another message.
        const isNew = (last: Envelope) => refersTo(data, last) && (e.seq ?? 0) > (last.version ?? 0);
        const next: Next = (last) => (last && isNew(last) ? changed(last, data, e.seq ?? 0) : last);
        if (e.room !== undefined) this.#room(e.room, next);
        else this.#conversation(e, next);
      }),
    ];
    const timer = every && setInterval(this.refresh, every);
    if (client.state.status === 'connected') void this.refresh();
    return () => {
      for (const end of [...ends, ...this.#ends.values()]) end();
      this.#ends.clear();
      clearInterval(timer);
      this.#asked++;
    };
  }

  #room(name = '', next: Next): void {
    if (!this.#names.has(name)) return;
    const { read = 0, unread = 0 } = this.#client.room(name);
    const old = this.#rooms.get(name);
    const last = next(old?.last);
    const { epoch = '', seq = 0 } = { ...old, ...last };
    this.#rooms.set(name, { epoch, seq, read, unread, ...(last && { last }) });
    this._changed();
  }

  #conversation({ from, to = '' }: Pick<Envelope, 'from' | 'to'>, next: Next): void {
    if (!this.#options.inbox) return;
    const other = from?.id === this.#client.user?.id ? undefined : from;
    const id = other?.id ?? to;
    const { read = 0, unread = 0 } = this.#client.conversation(id);
    const old = this.#conversations.get(id);
    const last = next(old?.last);
    if (last?.seq !== old?.last?.seq) this.#conversations.delete(id);
    this.#conversations.set(id, { user: other ?? old?.user ?? { id, name: id }, read, unread, ...(last && { last }) });
    this.#follow(id);
    this._changed();
  }

  #follow(to: string): void {
    if (this.#ends.has(to)) return;
    this.#ends.set(
      to,
      this.#client.conversation(to).onRead(() => this.#conversation({ to }, same)),
    );
  }
}
