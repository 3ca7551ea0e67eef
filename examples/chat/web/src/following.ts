import type { User } from 'chathub-client';
import { type Message, useChat } from 'chathub-client/react';
import { type RefObject, useCallback, useEffect, useRef, useState } from 'react';
import { listOf } from './format.js';
import { type ReadMarks, useReadMark } from './read.js';
import { textOf } from './types.js';

/**
 * Follows how far the reader has read a conversation. `newAfter` is the time up
 * to which it was read when it was opened, or when the page was last hidden:
 * later messages are new. If there were none, it is Infinity, since messages
 * that arrive while the reader is there are not new. Call `seen` when the end
 * of the conversation comes into sight or leaves it.
 */
export function useReading(place: string, marks: ReadMarks, messages: readonly Message[], me: User) {
  const readTo = useReadMark(marks, place);
  const [newAfter, setNewAfter] = useState(() => {
    // After a reload, the messages are still to come.
    const mayBeNew = messages.length === 0 || messages.some((m) => isNew(m, me, readTo));
    return (mayBeNew && readTo) || Infinity;
  });
  const atEnd = useRef(false);
  const shown = useRef(messages);
  const read = useCallback(() => {
    // 1 marks an empty conversation as read.
    const latest = shown.current.findLast((m) => m.ts !== undefined)?.ts ?? 1;
    if (atEnd.current && !document.hidden) marks.mark(place, latest);
  }, [marks, place]);
  useEffect(() => {
    shown.current = messages;
    read();
  }, [messages, read]);
  useEffect(() => {
    const changed = () => {
      read();
      if (document.hidden) setNewAfter(marks.of(place) || Infinity);
      else setNewAfter((time) => (shown.current.some((m) => isNew(m, me, time)) ? time : Infinity));
    };
    document.addEventListener('visibilitychange', changed);
    return () => document.removeEventListener('visibilitychange', changed);
  }, [marks, place, me, read]);
  return {
    newAfter,
    hideNew: () => setNewAfter(Infinity),
    seen: (is: boolean) => {
      atEnd.current = is;
      read();
    },
  };
}

/** Reports whether a message is of somebody else, and later than `newAfter`. */
export function isNew({ from, ts }: Message, me: User, newAfter: number): boolean {
  return from?.id !== me.id && ts !== undefined && ts > newAfter;
}

/**
 * Returns the newest messages as text for screen readers. The log itself is not
 * a live region, since that would also read out older messages.
 */
export function useNews(messages: readonly Message[], me: User, head: RefObject<number>): string {
  const [news, setNews] = useState('');
  const before = useRef(messages);
  useEffect(() => {
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
      .filter((m) => m.from?.id !== me.id && m.status === 'sent' && (m.seq ?? 0) > head.current);
    if (fresh.length === 0) return;
    setNews(fresh.map((m) => `${m.from ? listOf([m.from]) : 'Server'}: ${textOf(m.data)}`).join('\n'));
  }, [messages, me, head]);
  return news;
}

/** Returns the end (`seq`) of a room's log at the join. The rest is news. */
export function useRoomHead(name: string): RefObject<number> {
  const client = useChat();
  const head = useRef(0);
  useEffect(
    () =>
      client.room(name).onJoined(({ resumed, seq }) => {
        head.current = resumed ? 0 : seq;
      }),
    [client, name],
  );
  return head;
}

/** Returns the end of the inbox when it was first read. */
export function useInboxHead(): RefObject<number> {
  const client = useChat();
  const head = useRef(0);
  useEffect(
    () =>
      client.onInbox(({ resumed, seq }) => {
        head.current = resumed ? 0 : seq;
      }),
    [client],
  );
  return head;
}
