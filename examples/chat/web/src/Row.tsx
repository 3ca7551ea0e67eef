import type { Message } from 'chathub-client/react';
import { memo, type ReactNode, useState } from 'react';
import { fullTimeOf, linked, timeOf } from './format.js';
import { Avatar, colored, Icon, Name, Spoken } from './parts.js';
import { textOf } from './types.js';

interface Props {
  message: Message;
  mine: boolean;
  withName: boolean;
  /** Whether it is the first and the last message of a group. */
  first: boolean;
  end: boolean;
  onRetry: (id: string) => void;
  onDiscard: (id: string) => void;
}

/** One message. */
export const Row = memo(function Row({ message, mine, withName, first, end, onRetry, onDiscard }: Props): ReactNode {
  const { key, id = '', from, data, status, error, ts } = message;
  const name = from?.name ?? 'Server';
  const classes = ['row', status, mine && 'mine', first && 'first', end && 'end'].filter(Boolean).join(' ');
  const shown = withName && !mine;
  return (
    <div className={classes} data-key={key}>
      {shown && <Avatar id={from?.id ?? ''} name={name} />}
      <div className="stack">
        {shown ? (
          <span className={first ? 'who' : 'sr'} style={colored(from?.id ?? '')}>
            <Name of={name} />
            <Spoken>: </Spoken>
          </span>
        ) : (
          <Spoken>
            <Name of={mine ? 'You' : name} />
            {': '}
          </Spoken>
        )}
        <div className="bubble">
          <span className="text" dir="auto">
            <Whole text={textOf(data)} />
          </span>
          <span className="meta">
            {ts !== undefined && (
              <time dateTime={new Date(ts).toISOString()} title={fullTimeOf(ts)}>
                {timeOf(ts)}
              </time>
            )}
            {mine && <State status={status} />}
          </span>
        </div>
        {status === 'failed' && (
          <p className="failure">
            Not sent: {error?.message ?? 'unknown'}.
            <button type="button" onClick={() => leave(() => onRetry(id))}>
              Try again
            </button>
            <button type="button" onClick={() => leave(() => onDiscard(id))}>
              Discard
            </button>
          </p>
        )}
      </div>
    </div>
  );
});

// Acting removes the button, so focus moves to the field for the next message.
function leave(act: () => void): void {
  document.querySelector('textarea')?.focus();
  act();
}

const states = {
  sending: ['clock', 'Sending'],
  sent: ['check', 'Sent'],
  failed: ['alert', 'Not sent'],
} as const;

function State({ status }: { status: keyof typeof states }): ReactNode {
  const [icon, label] = states[status];
  return (
    <span className="state" title={label}>
      <Icon of={icon} />
      <Spoken>{label}</Spoken>
    </span>
  );
}

const LONG = 2_000; // characters; longer texts are cut until asked for

function Whole({ text }: { text: string }): ReactNode {
  const [whole, setWhole] = useState(text.length <= LONG);
  if (whole) return <Linked text={text} />;
  return (
    <>
      <Linked text={text.slice(0, LONG / 4)} />…
      <button type="button" className="whole" onClick={() => setWhole(true)}>
        Show all
      </button>
    </>
  );
}

function Linked({ text }: { text: string }): ReactNode {
  return linked(text).map((piece, i) =>
    i % 2 === 1 ? (
      // biome-ignore lint/suspicious/noArrayIndexKey: a text never changes
      <a key={i} href={piece} target="_blank" rel="noopener noreferrer nofollow">
        {piece}
      </a>
    ) : (
      piece
    ),
  );
}
