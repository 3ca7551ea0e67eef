import type { ChatError, User } from 'chathub-client';
import { useChat } from 'chathub-client/react';
import { type ReactNode, useContext, useEffect, useState } from 'react';
import { useFetched } from './fetched.js';
import { dayOf, durationText, timeOf } from './format.js';
import { linkTo } from './link.js';
import { Choice, Decisions } from './Moderate.js';
import { type Asked, moderate, type Order, type Report, type Rules } from './moderation.js';
import { KnownUsers } from './names.js';
import { Dialog, Name } from './parts.js';
import { shortOf } from './types.js';

const SLOW = [5_000, 30_000, 300_000];

interface Props {
  room: string;
  rules: Rules;
  standing: Asked;
  reports: readonly Report[];
  onModerate: (user: User) => void;
  onClosed: () => void;
}

/** What a moderator can do about a room, and what has been reported. */
export function RoomDialog({ room, rules, standing, reports, onModerate, onClosed }: Props): ReactNode {
  const client = useChat();
  const [problem, setProblem] = useState('');
  const { ask, decisions, more } = standing;
  useEffect(ask, [ask]); // others may have decided
  const give = (order: Order) => {
    setProblem('');
    moderate(client, { ...order, room }).then(ask, (err: ChatError) => setProblem(`Not done: ${err.message}.`));
  };
  const steps = [0, ...new Set([...SLOW, ...(rules.everyMs ? [rules.everyMs] : [])])];
  const stepText = (ms: number) => (ms === 0 ? 'Off' : durationText(ms));
  const slow = (text: string) => {
    const everyMs = steps.find((ms) => stepText(ms) === text);
    give(everyMs ? { action: 'slow', everyMs } : { action: 'unslow' });
  };
  return (
    <Dialog title="Moderation" className="moderate" onClosed={onClosed}>
      {(close) => (
        <div className="dialog-scroll">
          <Choice label="Slow mode" options={steps.map(stepText)} value={stepText(rules.everyMs)} onChange={slow} />
          <Choice
            label="Who can write"
            options={['Everyone', 'Only moderators']}
            value={rules.frozen ? 'Only moderators' : 'Everyone'}
            onChange={(who) => give({ action: who === 'Everyone' ? 'unfreeze' : 'freeze' })}
          />
          <p className={problem ? 'hint bad' : 'hint'} role="status">
            {problem || 'This holds at once, and everyone in the room sees it.'}
          </p>
          <h3 id="decisions">Decisions</h3>
          <Decisions of={decisions} label="Decisions" ask={ask} />
          {decisions.length === 0 && <p className="quiet">Nothing has been decided.</p>}
          {more && <p className="quiet">There are further ones.</p>}
          <h3 id="reports">Reports</h3>
          <ul className="decisions" aria-labelledby="reports">
            {reports.map((report) => (
              <li key={report.key}>
                <ReportItem
                  of={report}
                  onModerate={(user) => {
                    close(); // first, since it returns focus, which the next dialog takes
                    onModerate(user);
                  }}
                  onGo={close}
                />
              </li>
            ))}
          </ul>
          {reports.length === 0 && <p className="quiet">Nobody has reported anything.</p>}
        </div>
      )}
    </Dialog>
  );
}

interface ReportProps {
  of: Report;
  onModerate: (user: User) => void;
  onGo: () => void;
}

function ReportItem(props: ReportProps): ReactNode {
  const { room, seq, quote } = props.of;
  if (room === undefined) return <Reported {...props} text={quote} />;
  return <ReportedInRoom {...props} room={room} seq={seq} />;
}

function ReportedInRoom({ room, seq, ...props }: ReportProps & { room: string; seq: number }): ReactNode {
  const found = useFetched(room, seq);
  return <Reported {...props} text={found ? shortOf(found) : ''} name={found?.from?.name} />;
}

function Reported({ of, text, name, onModerate, onGo }: ReportProps & { text: string; name?: string | undefined }) {
  const { names, me } = useContext(KnownUsers);
  const author = name ?? names.get(of.author) ?? 'Somebody';
  return (
    <>
      <p className="decision">
        <Name of={of.reason} />
        {text && <Name of={text} className="quoted" />}
        <span className="quiet">
          <Name of={of.by?.name ?? 'The server'} /> about <Name of={author} />
          {of.room === undefined ? ', in private. ' : ''}
          {of.room !== undefined && (
            <>
              {' '}
              in <Name of={of.room} />.{' '}
            </>
          )}
          {dayOf(of.ts)}, {timeOf(of.ts)}
        </span>
      </p>
      <span className="report-actions">
        {of.room !== undefined && of.seq > 0 && (
          <a className="secondary small" href={linkTo({ room: of.room, seq: of.seq })} onClick={onGo}>
            Show
          </a>
        )}
        {of.author && of.author !== me.id && (
          <button
            type="button"
            className="secondary small"
            aria-label={`Moderate \u2068${author}\u2069`}
            onClick={() => onModerate({ id: of.author, name: author })}
          >
            Moderate
          </button>
        )}
      </span>
    </>
  );
}
