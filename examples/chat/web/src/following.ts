import type { User } from 'chathub-client';
import { type Message, useChat } from 'chathub-client/react';
import { type RefObject, useEffect, useRef, useState } from 'react';
import { listOf } from './format.js';
import { type ReadMarks, useReadMark } from './read.js';
import { textOf } from './types.js';

/**
 * What was read when the conversation was opened, or went out of sight: "New" is shown after
 * that. `seen` tells that the end of the conversation is in sight.
 */
export function useReading(place: string, marks: ReadMarks, messages: readonly Message[]) {
  const readTo = useReadMark(marks, place);
  const [newAfter, setNewAfter] = useState(readTo || Infinity);
  const atEnd = useRef(false);
  const latest = useRef(0);
  useEffect(() => {
    latest.current = messages.findLast((m) => m.ts !== undefined)?.ts ?? 1; // even where there is none, it was seen
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

/** What has just been said, for screen readers: the log itself would also read out what is older. */
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

interface Joins {
  /** The key of the last message before a reconnect that could not bring all that was missed. */
  gap: string | undefined;
  /** Up to where the log was read when the room was joined first: that is no news. */
  head: RefObject<number>;
}

export function useJoins(name: string, messages: readonly Message[]): Joins {
  const client = useChat();
  const [gap, setGap] = useState<string>();
  const head = useRef(0);
  const latest = useRef(messages);
  useEffect(() => {
    latest.current = messages;
  }, [messages]);
  useEffect(
    () =>
      client.room(name).onJoined(({ resumed, recovered, seq }) => {
        head.current = resumed ? 0 : seq;
        if (resumed && !recovered) setGap(latest.current.findLast((m) => m.status === 'sent')?.key);
      }),
    [client, name],
  );
  return { gap, head };
}

/** The same for the inbox. */
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
