import { type Message, useChat, useEvent } from 'chathub-client/react';
import { useMemo, useState } from 'react';
import { type Known, whoText } from './names.js';

/** How far users have read a room: positions by id. */
export type Receipts = ReadonlyMap<string, number>;

const NONE: Receipts = new Map();

/**
 * Collects how far the others have read in each room, as the server tells while
 * the page is open.
 */
export function useReceipts(): (room: string) => Receipts {
  const client = useChat();
  const [all, setAll] = useState<ReadonlyMap<string, Receipts>>(NONE as ReadonlyMap<string, never>);
  // Positions count within one life of a log.
  const keyOf = (room: string) => `${client.room(room).position?.epoch}\n${room}`;
  useEvent('read', (data, { room }) => {
    const users = (data as { users?: unknown } | null)?.users;
    if (room === undefined || !Array.isArray(users)) return;
    const key = keyOf(room);
    setAll((all) => {
      const receipts = new Map(all.get(key));
      for (const user of users) {
        const { id, seq } = user ?? {};
        if (typeof id === 'string' && typeof seq === 'number') receipts.set(id, Math.max(seq, receipts.get(id) ?? 0));
      }
      return new Map(all).set(key, receipts);
    });
  });
  // biome-ignore lint/correctness/useExhaustiveDependencies: keyOf reads the client
  return useMemo(() => (room) => all.get(keyOf(room)) ?? NONE, [all]);
}

/**
 * Returns who has read each message of the user, as text. Somebody who has
 * written has read what was there before.
 */
export function readersOf(
  messages: readonly Message[],
  receipts: Receipts | undefined,
  epoch: string | undefined,
  known: Known,
): ReadonlyMap<Message, string> {
  const readers = new Map<Message, string>();
  if (!receipts) return readers;
  const waiting = [...receipts].filter(([id]) => id !== known.me.id).sort((a, b) => b[1] - a[1]);
  const ids = new Set<string>();
  let text = '';
  for (let i = messages.length - 1; i >= 0; i--) {
    const m = messages[i] as Message;
    if (m.epoch !== epoch || m.seq === undefined) continue;
    const before = ids.size;
    while ((waiting[0]?.[1] ?? 0) >= m.seq) ids.add(waiting.shift()?.[0] ?? '');
    if (ids.size > before) text = whoText([...ids], ids.size, known);
    if (m.from?.id === known.me.id) readers.set(m, text);
    else if (m.from && !ids.has(m.from.id)) text = whoText([...ids.add(m.from.id)], ids.size, known);
  }
  return readers;
}
