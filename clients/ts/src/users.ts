import type { Presence, User } from './protocol.js';

/** The users who are present. Immutable: a change makes a new object. */
export interface Users {
  /** Lacks users who came while the server sent only counts. */
  readonly users: readonly User[];
  readonly count: number;
}

export const NOBODY: Users = { users: [], count: 0 };

/** The least time between two requests for the whole list, in ms. */
export const LIST_EVERY = 5_000;

/** The users of a complete list from the server. */
export function usersOf({ users = [], count = users.length }: Partial<Presence>): Users {
  return { users, count };
}

/** The users after some of them came or went. */
export function usersAfter({ users }: Users, { users: some = [], count }: Presence, came: boolean): Users {
  const others = users.filter((u) => !has(some, u));
  return { users: came ? [...others, ...some] : others, count };
}

export function has(users: readonly User[], user: User | undefined): boolean {
  return users.some((u) => u.id === user?.id);
}
