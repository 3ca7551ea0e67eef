import type { Message } from 'chathub-client/react';
import { useEffect, useState } from 'react';
import { useAttention } from './attention.js';

/** What the page needs to know of a conversation to follow its reader. */
interface Readable {
  readonly messages: readonly Message[];
  readonly read: number | undefined;
  readonly unread: number | undefined;
  readonly firstUnread: string | undefined;
  readonly hasNewer: boolean;
  readonly markRead: () => Promise<unknown>;
}

interface Line {
  /** The key of the message that "New messages" is shown above. */
  readonly at: string | undefined;
  readonly attended: boolean;
  /** The first unread message when this was last looked at. */
  readonly first: string | undefined;
  /** The end of the log when the conversation was opened. */
  readonly opened: number | undefined;
  /** Whether the user had never read anything there by then. */
  readonly firstVisit: boolean;
}

/**
 * Follows how far the reader has read a conversation, and tells the server. A
 * message counts as read if the end of the log is in sight, on a page that is
 * visible and has focus. `skip` is the end of a room's log when the user first
 * came: that is not new, if the user has never read anything there.
 */
export function useReading(of: Readable, skip: number) {
  const { messages, unread, hasNewer, markRead } = of;
  const attended = useAttention();
  const [endInSight, setEndInSight] = useState(false);
  const seeing = attended && endInSight && !hasNewer;
  const [line, setLine] = useState<Line>({
    at: undefined,
    attended,
    first: undefined,
    opened: undefined,
    firstVisit: true,
  });
  const next = moved(line, of, attended, seeing, skip);
  if (next !== line) setLine(next);

  // biome-ignore lint/correctness/useExhaustiveDependencies: another message is another end to mark
  useEffect(() => {
    if (seeing && unread) markRead().catch(() => {}); // the next message marks it again
  }, [seeing, unread, messages, markRead]);

  return {
    firstNew: next.at,
    firstVisit: next.firstVisit,
    seeing,
    hideNew: () => setLine((line) => ({ ...line, at: undefined })),
    seen: setEndInSight,
  };
}

// Messages that arrive while the reader is there are not new. Those that were
// unread when the conversation was opened are, and those that came while the
// reader was elsewhere.
function moved(line: Line, of: Readable, attended: boolean, seeing: boolean, skip: number): Line {
  const { messages, read, unread, firstUnread } = of;
  if (unread === undefined || (line.opened === undefined && unread > 0 && messages.length === 0)) return line;
  const leaving = line.attended && !attended;
  if (line.opened !== undefined && line.first === firstUnread && line.attended === attended) return line;
  let { at, opened, firstVisit } = line;
  if (leaving && unread === 0) at = undefined;
  if (opened === undefined || line.first !== firstUnread) {
    const seq = messages.find((m) => m.key === firstUnread)?.seq ?? 0;
    const known = opened === undefined ? unread === 0 : seeing && seq > opened;
    if (opened === undefined) firstVisit = read === 0 && skip > 0;
    if (!known) at = firstVisit && seq <= skip ? undefined : firstUnread;
    opened ??= messages.findLast((m) => m.seq !== undefined)?.seq ?? 0;
  }
  return { at, attended, first: firstUnread, opened, firstVisit };
}
