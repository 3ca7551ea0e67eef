import type { Changed, ChatError, Envelope, OverviewConversation, OverviewRoom } from '../index.js';
import { type AnyClient, Store } from './store.js';

/** Rooms and conversations for a sidebar. Immutable. */
export interface OverviewSnapshot<RoomData = unknown, PrivateData = unknown> {
  /** By name. Rooms that are unknown or refused are absent. */
  readonly rooms: Readonly<Record<string, OverviewRoom<RoomData>>>;
  /** The newest first. Empty unless `inbox` is set. */
  readonly conversations: readonly OverviewConversation<PrivateData>[];
  /** Whether the server has not answered yet. */
  readonly loading: boolean;
  /** Why the server's last answer is missing. */
  readonly error: ChatError | undefined;
}

export interface OverviewOptions {
  /** Whether to list the private conversations. */
  inbox?: boolean | undefined;
  /**
   * Asks the server again after this many ms. Default: only after a reconnect
   * and on `refresh`. Live messages come from rooms that are joined.
   */
  every?: number | undefined;
}

const AT_ONCE = 500; // rooms: the server takes no more

/**
 * The newest message and the unread count of many rooms, which need not be
 * joined. Those of joined rooms, and of conversations, are live.
 */
export class OverviewStore extends Store<OverviewSnapshot> {
  readonly #client: AnyClient;
  readonly #names: readonly string[];
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
    this.#names = rooms;
    this.#options = options;
  }

  protected override read(): OverviewSnapshot {
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
    try {
      const { inbox } = this.#options;
      const names = [...this.#names];
      do {
        const part = names.splice(0, AT_ONCE);
        const { rooms, conversations } = await this.#client.overview(
          names.length > 0 ? { rooms: part } : { rooms: part, inbox },
        );
        if (asked !== this.#asked) return;
        for (const name of part) {
          const room = rooms[name];
          if (room) this.#rooms.set(name, room);
          else this.#rooms.delete(name);
        }
        if (conversations) this.#conversations.clear();
        for (const c of [...(conversations ?? [])].reverse()) {
          this.#conversations.set(c.user.id, c);
          this.#follow(c.user.id);
        }
      } while (names.length > 0);
      this.#error = undefined;
    } catch (err) {
      if (asked !== this.#asked) return;
      this.#error = err as ChatError;
    }
    this.#loading = false;
    this.changed();
  };

  protected override start(): () => void {
    const client = this.#client;
    const { every } = this.#options;
    const ends = this.#names.map((name) => client.room(name).onRead(() => this.#room(name)));
    ends.push(
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
        if (e.room !== undefined) this.#room(e.room, (last) => changed(last, data));
        else this.#conversation(e, (last) => changed(last, data));
      }),
    );
    const timer = every && setInterval(this.refresh, every);
    if (client.state.status === 'connected') void this.refresh();
    return () => {
      for (const end of [...ends, ...this.#ends.values()]) end();
      this.#ends.clear();
      clearInterval(timer);
      this.#asked++;
    };
  }

  #room(name = '', next: Next = (last) => last): void {
    if (!this.#names.includes(name)) return;
    const { epoch = '', seq = 0, read = 0, unread = 0, last } = this.#rooms.get(name) ?? {};
    const now = next(last);
    const room = this.#client.room(name);
    this.#rooms.set(name, {
      epoch: now?.epoch ?? epoch,
      seq: Math.max(seq, now?.seq ?? 0),
      read: room.read ?? read,
      unread: room.unread ?? unread,
      ...(now && { last: now }),
    });
    this.changed();
  }

  #conversation({ from, to = '' }: Pick<Envelope, 'from' | 'to'>, next: Next = (last) => last): void {
    if (!this.#options.inbox) return;
    const other = from && from.id !== this.#client.user?.id ? from : undefined;
    const id = other?.id ?? to;
    const old = this.#conversations.get(id);
    const channel = this.#client.conversation(id);
    const now = next(old?.last);
    if (now?.seq !== old?.last?.seq) this.#conversations.delete(id);
    this.#conversations.set(id, {
      user: other ?? old?.user ?? { id, name: id },
      read: channel.read ?? old?.read ?? 0,
      unread: channel.unread ?? old?.unread ?? 0,
      ...(now && { last: now }),
    });
    this.#follow(id);
    this.changed();
  }

  #follow(to: string): void {
    if (this.#ends.has(to)) return;
    this.#ends.set(
      to,
      this.#client.conversation(to).onRead(() => this.#conversation({ to })),
    );
  }
}

type Next = (last: Envelope | undefined) => Envelope | undefined;

// The newest message after a change, which may be of another message.
function changed(last: Envelope | undefined, { seq, id, author, message }: Changed): Envelope | undefined {
  const same = id === undefined ? seq === last?.seq : id === last?.id && author === last?.from?.id;
  if (!last || !same) return last;
  const { edited, reactions, ...kept } = last;
  return { ...kept, ...message, data: message.deleted === undefined ? (message.data ?? last.data) : undefined };
}
