import { newId, type Outgoing, type Receipt, type Room, type RoomState, type SendEvent } from '../index.js';
import { type Message, Messages } from './messages.js';
import { type AnyClient, Store } from './store.js';

/** The data of `useRoom`. Immutable: a change makes a new object. */
export interface RoomSnapshot<Data = unknown> extends RoomState {
  /**
   * First the messages of the server's log, then those that are being sent or
   * have failed.
   */
  readonly messages: readonly Message<Data>[];
  /** Whether the server may have older messages for `loadMore`. */
  readonly hasMore: boolean;
  /** Whether `loadMore` is running. */
  readonly loading: boolean;
  /**
   * False after a reconnect that could not deliver all missed messages.
   * `loadMore` loads them, if the server still has them.
   */
  readonly recovered: boolean;
}

export const EMPTY_ROOM: RoomSnapshot<never> = {
  status: 'left',
  users: [],
  count: 0,
  typing: [],
  messages: [],
  hasMore: false,
  loading: false,
  recovered: true,
};

const KEEP = 1_000; // messages per room

/** A room with its messages. It is joined while it has subscribers. */
export class RoomStore extends Store<RoomSnapshot> {
  readonly #client: AnyClient;
  readonly #room: Room;
  readonly #messages = new Messages(KEEP);
  readonly #history: number;
  #epoch: string | undefined;
  #user: string | undefined; // the user that these messages were sent to
  #head = 0; // the last seq of the log when the room was joined
  #before: number | undefined; // the lowest seq loaded, of any type of event
  #more: boolean | undefined; // whether the log has older events, once known
  #gaps = 0; // counts the times that older events were dropped
  #loading = false;
  #recovered = true;
  #snapshot: RoomSnapshot | undefined = EMPTY_ROOM; // until something changes

  constructor(client: AnyClient, room: Room, history: number) {
    super(client);
    this.#client = client;
    this.#room = room;
    this.#history = history;
  }

  override get snapshot(): RoomSnapshot {
    this.#snapshot ??= {
      ...this.#room.state,
      messages: this.#messages.all,
      hasMore: this.#hasMore,
      loading: this.#loading,
      recovered: this.#recovered,
    };
    return this.#snapshot;
  }

  // Before the first page this is a guess: nothing comes before seq 1, but gaps
  // in the numbers mean nothing.
  get #hasMore(): boolean {
    return this.#more ?? (this.#messages.oldest ?? this.#head) > 1;
  }

  readonly send = (data: unknown): Promise<Receipt> => this.#send(newId(), data);

  readonly retry = (id: string): Promise<Receipt> => this.#messages.again(id, (id, data) => this.#send(id, data));

  readonly discard = (id: string): void => {
    this.#client.discard(id);
    this.#messages.remove(id);
    this.#update();
  };

  readonly typing = (): void => this.#room.typing();
  readonly stopTyping = (): void => this.#room.stopTyping();

  readonly loadMore = async (limit = this.#history || 50): Promise<void> => {
    if (this.#loading || this.#room.state.status !== 'joined' || !this.#hasMore) return;
    const gaps = this.#gaps;
    this.#loading = true;
    this.#update();
    try {
      // A page may have no messages, but other durable events of the
      // application.
      for (let found = false; !found && this.#hasMore; ) {
        const before = this.#before ?? this.#messages.oldest;
        const page = await this.#room.history({ limit, before });
        if (gaps !== this.#gaps) return; // there would be a hole behind it
        const messages = page.messages.filter((e) => e.type === 'room-message');
        this.#messages.take(messages);
        this.#before = Math.min(...page.messages.map((e) => e.seq ?? Infinity));
        this.#more = page.more && this.#before < (before ?? Infinity);
        found = messages.length > 0;
      }
    } finally {
      this.#loading = false;
      this.#update();
    }
  };

  protected override get busy(): boolean {
    return this.#client.outbox.some((m) => this.#isMine(m));
  }

  protected override start(): () => void {
    const room = this.#room;
    for (const m of this.#client.outbox) if (this.#isMine(m)) this.#messages.queued(m, this.#client.user);
    const ends = [
      room.onState(() => this.#update()),
      room.onJoined(({ epoch, seq, recovered, resumed }) => {
        this.#recovered = recovered || !resumed;
        if (this.#user !== undefined && this.#user !== this.#client.user?.id) this.#messages.clear();
        this.#user = this.#client.user?.id;
        if (this.#epoch !== epoch || !resumed || !recovered) {
          // Between what is here and what follows there may be other messages.
          if (this.#epoch === epoch) this.#messages.dropLog();
          else if (this.#epoch !== undefined) this.#messages.newLife();
          this.#dropped(undefined);
        }
        this.#epoch = epoch;
        this.#head = seq;
        this.#update();
      }),
      room.on('room-message', (_, e) => {
        this.#messages.take([e]);
        if (this.#messages.trim()) this.#dropped(true);
        this.#update();
      }),
      this.#client.onSend((event) => this.#sending(event)),
    ];
    room.join({ history: this.#history }).catch(() => {}); // the state has the error
    this.#update();
    if (room.state.status === 'joined') {
      // The application joined it before, and its messages came then.
      this.#epoch = room.position?.epoch;
      this.#more = true;
      this.#update();
      if (this.#history > 0) this.loadMore(this.#history).catch(() => {});
    }
    return () => {
      for (const end of ends) end();
      room.leave();
      this.#messages.clear();
      this.#dropped(undefined);
      this.#epoch = undefined;
      this.#head = 0;
      this.#recovered = true;
      this.#update();
    };
  }

  #send(id: string, data: unknown): Promise<Receipt> {
    const sent = this.#room.send(data, { id });
    sent.catch(() => {}); // the message has the error
    return sent;
  }

  #isMine(m: Outgoing): boolean {
    return m.room === this.#room.name && m.type === 'room-message';
  }

  #sending(event: SendEvent): void {
    const { message } = event;
    if (!this.#isMine(message)) return;
    if (event.status === 'queued') this.#messages.queued(message, this.#client.user);
    else if (event.status === 'sent') this.#messages.acknowledged(message, event.receipt);
    else this.#messages.failed(message, event.error, this.#client.user);
    this.#update();
    if (event.status !== 'queued') setTimeout(() => this.release());
  }

  // Older events are no longer here. `more` says whether the server has any.
  #dropped(more: boolean | undefined): void {
    this.#gaps++;
    this.#more = more;
    this.#before = undefined;
  }

  #update(): void {
    this.#snapshot = undefined;
    this.changed();
  }
}
