import type { User } from 'chathub-client';
import type { Message } from 'chathub-client/react';
import { Fragment, type ReactNode } from 'react';
import type { Break } from './breaks.js';
import { isNew } from './following.js';
import { dayKey, dayOf } from './format.js';
import { Icon } from './parts.js';
import { Row } from './Row.js';
import { useScroll } from './useScroll.js';

const GROUP = 5 * 60_000; // ms between messages of one sender in a group

interface Props {
  me: User;
  label: string;
  /** Shown while there are no messages. */
  intro: ReactNode;
  messages: readonly Message[];
  /** "New" is shown before the first message of others after this time. */
  newAfter: number;
  breaks: readonly Break[];
  more: { has: boolean; loading: boolean; load: () => Promise<void> } | undefined;
  /** Whether the senders' names are shown. */
  withNames: boolean;
  /** The end of the log has come into sight, or left it. */
  onEnd: (inSight: boolean) => void;
  onRetry: (id: string) => void;
  onDiscard: (id: string) => void;
}

/** The messages of a conversation, by days and in groups of one sender. */
export function Log(props: Props): ReactNode {
  const { me, label, intro, messages, newAfter, breaks, more, withNames, onEnd, onRetry, onDiscard } = props;
  const { ref, atEnd, missed, toEnd } = useScroll(messages, me.id, more, onEnd);
  const firstNew = messages.find((m) => isNew(m, me, newAfter));
  const broken = brokenAfter(messages, breaks);

  return (
    <div className="log-frame">
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, with the keyboard too */}
      <div ref={ref} className="log" role="log" aria-live="off" aria-label={label} tabIndex={0}>
        {more?.has && (
          <button type="button" className="earlier" disabled={more.loading} onClick={() => more.load().catch(() => {})}>
            {more.loading ? 'Loading…' : 'Show earlier messages'}
          </button>
        )}
        {messages.length === 0 && <div className="empty">{intro}</div>}
        {messages.map((m, i) => {
          const before = messages[i - 1];
          const after = messages[i + 1];
          const day = isNewDay(before, m);
          const cut = day || (before && broken.has(before)) || m === firstNew;
          const ends = !after || isNewDay(m, after) || broken.has(m) || after === firstNew;
          return (
            <Fragment key={m.key}>
              {day && (
                <p className="day">
                  <span>{dayOf(timeOf(m))}</span>
                </p>
              )}
              {m === firstNew && <p className="divider">New</p>}
              <Row
                message={m}
                mine={m.from?.id === me.id}
                withName={withNames}
                first={cut || !together(before, m)}
                end={ends || !together(m, after)}
                onRetry={onRetry}
                onDiscard={onDiscard}
              />
              {broken.has(m) && <BreakNote missing={broken.get(m) === true} />}
            </Fragment>
          );
        })}
      </div>
      {!atEnd && (
        <button type="button" className="jump" onClick={toEnd}>
          <Icon of="down" />
          {missed > 0 ? `${missed} new` : 'Latest'}
        </button>
      )}
    </div>
  );
}

/** Returns the last message before each break, and if some may be missing. */
function brokenAfter(messages: readonly Message[], breaks: readonly Break[]): Map<Message, boolean> {
  const last = new Map<Message, boolean>();
  for (const { before, missing } of breaks) {
    const m = messages.findLast((m) => before.has(m));
    if (m) last.set(m, missing || last.get(m) === true);
  }
  return last;
}

function BreakNote({ missing }: { missing: boolean }): ReactNode {
  return missing ? (
    <p className="break missing">
      The connection was lost, and the server no longer has all messages from that time. Some may be missing here.
    </p>
  ) : (
    <p className="break">The server has restarted. It no longer has the messages above.</p>
  );
}

// A message that is being sent has no time yet.
const timeOf = (m: Message) => m.ts ?? Date.now();

function isNewDay(a: Message | undefined, b: Message): boolean {
  return !a || dayKey(timeOf(a)) !== dayKey(timeOf(b));
}

function together(a: Message | undefined, b: Message | undefined): boolean {
  return Boolean(a?.from && b?.from && a.from.id === b.from.id && Math.abs(timeOf(b) - timeOf(a)) < GROUP);
}
