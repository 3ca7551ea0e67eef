import type { InboxInfo, JoinedRoom } from 'chathub-client';
import { type Message, useChat } from 'chathub-client/react';
import { useCallback, useEffect, useRef, useState } from 'react';

/** A place in a conversation where its log does not go on after a reconnect. */
export interface Break {
  /** The keys of the messages above it. */
  readonly before: ReadonlySet<string>;
  /** Whether messages may be missing. Otherwise only the old log is gone. */
  readonly missing: boolean;
}

const NONE: readonly Break[] = [];

/** Collects the breaks of all conversations, whether they are open or not. */
export function useBreaks() {
  const [breaks, setBreaks] = useState<ReadonlyMap<string, readonly Break[]>>(new Map());
  const add = useCallback((place: string, added: Break) => {
    setBreaks((all) => new Map(all).set(place, [...(all.get(place) ?? NONE), added]));
  }, []);
  return { of: (place: string) => breaks.get(place) ?? NONE, add };
}

type OnBreak = (found: Break) => void;

/** Calls `onBreak` when a room's log was lost. */
export function useRoomBreaks(name: string, messages: readonly Message[], onBreak: OnBreak): void {
  const client = useChat();
  const epoch = useRef(client.room(name).position?.epoch);
  const joined = useBreak(messages, onBreak);
  useEffect(
    () =>
      client.room(name).onJoined((info) => {
        // In the same log, what was missed can be loaded.
        if (info.epoch !== epoch.current) joined(info, true);
        epoch.current = info.epoch;
      }),
    [client, name, joined],
  );
}

/** Calls `onBreak` when the inbox has lost messages. */
export function useInboxBreaks(messages: readonly Message[], onBreak: OnBreak): void {
  const client = useChat();
  const epoch = useRef(client.inbox?.epoch);
  const read = useBreak(messages, onBreak);
  useEffect(
    () =>
      client.onInbox((info) => {
        read(info, info.epoch !== epoch.current);
        epoch.current = info.epoch;
      }),
    [client, read],
  );
}

const RESTART = 4000; // the close code of a server that has sent everything

function useBreak(messages: readonly Message[], onBreak: OnBreak) {
  const client = useChat();
  const latest = useRef({ messages, onBreak });
  const complete = useRef(false); // whether the last connection ended with RESTART
  useEffect(() => {
    latest.current = { messages, onBreak };
  });
  useEffect(() => {
    let before = client.state.status;
    return client.onState((state) => {
      if (before === 'connected' && state.status === 'disconnected') complete.current = state.code === RESTART;
      before = state.status;
    });
  }, [client]);
  return useCallback(({ resumed, recovered }: JoinedRoom | InboxInfo, isNewLog: boolean) => {
    const { messages, onBreak } = latest.current;
    const before = new Set(messages.filter((m) => m.status === 'sent').map((m) => m.key));
    if (resumed && !recovered && before.size > 0) onBreak({ before, missing: !(isNewLog && complete.current) });
  }, []);
}
