import type { Changed, ChatError, Outgoing, Re, Reactions, User } from '../index.js';

/** A message to show. Immutable: a change makes a new object. */
export interface Message<Data = unknown> {
  /** For lists. Stays the same after the server has stored or changed it. */
  readonly key: string;
  readonly type: string;
  /** Absent if the sender chose none and the server is old. */
  readonly id?: string | undefined;
  /** The author. Absent if the application is the author. */
  readonly from?: User | undefined;
  readonly to?: string | undefined;
  /** The message that this one answers. */
  readonly re?: Re | undefined;
  /** Undefined if it was deleted. */
  readonly data: Data;
  /** The life of the log that `seq` belongs to. Absent until it is stored. */
  readonly epoch?: string | undefined;
  /** Position in the log. Absent until it is stored. */
  readonly seq?: number | undefined;
  /** When the server stored it. Absent until then. */
  readonly ts?: number | undefined;
  /** When it was last edited. */
  readonly edited?: number | undefined;
  /** When it was deleted. */
  readonly deleted?: number | undefined;
  readonly reactions?: Reactions | undefined;
  /** The keys that this user has reacted with. */
  readonly mine?: readonly string[] | undefined;
  /** The position of the newest change that has arrived. */
  readonly version?: number | undefined;
  readonly status: 'sending' | 'sent' | 'failed';
  /** Why it failed, if `status` is `failed`. */
  readonly error?: ChatError | undefined;
}

/** Whether the data of a change names a message. */
export function refersTo(ref: unknown, m: Pick<Message, 'seq' | 'id' | 'from'>, me?: string): boolean {
  const { seq, id, author = me } = (ref ?? {}) as Partial<Changed>;
  return id === undefined ? seq !== undefined && seq === m.seq : id === m.id && author === m.from?.id;
}

/** A message as a `message-changed` says that it is now. */
export function changed<M extends object>(m: M & { readonly data: unknown }, by: Changed, version: number): M {
  const { edited, deleted, reactions, data = m.data } = by.message;
  return { ...m, data: deleted === undefined ? data : undefined, edited, deleted, reactions, version };
}

/** A message as it will be after a change. */
export function applied(m: Message, { type, epoch, data }: Outgoing, me = ''): Message {
  if ((epoch ?? m.epoch) !== m.epoch || m.deleted !== undefined) return m;
  if (type === 'edit-message') return { ...m, data: (data as Changed['message']).data, edited: Date.now() };
  if (type === 'delete-message') {
    return { ...m, data: undefined, edited: undefined, reactions: undefined, mine: undefined, deleted: Date.now() };
  }
  const { key, on } = data as { key: string; on?: boolean };
  const mine = m.mine ?? [];
  if (mine.includes(key) === (on !== false)) return m;
  const { [key]: old = { count: 0, users: [] }, ...others } = m.reactions ?? {};
  const users = old.users.filter((u) => u !== me);
  if (on === false) {
    const count = old.count - 1;
    return {
      ...m,
      reactions: count > 0 ? { ...m.reactions, [key]: { count, users } } : others,
      mine: mine.filter((k) => k !== key),
    };
  }
  return {
    ...m,
    reactions: { ...m.reactions, [key]: { count: old.count + 1, users: [...users, me] } },
    mine: [...mine, key],
  };
}

/**
 * The keys that this user has reacted with. A list that is cut short may lack
 * the user.
 */
export function mineOf(
  before: readonly string[] | undefined,
  reactions: Reactions | undefined,
  me: string | undefined,
): string[] | undefined {
  const keys = Object.entries(reactions ?? {}).filter(
    ([key, { count, users }]) => users.includes(me ?? '') || (users.length < count && before?.includes(key)),
  );
  return keys.length > 0 ? keys.map(([key]) => key) : undefined;
}
