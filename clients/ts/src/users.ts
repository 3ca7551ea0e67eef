import type { Presence, User } from './protocol.js';

/** Who is there. Never changed: new users are a new object. */
export interface Users {
  /** Without those who came while the server sent only their count. */
  readonly users: readonly User[];
  readonly count: number;
}

export const NOBODY: Users = { users: [], count: 0 };

/** Time between two requests for the whole list, in ms. */
export const LIST_EVERY = 5_000;

/** The list that the server has sent as a whole. */
export function listed({ users = [], count = users.length }: Partial<Presence>): Users {
  return { users, count };
}

/** The list after some have come or gone. */
export function changed({ users }: Users, { users: some = [], count }: Presence, came: boolean): Users {
  const others = users.filter((u) => !has(some, u));
  return { users: came ? [...others, ...some] : others, count };
}

export function has(users: readonly User[], user: User | undefined): boolean {
  return users.some((u) => u.id === user?.id);
}
