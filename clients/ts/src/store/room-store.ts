import type { Outgoing, Room, RoomState } from '../index.js';
import { type Actions, MessageStore, type Named, NOTHING, type Shown } from './message-store.js';
import type { AnyClient } from './store.js';

/** A room with its messages. Immutable: a change makes a new object. */
export interface RoomSnapshot<Data = unknown> extends RoomState, Shown<Data> {
  /**
   * False after a reconnect that could not deliver all missed messages.
   * `loadMore` loads them, if the server still has them.
   */
  readonly recovered: boolean;
}

export interface RoomActions<Data = unknown> extends Actions<Data> {
  /** To be called at each keystroke. */
  readonly setTyping: () => void;
  readonly stopTyping: () => void;
}

export interface RoomOptions {
  /** How many of the newest messages to load. Default 50. */
  history?: number | undefined;
  /** The types of events to show. Default: `room-message`. */
  types?: readonly string[] | undefined;
}

const EMPTY: RoomSnapshot = {
  status: 'left',
  users: [],
  count: 0,
  typing: [],
  state: {},
  versions: {},
  recovered: true,
  ...NOTHING,
};

/** A room with its messages. It is joined while it has subscribers. */
export class RoomStore extends MessageStore<RoomSnapshot> {
  declare readonly actions: RoomActions;
  readonly #room: Room;
  readonly #history: number;
  readonly #types: readonly string[];
  #epoch: string | undefined;
  #user: string | undefined; // the user that these messages were sent to
  #head = 0; // the last seq of the log when the room was joined
  #recovered = true;

  constructor(client: AnyClient, room: Room, { history = 50, types = ['room-message'] }: RoomOptions = {}) {
    super(client, EMPTY, room, types, history);
    this.#room = room;
    this.#history = history;
    this.#types = types;
    Object.assign(this.actions, { setTyping: () => room.typing(), stopTyping: () => room.stopTyping() });
  }

  // The numbers of another life of the log would mean other messages.
  protected override _ref({ seq, epoch = this.#epoch }: Named): number | undefined {
    return epoch === this.#epoch ? seq : undefined;
  }

  protected override _isMine({ room }: Outgoing): boolean {
    return room === this.#room.name;
  }

  protected override _read(): RoomSnapshot {
    return { ...this.#room.state, recovered: this.#recovered, ...this._shown };
  }

  protected override get _ready(): boolean {
    return this.#room.state.status === 'joined';
  }

  // Nothing comes before seq 1, but gaps in the numbers mean nothing.
  protected override get _mayHaveMore(): boolean {
    return (this._messages.oldest ?? this.#head) > 1;
  }

  protected override _start(): () => void {
    const room = this.#room;
    for (const message of this._client.outbox) this._sending({ status: 'queued', message });
    this._marked();
    const ends = [
      this._client.onSend((event) => this._sending(event)),
      room.onRead(() => this._marked()),
      room.onState(() => this._changed()),
      room.onJoined(({ epoch, seq, recovered, resumed }) => {
        this.#recovered = recovered || !resumed;
        if (this.#user !== undefined && this.#user !== this._client.user?.id) this._messages.clear();
        this.#user = this._client.user?.id;
        if (this.#epoch !== epoch || !resumed || !recovered) {
          // Between what is here and what follows there may be other messages.
          if (this.#epoch === epoch) this._messages.dropLog();
          else if (this.#epoch !== undefined) this._messages.newLife();
          this._dropped(undefined);
        }
        this.#epoch = epoch;
        this.#head = seq;
        this._changed();
      }),
      ...[...this.#types, 'message-changed'].map((type) => room.on(type, (_, e) => this._take(e))),
    ];
    room.join({ history: this.#history }).catch(() => {}); // the state has the error
    this._changed();
    if (this._ready) {
      // The application joined it before, and its messages came then.
      this.#epoch = room.position?.epoch;
      this._dropped(true);
      this._changed();
      if (this.#history > 0) this.actions.loadMore(this.#history).catch(() => {});
    }
    return () => {
      for (const end of ends) end();
      room.leave();
      this.#epoch = undefined;
      this.#head = 0;
      this.#recovered = true;
      this._clear();
    };
  }
}
