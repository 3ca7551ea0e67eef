import type { User } from 'chathub-client';
import { type Message, useChat } from 'chathub-client/react';
import { useEffect, useRef, useState } from 'react';
import { listOf } from './format.js';
import { keyOf, type Place, room, textOf } from './types.js';

/** Where the logs ended when the user came. What follows is news. */
export class Heads {
  readonly #rooms = new Map<string, number>();
  /** The end of the inbox. */
  inbox = 0;

  of(place: Place): number {
    return place.kind === 'user' ? this.inbox : (this.#rooms.get(keyOf(place)) ?? 0);
  }

  joined(name: string, { resumed, seq }: { readonly resumed: boolean; readonly seq: number }): void {
    this.#rooms.set(keyOf(room(name)), resumed ? 0 : seq);
  }
}

/** Notes the end of the inbox. */
export function useHeads(): Heads {
  const client = useChat();
  const [heads] = useState(() => new Heads());
  useEffect(
    () =>
      client.onInbox(({ resumed, seq }) => {
        heads.inbox = resumed ? 0 : seq;
      }),
    [client, heads],
  );
  return heads;
}

/** Notes the end of a room's log. */
export function useRoomHead(name: string, heads: Heads): void {
  const client = useChat();
  useEffect(() => client.room(name).onJoined((info) => heads.joined(name, info)), [client, name, heads]);
}

/**
 * Returns the newest messages as text for screen readers. The log itself is not
 * a live region, since that would also read out older messages. `head` is the
 * end of the log when the user came. While an older part is shown, there is no
 * news.
 */
export function useNews(messages: readonly Message[], me: User, head: number, older: boolean): string {
  const [news, setNews] = useState('');
  const before = useRef(messages);
  useEffect(() => {
    if (older) return;
    const last = before.current.findLast((m) => m.status === 'sent')?.key;
    const at = messages.findLastIndex((m) => m.key === last);
    const failed = messages.find(
      (m) => m.status === 'failed' && before.current.find((old) => old.key === m.key)?.status === 'sending',
    );
    before.current = messages;
    if (failed) return setNews(`Not sent: ${textOf(failed.data)}`);
    if (at < 0 && last !== undefined) return;
    const fresh = messages
      .slice(at + 1)
      .filter((m) => m.from?.id !== me.id && m.status === 'sent' && (m.seq ?? 0) > head);
    if (fresh.length === 0) return;
    setNews(fresh.map((m) => `${m.from ? listOf([m.from]) : 'Server'}: ${textOf(m.data)}`).join('\n'));
  }, [messages, me, head, older]);
  return news;
}
