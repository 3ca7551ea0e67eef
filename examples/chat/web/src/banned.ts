import type { ChatError, ConnectionState } from 'chathub-client';
import { useChat } from 'chathub-client/react';
import { useEffect, useState } from 'react';

export interface Ban {
  /** Possibly empty. */
  readonly reason: string;
  /** 0: for good. */
  readonly until: number;
}

const DISCONNECTED = 4503; // close code: by a moderator

// What the server tells a user who is banned. The reason comes last.
const BANNED = /^You are banned(?: from this room)?(?:: (.*))?$/s;

/** Returns the ban that a refusal is about, if it is about one. */
function banIn({ message, retryAfterMs }: ChatError): Ban | undefined {
  const said = BANNED.exec(message);
  return said ? { reason: said[1] ?? '', until: retryAfterMs ? Date.now() + retryAfterMs : 0 } : undefined;
}

/** Returns the ban from the whole service, if there is no connection for it. */
export function banOf(state: ConnectionState): Ban | undefined {
  if (state.status !== 'disconnected' || state.reason !== 'refused' || !state.error) return undefined;
  const { message } = state.error;
  // It comes without the end.
  if (state.code === DISCONNECTED) return { reason: message === 'Banned' ? '' : message, until: 0 };
  return banIn(state.error);
}

/**
 * Returns the ban from a room. `error` says why it was not joined. If the user
 * was removed, the server is asked whether that is a ban.
 */
export function useBan(room: string, error: ChatError | undefined, removed: object | undefined): Ban | undefined {
  const client = useChat();
  const [ban, setBan] = useState<Ban>();
  useEffect(() => {
    setBan(error && banIn(error));
    if (!removed) return;
    let wanted = true;
    client.send('moderation', {}, { room }).catch((err: ChatError) => wanted && setBan(banIn(err)));
    return () => {
      wanted = false;
    };
  }, [client, room, error, removed]);
  return ban;
}
