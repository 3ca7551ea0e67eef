import type { Envelope } from 'chathub-client';
import { type Message, useChat, useEvent } from 'chathub-client/react';
import { useEffect, useState } from 'react';

/** The part of a message that is shown elsewhere. */
export type Quoted = Pick<Message, 'from' | 'data' | 'deleted'>;

/**
 * Returns a message of a room that need not be loaded, as it is now. Undefined
 * until it is known, and null if it is not there.
 */
export function useFetched(room: string, seq: number): Quoted | null | undefined {
  const client = useChat();
  const [found, setFound] = useState<Quoted | null>();
  const [version, setVersion] = useState(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new version is asked for
  useEffect(() => {
    let wanted = true;
    client
      .room(room)
      .history({ before: seq + 1, limit: 1, types: ['room-message'] })
      .then(
        ({ messages }) => wanted && setFound((messages as Envelope[]).find((e) => e.seq === seq) ?? null),
        () => {}, // it still leads there
      );
    return () => {
      wanted = false;
    };
  }, [client, room, seq, version]);
  useEvent('message-changed', (data, e) => {
    if (e.room === room && (data as { seq?: number }).seq === seq) setVersion((n) => n + 1);
  });
  return found;
}
