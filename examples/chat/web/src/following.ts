import type { User } from 'chathub-client';
import { type Message, useChat } from 'chathub-client/react';
import { type RefObject, useEffect, useRef, useState } from 'react';
import { listOf } from './format.js';
import { type ReadMarks, useReadMark } from './read.js';
import { textOf } from './types.js';

/**
 * Follows how far the reader has read a conversation. `newAfter` is the time up
 * to which it was read when it was opened, or when the page was last hidden:
 * later messages are new. Call `seen` when the end of the conversation comes
 * into sight or leaves it.
 */
export function useReading(place: string, marks: ReadMarks, messages: readonly Message[]) {
  const readTo = useReadMark(marks, place);
  const [newAfter, setNewAfter] = useState(readTo || Infinity);
  const atEnd = useRef(false);
  const latest = useRef(0);
  useEffect(() => {
    // 1 marks an empty conversation as read.
    latest.current = messages.findLast((m) => m.ts !== undefined)?.ts ?? 1;
    if (atEnd.current && !document.hidden) marks.mark(place, latest.current);
  }, [marks, place, messages]);
  useEffect(() => {
    const changed = () => {
      if (document.hidden) setNewAfter(marks.of(place) || Infinity);
      else if (atEnd.current) marks.mark(place, latest.current);
    };
    document.addEventListener('visibilitychange', changed);
    return () => document.removeEventListener('visibilitychange', changed);
  }, [marks, place]);
  return {
    newAfter,
    hideNew: () => setNewAfter(Infinity),
    seen: (is: boolean) => {
      atEnd.current = is;
      if (is && !document.hidden) marks.mark(place, latest.current);
    },
  };
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

/** Returns the end of a room's log (`seq`) when it was joined: the rest is news. */
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
