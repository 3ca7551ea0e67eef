import type { Presence, User } from './protocol.js';

/** The users who are present. Immutable: a change makes a new object. */
export interface Users {
  /** Lacks users who came while the server sent only counts. */
  readonly users: readonly User[];
  readonly count: number;
}

export const NOBODY: Users = { users: [], count: 0 };

const LIST_EVERY = 5_000; // ms

/** Makes a function that asks for a whole list, but not too often. */
export function listing(ask: () => void): (change: Presence, now: Users) => void {
  let asked = 0;
  // If the server has sent counts only for a while, the list lacks users.
  return ({ users, count }, now) => {
    if (!users || now.users.length === count || Date.now() - asked < LIST_EVERY) return;
    asked = Date.now();
    ask();
  };
}

/** The users of a complete list from the server. */
export function usersOf({ users = [], count = users.length }: Partial<Presence>): Users {
  return { users, count };
}

/** The users after some of them came or went. */
export function usersAfter({ users }: Users, { users: some = [], count }: Presence, came: boolean): Users {
  return { users: [...without(users, some), ...(came ? some : [])], count };
}

export function without(users: readonly User[], some: readonly (User | undefined)[]): readonly User[] {
  return users.filter((u) => !has(some, u));
}

export function has(users: readonly (User | undefined)[], user: User | undefined): boolean {
  return users.some((u) => u?.id === user?.id);
}
