import type { User } from 'chathub-client';
import { useEvent, usePresence } from 'chathub-client/react';
import { createContext, useState } from 'react';

/** Who this page belongs to, and the names of other users by id. */
export interface Known {
  readonly me: User;
  readonly names: ReadonlyMap<string, string>;
}

export const KnownUsers = createContext<Known>({ me: { id: '', name: '' }, names: new Map() });

/** Returns the names of all users who are or were online, or have written. */
export function useNames(): ReadonlyMap<string, string> {
  const { users } = usePresence();
  const [names, setNames] = useState<ReadonlyMap<string, string>>(new Map());
  const known = learned(names, users);
  if (known !== names) setNames(known);
  const author = (_: unknown, { from }: { from?: User }) => from && setNames((names) => learned(names, [from]));
  useEvent('room-message', author);
  useEvent('private-message', author);
  useEvent('message-changed', author);
  return known;
}

function learned(names: ReadonlyMap<string, string>, users: readonly User[]): ReadonlyMap<string, string> {
  if (users.every((user) => names.get(user.id) === user.name)) return names;
  return new Map([...names, ...users.map((user) => [user.id, user.name] as const)]);
}

const SHOWN = 6;

/** "You and Ben", "Ben, Chris and 2 others". Ids without a name are counted. */
export function whoText(ids: readonly string[], count: number, { me, names }: Known): string {
  const others = ids.flatMap((id) => (id !== me.id && names.get(id)) || []);
  // Isolated, so that a name cannot change the direction of the text around it.
  const shown = others.slice(0, SHOWN).map((name) => `\u2068${name}\u2069`);
  if (ids.includes(me.id)) shown.unshift('You');
  const rest = Math.max(count, shown.length) - shown.length;
  if (shown.length === 0) return rest === 1 ? 'One person' : `${rest} people`;
  if (rest > 0) shown.push(rest === 1 ? '1 other' : `${rest} others`);
  return shown.length === 1 ? `${shown[0]}` : `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}`;
}
