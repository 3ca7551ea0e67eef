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

  protected override ref({ seq }: Named): number | undefined {
    return seq;
  }

  protected override isMine({ room }: Outgoing): boolean {
    return room === this.#room.name;
  }

  protected override read(): RoomSnapshot {
    return { ...this.#room.state, recovered: this.#recovered, ...this.shown };
  }

  protected override get ready(): boolean {
    return this.#room.state.status === 'joined';
  }

  // Nothing comes before seq 1, but gaps in the numbers mean nothing.
  protected override get mayHaveMore(): boolean {
    return (this.messages.oldest ?? this.#head) > 1;
  }

  protected override start(): () => void {
    const room = this.#room;
    for (const message of this.client.outbox) this.sending({ status: 'queued', message });
    this.marked();
    const ends = [
      this.client.onSend((event) => this.sending(event)),
      room.onRead(() => this.marked()),
      room.onState(() => this.changed()),
      room.onJoined(({ epoch, seq, recovered, resumed }) => {
        this.#recovered = recovered || !resumed;
        if (this.#user !== undefined && this.#user !== this.client.user?.id) this.messages.clear();
        this.#user = this.client.user?.id;
        if (this.#epoch !== epoch || !resumed || !recovered) {
          // Between what is here and what follows there may be other messages.
          if (this.#epoch === epoch) this.messages.dropLog();
          else if (this.#epoch !== undefined) this.messages.newLife();
          this.dropped(undefined);
        }
        this.#epoch = epoch;
        this.#head = seq;
        this.changed();
      }),
      ...[...this.#types, 'message-changed'].map((type) => room.on(type, (_, e) => this.take(e))),
    ];
    room.join({ history: this.#history }).catch(() => {}); // the state has the error
    this.changed();
    if (this.ready) {
      // The application joined it before, and its messages came then.
      this.#epoch = room.position?.epoch;
      this.dropped(true);
      this.changed();
      if (this.#history > 0) this.actions.loadMore(this.#history).catch(() => {});
    }
    return () => {
      for (const end of ends) end();
      room.leave();
      this.#epoch = undefined;
      this.#head = 0;
      this.#recovered = true;
      this.clear();
    };
  }
}
