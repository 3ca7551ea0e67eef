import type { User } from 'chathub-client';
import type { Message } from 'chathub-client/react';
import { Fragment, type KeyboardEvent, type ReactNode, useContext } from 'react';
import type { Rights, RowActions } from './Actions.js';
import type { Break } from './breaks.js';
import type { Refused } from './Editor.js';
import { dayKey, dayOf } from './format.js';
import { KnownUsers } from './names.js';
import { Icon } from './parts.js';
import { Row } from './Row.js';
import { type Receipts, readersOf } from './receipts.js';
import { type More, type Newer, useScroll } from './useScroll.js';

const GROUP = 5 * 60_000; // ms between messages of one sender in a group

interface Props {
  me: User;
  label: string;
  /** Shown while there are no messages. */
  intro: ReactNode;
  messages: readonly Message[];
  /** The life of the log that the server has now. */
  epoch: string | undefined;
  /** The key of the message that "New messages" is shown above. */
  firstNew: string | undefined;
  /** The key of the message that is edited. */
  editing: string | undefined;
  /** What refused edits have left, by the keys of the messages. */
  refused: ReadonlyMap<string, Refused>;
  /** The positions of the pinned messages. */
  pins: readonly number[];
  /** The key of a message to go to. */
  target: string | undefined;
  breaks: readonly Break[];
  more: More;
  newer: Newer;
  /** How far the others have read. Undefined if that is not shown. */
  receipts: Receipts | undefined;
  /** Whether the senders' names are shown. */
  withNames: boolean;
  /** The end of the log has come into sight, or left it. */
  onEnd: (inSight: boolean) => void;
  may: Rights;
  on: RowActions;
}

/** The messages of a conversation, by days and in groups of one sender. */
export function Log(props: Props): ReactNode {
  const {
    me,
    label,
    intro,
    messages,
    epoch,
    firstNew,
    editing,
    refused,
    pins,
    target,
    breaks,
    more,
    newer,
    receipts,
    may,
    on,
  } = props;
  const { ref, atEnd, missed, toEnd, lineAbove, toLine } = useScroll(messages, me.id, more, newer, target, props.onEnd);
  const known = useContext(KnownUsers);
  const broken = brokenAfter(messages, breaks);
  const readers = readersOf(messages, receipts, epoch, known);
  const answered = answeredIn(messages);

  return (
    <div className="log-frame">
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, with the keyboard too */}
      <div ref={ref} className="log" role="log" aria-live="off" aria-label={label} tabIndex={0} onKeyDown={walk}>
        {more.has && messages.length > 0 && (
          <button type="button" className="earlier" disabled={more.loading} onClick={() => more.load().catch(() => {})}>
            {more.loading ? 'Loading…' : 'Show earlier messages'}
          </button>
        )}
        {messages.length === 0 && <div className="empty">{intro}</div>}
        {messages.map((m, i) => {
          const before = messages[i - 1];
          const after = messages[i + 1];
          const day = isNewDay(before, m);
          const isFirstNew = m.key === firstNew;
          const cut = day || (before && broken.has(before)) || isFirstNew;
          const ends = !after || isNewDay(m, after) || broken.has(m) || after.key === firstNew;
          return (
            <Fragment key={m.key}>
              {day && (
                <p className="day">
                  <span>{dayOf(timeOf(m))}</span>
                </p>
              )}
              {isFirstNew && <p className="divider">New messages</p>}
              <Row
                message={m}
                mine={m.from?.id === me.id}
                withName={props.withNames}
                first={cut || !together(before, m)}
                end={ends || !together(m, after)}
                current={m.epoch === epoch}
                editing={m.key === editing}
                refused={refused.get(m.key)}
                pinned={m.epoch === epoch && m.seq !== undefined && pins.includes(m.seq)}
                marked={m.key === target}
                readBy={readers.get(m) ?? ''}
                answered={m.re === undefined ? undefined : answered(m)}
                may={may}
                on={on}
              />
              {broken.has(m) && <BreakNote missing={broken.get(m) === true} />}
            </Fragment>
          );
        })}
      </div>
      {lineAbove && (
        <button type="button" className="jump up" onClick={toLine}>
          <Icon of="up" />
          New messages
        </button>
      )}
      {!atEnd && (
        <button type="button" className="jump" onClick={toEnd}>
          <Icon of="down" />
          {missed > 0 ? `${missed} new` : 'Latest'}
        </button>
      )}
    </div>
  );
}

/** The arrow keys go from message to message, beginning at the last one. */
function walk(event: KeyboardEvent<HTMLElement>): void {
  const { key, target, currentTarget: log } = event;
  const at = (target as Element).closest<HTMLElement>('.row');
  if (event.altKey || event.ctrlKey || event.metaKey || (target as Element).closest('textarea')) return;
  if (key === 'Escape' && at) return document.querySelector<HTMLElement>('.composer textarea')?.focus();
  const rows = [...log.querySelectorAll<HTMLElement>('.row')];
  const i = at ? rows.indexOf(at) : rows.length;
  const to = { ArrowUp: i - 1, ArrowDown: i + 1, Home: 0, End: rows.length - 1 }[key];
  if (to === undefined || !rows[to]) return;
  event.preventDefault();
  rows[to].focus({ preventScroll: true });
  rows[to].scrollIntoView({ block: 'nearest' });
}

/** Returns the last message before each break, and if some may be missing. */
function brokenAfter(messages: readonly Message[], breaks: readonly Break[]): Map<Message, boolean> {
  const last = new Map<Message, boolean>();
  for (const { before, missing } of breaks) {
    const m = messages.findLast((m) => before.has(m.key));
    if (m) last.set(m, missing || last.get(m) === true);
  }
  return last;
}

const refKey = (epoch = '', ref: unknown = '', author = '') => `${epoch}\n${ref}\n${author}`;

/** Returns a function that finds what a message answers. */
function answeredIn(messages: readonly Message[]): (m: Message) => Message | undefined {
  let all: Map<string, Message> | undefined;
  return ({ re, epoch }) => {
    all ??= new Map(
      messages.flatMap((m) => [
        [refKey(m.epoch, m.seq), m],
        [refKey('', m.id, m.from?.id), m],
      ]),
    );
    if (typeof re !== 'object') return all.get(refKey(epoch ?? messages.findLast((m) => m.epoch)?.epoch, re));
    return all.get(refKey('', re?.id, re?.author));
  };
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
