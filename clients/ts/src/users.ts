import type { Presence, User } from './protocol.js';

/** Who is there. Never changed: new users are a new object. */
export interface Users {
  /** Without those who came while the server sent only their count. */
  readonly users: readonly User[];
  readonly count: number;
}

export const NOBODY: Users = { users: [], count: 0 };

/** The list that the server has sent as a whole. */
export function listed(data: Partial<Presence> | undefined): Users {
  const users = data?.users ?? [];
  return { users, count: data?.count ?? users.length };
}

export function joined(old: Users, data: Presence): Users {
  return { users: [...without(old.users, data.users), ...(data.users ?? [])], count: data.count };
}

export function left(old: Users, data: Presence): Users {
  return { users: without(old.users, data.users), count: data.count };
}

/** Whether a list that was complete would be another one, and the server sends lists. */
export function isStale(now: Users, data: Presence): boolean {
  return data.users !== undefined && now.users.length !== now.count;
}

function without(users: readonly User[], gone: readonly User[] = []): readonly User[] {
  const ids = new Set(gone.map((u) => u.id));
  return users.filter((u) => !ids.has(u.id));
}
