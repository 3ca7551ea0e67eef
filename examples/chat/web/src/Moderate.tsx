import type { ChatError, User } from 'chathub-client';
import { type Message, useChat } from 'chathub-client/react';
import { type FormEvent, type ReactNode, useContext, useEffect, useState } from 'react';
import { durationText, endText } from './format.js';
import { type Asked, type Decision, liftOf, moderate } from './moderation.js';
import { KnownUsers } from './names.js';
import { Dialog, Name } from './parts.js';
import { shortOf } from './types.js';

// The server counts bytes, of which a character of a text here has at most 3.
const LONGEST_REASON = 85; // 256 bytes
const LONGEST_REPORT = 333; // 1,000 bytes

const FOR = { '10 minutes': 600_000, '1 hour': 3_600_000, '1 day': 86_400_000, 'For good': 0 };

/** Buttons of which one is chosen. */
export function Choice<T extends string>(props: {
  label: string;
  options: readonly T[];
  value: T;
  onChange: (value: T) => void;
}): ReactNode {
  const { label, options, value, onChange } = props;
  return (
    <fieldset className="choice">
      <legend>{label}</legend>
      <div>
        {options.map((option) => (
          <button key={option} type="button" aria-pressed={option === value} onClick={() => onChange(option)}>
            {option}
          </button>
        ))}
      </div>
    </fieldset>
  );
}

interface ModerateProps {
  user: User;
  /** Undefined: there is only the whole service. */
  room: string | undefined;
  standing: Asked;
  /** Tells the moderator that it is done. */
  say: (title: string, text: string) => void;
  onClosed: () => void;
}

/** What a moderator can do about a user. It stays open until that is done. */
export function ModerateDialog({ user, room, standing, say, onClosed }: ModerateProps): ReactNode {
  const client = useChat();
  const [kind, setKind] = useState<'Mute' | 'Ban'>('Mute');
  const [where, setWhere] = useState<'This room' | 'Everywhere'>(room === undefined ? 'Everywhere' : 'This room');
  const [time, setTime] = useState<keyof typeof FOR>('10 minutes');
  const [reason, setReason] = useState('');
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState('');
  const { ask, decisions } = standing;
  useEffect(ask, [ask]); // others may have decided

  async function decide(close: () => void) {
    setBusy(true);
    setProblem('');
    try {
      await moderate(client, {
        action: kind === 'Mute' ? 'mute' : 'ban',
        room: where === 'This room' ? room : undefined,
        user: user.id,
        forMs: FOR[time],
        reason: reason.replace(/\s+/g, ' ').trim(),
      });
      close();
      ask();
      say(user.name, kind === 'Mute' ? 'is muted.' : 'is banned.');
    } catch (err) {
      setProblem(`Not done: ${(err as ChatError).message}.`);
      setBusy(false);
    }
  }

  return (
    <Dialog title={<>Moderate {<Name of={user.name} />}</>} className="moderate" onClosed={onClosed}>
      {(close) => (
        <form
          className="dialog-scroll"
          onSubmit={(event: FormEvent) => {
            event.preventDefault();
            if (!busy) void decide(close);
          }}
        >
          <Decisions
            of={decisions.filter((d) => d.user === user.id)}
            label={`What holds for \u2068${user.name}\u2069`}
            ask={ask}
          />
          <Choice label="What" options={['Mute', 'Ban']} value={kind} onChange={setKind} />
          {room !== undefined && (
            <Choice label="Where" options={['This room', 'Everywhere']} value={where} onChange={setWhere} />
          )}
          <Choice label="How long" options={Object.keys(FOR) as (keyof typeof FOR)[]} value={time} onChange={setTime} />
          <label htmlFor="reason">Reason</label>
          <input
            id="reason"
            className="field"
            type="text"
            value={reason}
            maxLength={LONGEST_REASON}
            autoComplete="off"
            enterKeyHint="done"
            dir="auto"
            aria-describedby="reason-hint"
            onChange={(event) => setReason(event.target.value)}
          />
          <p id="reason-hint" className={problem ? 'hint bad' : 'hint'} role="status">
            {problem || (
              <>
                <Name of={user.name} /> sees the reason. {hints[kind]}
              </>
            )}
          </p>
          <div className="dialog-actions">
            <button type="button" className="secondary" onClick={close}>
              Cancel
            </button>
            <button type="submit" className="primary" disabled={busy}>
              {kind}
            </button>
          </div>
        </form>
      )}
    </Dialog>
  );
}

const hints = { Mute: 'They can read, but not write.', Ban: 'They are taken out, and cannot come back.' };

/** Decisions that hold, each with a button that lifts it. */
export function Decisions(props: { of: readonly Decision[]; label: string; ask: () => void }): ReactNode {
  const { of, label, ask } = props;
  const client = useChat();
  const known = useContext(KnownUsers);
  const [problem, setProblem] = useState('');
  const nameOf = (id: string) => (id === known.me.id ? known.me.name : (known.names.get(id) ?? 'Somebody'));
  if (of.length === 0) return null;
  return (
    <>
      <ul className="decisions" aria-label={label}>
        {of.map((d) => (
          <li key={`${d.kind}/${d.room}/${d.user}`}>
            <p className="decision">
              <span>
                {d.user && <Name of={nameOf(d.user)} className="item-title" />} {done[d.kind]}
                {d.everyMs > 0 && `: one message every ${durationText(d.everyMs)}`}
                {d.user && d.room === undefined && ' everywhere'}. {endText(d.until)}
              </span>
              {d.reason && <Name of={d.reason} className="item-sub" />}
              {d.by && (
                <span className="quiet">
                  By <Name of={nameOf(d.by)} />
                </span>
              )}
            </p>
            <button
              type="button"
              className="secondary small"
              aria-label={`Lift: ${d.user ? `\u2068${nameOf(d.user)}\u2069 ` : ''}${done[d.kind]}`}
              onClick={(event) => {
                setProblem('');
                event.currentTarget.closest('dialog')?.focus(); // the button goes
                moderate(client, liftOf(d)).then(ask, (err: ChatError) => setProblem(`Not lifted: ${err.message}.`));
              }}
            >
              Lift
            </button>
          </li>
        ))}
      </ul>
      <p className="hint bad" role="status" hidden={!problem}>
        {problem}
      </p>
    </>
  );
}

const done = { mute: 'is muted', ban: 'is banned', slow: 'Slow mode', freeze: 'Frozen' };

/** Asks why a message should be looked at. It stays open until it is sent. */
export function ReportDialog(props: {
  message: Message;
  /** Sends the reason. */
  onReport: (reason: string) => Promise<unknown>;
  onClosed: () => void;
}): ReactNode {
  const { message, onReport, onClosed } = props;
  const [reason, setReason] = useState('');
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState('');

  async function report(close: () => void) {
    setBusy(true);
    setProblem('');
    try {
      await onReport(reason.trim());
      close();
    } catch (err) {
      setProblem(`Not reported: ${(err as ChatError).message}.`);
      setBusy(false);
    }
  }

  return (
    <Dialog title="Report this message" onClosed={onClosed}>
      {(close) => (
        <form
          onSubmit={(event: FormEvent) => {
            event.preventDefault();
            if (!busy && reason.trim() !== '') void report(close);
          }}
        >
          <p>
            By <Name of={message.from?.name ?? 'Server'} />: <Name of={shortOf(message)} className="quoted" />
          </p>
          <label htmlFor="why">What is wrong with it?</label>
          <input
            id="why"
            className="field"
            type="text"
            value={reason}
            maxLength={LONGEST_REPORT}
            required
            autoComplete="off"
            enterKeyHint="send"
            dir="auto"
            aria-describedby="why-hint"
            onChange={(event) => setReason(event.target.value)}
          />
          <p id="why-hint" className={problem ? 'hint bad' : 'hint'} role="status">
            {problem || 'Only moderators see it, with your name.'}
          </p>
          <div className="dialog-actions">
            <button type="button" className="secondary" onClick={close}>
              Cancel
            </button>
            <button type="submit" className="primary" disabled={busy}>
              Report
            </button>
          </div>
        </form>
      )}
    </Dialog>
  );
}
