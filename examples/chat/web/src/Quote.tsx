import type { Message } from 'chathub-client/react';
import { createContext, type ReactNode, useContext } from 'react';
import { type Quoted, useFetched } from './fetched.js';
import { Name, Spoken } from './parts.js';
import { shortOf } from './types.js';

/** The room that quotes are looked up in. Undefined for private messages. */
export const QuotedRoom = createContext<string | undefined>(undefined);

interface Props {
  message: Message;
  /** The message that it answers, if that is loaded. */
  answered: Message | undefined;
  /** Undefined if it is in a log that the server no longer has. */
  onJump: (() => void) | undefined;
}

/** What a message answers. A click leads to it. */
export function Quote({ message, answered, onJump }: Props): ReactNode {
  const room = useContext(QuotedRoom);
  if (answered || room === undefined || typeof message.re !== 'number' || !onJump) {
    return <Shown of={answered ?? null} onJump={onJump} />;
  }
  return <Fetched room={room} seq={message.re} onJump={onJump} />;
}

/** A message that is further up, and not loaded. */
function Fetched({ room, seq, onJump }: { room: string; seq: number; onJump: () => void }): ReactNode {
  return <Shown of={useFetched(room, seq) ?? null} onJump={onJump} />;
}

function Shown({ of, onJump }: { of: Quoted | null; onJump: (() => void) | undefined }): ReactNode {
  return (
    <button type="button" className="quote" disabled={!onJump} onClick={onJump}>
      <Spoken>In reply to </Spoken>
      {of?.from && <Name of={of.from.name} className="quote-who" />}
      <Name of={of ? shortOf(of) : 'An earlier message'} className="quote-text" />
    </button>
  );
}
