import { ChatError, newId, type Outgoing, type Receipt, type Room, type RoomState, type SendEvent } from '../index.js';
import { type Message, Messages } from './messages.js';
import { type AnyClient, Store } from './store.js';

/** What `useRoom` shows. Never changed: a new state is a new object. */
export interface RoomSnapshot<Data = unknown> extends RoomState {
  /** In order: what the log has, then what is being sent or has failed. */
  readonly messages: readonly Message<Data>[];
  /** Whether `loadMore` may find older messages. */
  readonly hasMore: boolean;
  readonly loading: boolean;
  /** False after a reconnect that could not bring all that was missed: older messages are to be had by `loadMore`. */
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

const KEEP = 1_000; // messages of a room

/** A room that is joined as long as somebody subscribes, with its messages. */
export class RoomStore extends Store<RoomSnapshot> {
  readonly #client: AnyClient;
  readonly #room: Room;
  readonly #messages = new Messages(KEEP);
  #history: number;
  #epoch: string | undefined;
  #user: string | undefined; // who has seen what is here
  #more: boolean | undefined; // whether the log has older ones, once that is known
  #loading = false;
  #recovered = true;
  #snapshot: RoomSnapshot;

  constructor(client: AnyClient, name: string, history: number) {
    super(client);
    this.#client = client;
    this.#room = client.room(name);
    this.#history = history;
    this.#snapshot = EMPTY_ROOM;
  }

  override get snapshot(): RoomSnapshot {
    return this.#snapshot;
  }

  readonly send = (data: unknown): Promise<Receipt> => this.#send(newId(), data);

  /** Sends a message that has failed once more, with the same id: it is stored once. */
  readonly retry = (id: string): Promise<Receipt> => {
    const message = this.#messages.find(id);
    if (!message) return Promise.reject(new ChatError('bad_request', 'There is no such message'));
    return this.#send(id, message.data);
  };

  /** Gives up a message that is being sent or has failed. */
  readonly discard = (id: string): void => {
    this.#client.discard(id);
    this.#messages.remove(id);
    this.#update();
  };

  readonly typing = (): void => this.#room.typing();
  readonly stopTyping = (): void => this.#room.stopTyping();

  /** Gets older messages; resolves when they are in `messages`. */
  readonly loadMore = async (limit = this.#history || 50): Promise<void> => {
    if (this.#loading || this.#room.state.status !== 'joined' || !this.#snapshot.hasMore) return;
    const epoch = this.#epoch;
    const before = this.#messages.oldest;
    this.#loading = true;
    this.#update();
    try {
      const page = await this.#room.history({ limit, ...(before !== undefined && { before }) });
      if (epoch !== this.#epoch) return; // numbers of another log
      this.#messages.take(page.messages);
      this.#more = page.more;
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
      room.onJoined(({ epoch, recovered, resumed }) => {
        this.#recovered = recovered || !resumed;
        if (this.#user !== undefined && this.#user !== this.#client.user?.id) this.#messages.clear();
        this.#user = this.#client.user?.id;
        if (this.#epoch !== undefined && this.#epoch !== epoch) this.#messages.newLife();
        else if (!this.#recovered) this.#messages.dropLog();
        if (this.#epoch !== epoch || !this.#recovered) this.#more = undefined;
        this.#epoch = epoch;
        this.#update();
      }),
      room.on('room-message', (_, e) => {
        this.#messages.take([e]);
        this.#messages.trim();
        if (this.#messages.takeCut()) this.#more = true;
        this.#update();
      }),
      this.#client.onSend((event) => this.#sending(event)),
    ];
    room.join({ history: this.#history }).catch(() => {}); // the state tells
    this.#update();
    if (room.state.status === 'joined') {
      // By the application, before: its messages have passed.
      this.#epoch = room.position?.epoch;
      this.#more = true;
      this.#update();
      this.loadMore(this.#history).catch(() => {});
    }
    return () => {
      for (const end of ends) end();
      room.leave();
      this.#messages.clear();
      this.#epoch = this.#more = undefined;
      this.#recovered = true;
      this.#update();
    };
  }

  #send(id: string, data: unknown): Promise<Receipt> {
    const sent = this.#room.send(data, { id });
    sent.catch(() => {}); // the message tells
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

  #update(): void {
    const messages = this.#messages;
    this.#snapshot = {
      ...this.#room.state,
      messages: messages.all,
      hasMore: this.#more ?? (this.#history > 0 && messages.length >= this.#history),
      loading: this.#loading,
      recovered: this.#recovered,
    };
    this.changed();
  }
}
