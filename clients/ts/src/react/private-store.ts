import { type Envelope, newId, type Outgoing, type Receipt, type SendEvent, type User } from '../index.js';
import { type Message, Messages } from './messages.js';
import { type AnyClient, Store } from './store.js';

/**
 * The private messages with one user. Immutable: a change makes a new object.
 */
export interface Conversation<Data = unknown> {
  readonly userId: string;
  /** Known if the user has written or is online. */
  readonly user: User | undefined;
  readonly messages: readonly Message<Data>[];
}

const KEEP = 1_000; // messages per conversation

export const NO_CONVERSATIONS: readonly Conversation<never>[] = [];

/** The private messages since the client connected, by user. */
export class PrivateStore extends Store<readonly Conversation[]> {
  readonly #client: AnyClient;
  readonly #messages = new Map<string, Messages>();
  readonly #users = new Map<string, User>();
  readonly #conversations = new Map<string, Conversation>(); // until they change
  readonly #recent = new Set<string>(); // users, the most recent last
  #snapshot: readonly Conversation[] | undefined = NO_CONVERSATIONS; // until it changes
  #me: string | undefined;
  #epoch: string | undefined;

  constructor(client: AnyClient) {
    super(client);
    this.#client = client;
  }

  /** The conversations that have messages, the most recent first. */
  override get snapshot(): readonly Conversation[] {
    this.#snapshot ??= [...this.#recent].reverse().map((userId) => this.with(userId));
    return this.#snapshot;
  }

  /** Returns the conversation with a user, even if it is empty. */
  with(userId: string): Conversation {
    let conversation = this.#conversations.get(userId);
    if (!conversation) {
      const user = this.#users.get(userId) ?? this.#client.online.users.find((u) => u.id === userId);
      conversation = { userId, user, messages: this.#messages.get(userId)?.all ?? [] };
      this.#conversations.set(userId, conversation);
    }
    return conversation;
  }

  send(to: string, data: unknown, id = newId()): Promise<Receipt> {
    const sent = this.#client.privateMessage(to, data, { id });
    sent.catch(() => {}); // the message has the error
    return sent;
  }

  retry(userId: string, id: string): Promise<Receipt> {
    return this.#of(userId).again(id, (id, data) => this.send(userId, data, id));
  }

  discard(userId: string, id: string): void {
    this.#client.discard(id);
    this.#messages.get(userId)?.remove(id);
    this.#update(userId);
  }

  protected override start(): () => void {
    const client = this.#client;
    this.#me = client.user?.id;
    for (const m of client.outbox) this.#sending({ status: 'queued', message: m });
    const ends = [
      client.on('private-message', (_, e) => this.#take(e)),
      client.onSend((event) => this.#sending(event)),
      client.onInbox(({ epoch }) => {
        if (this.#me !== undefined && this.#me !== client.user?.id) this.#clear();
        this.#me = client.user?.id;
        for (const [userId, messages] of this.#messages) {
          if (this.#epoch !== undefined && this.#epoch !== epoch) messages.newLife();
          this.#update(userId);
        }
        this.#epoch = epoch;
      }),
    ];
    return () => {
      for (const end of ends) end();
      this.#clear();
    };
  }

  #of(userId: string): Messages {
    let messages = this.#messages.get(userId);
    if (!messages) {
      messages = new Messages(KEEP);
      this.#messages.set(userId, messages);
    }
    return messages;
  }

  #take(e: Envelope): void {
    const mine = e.from !== undefined && e.from.id === this.#client.user?.id;
    const userId = mine ? (e.to ?? '') : (e.from?.id ?? '');
    if (!mine && e.from) this.#users.set(userId, e.from);
    const messages = this.#of(userId);
    messages.take([e]);
    messages.trim();
    this.#update(userId, true);
  }

  #sending(event: SendEvent): void {
    const { message } = event;
    if (message.type !== 'private-message') return;
    const userId = (message as Outgoing).to ?? '';
    const messages = this.#of(userId);
    if (event.status === 'queued') messages.queued(message, this.#client.user);
    else if (event.status === 'sent') messages.acknowledged(message, event.receipt);
    else messages.failed(message, event.error, this.#client.user);
    this.#update(userId, event.status === 'queued');
  }

  #clear(): void {
    this.#messages.clear();
    this.#users.clear();
    this.#conversations.clear();
    this.#recent.clear();
    this.#snapshot = NO_CONVERSATIONS;
    this.changed();
  }

  #update(userId: string, first = false): void {
    if (first) this.#recent.delete(userId);
    this.#recent.add(userId);
    this.#conversations.delete(userId);
    this.#snapshot = undefined;
    this.changed();
  }
}
