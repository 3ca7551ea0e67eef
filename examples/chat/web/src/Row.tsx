import type { Message } from 'chathub-client/react';
import { memo, type ReactNode, type TouchEvent, useEffect, useId, useRef, useState } from 'react';
import { ActionBar, type Rights, type RowActions } from './Actions.js';
import { Editor, type Refused } from './Editor.js';
import { fullTimeOf, linked, timeOf } from './format.js';
import { Avatar, colored, Icon, Name, Spoken } from './parts.js';
import { Quote } from './Quote.js';
import { Reactions } from './Reactions.js';
import { DELETED, textOf } from './types.js';

interface Props {
  message: Message;
  mine: boolean;
  withName: boolean;
  /** Whether it is the first and the last message of a group. */
  first: boolean;
  end: boolean;
  /** Whether the server still has its log, so that it can be changed. */
  current: boolean;
  editing: boolean;
  pinned: boolean;
  /** What a refused edit has left, and why it was refused. */
  refused: Refused | undefined;
  /** Whether a jump has led here. */
  marked: boolean;
  /** Who has read it, as text. Empty if nobody is known to have. */
  readBy: string;
  /** The message that it answers, if that is loaded. */
  answered: Message | undefined;
  may: Rights;
  on: RowActions;
}

/** One message. */
export const Row = memo(function Row(props: Props): ReactNode {
  const { message, mine, withName, first, end, current, editing, pinned, refused, marked, readBy, answered, may, on } =
    props;
  const { key, id = '', from, data, status, error, ts, edited, deleted, re } = message;
  const own = useId();
  const name = from?.name ?? 'Server';
  const gone = deleted !== undefined;
  const able = current && status === 'sent' && !gone;
  const [over, setOver] = useState(false);
  const [focused, setFocused] = useState(false);
  const press = useLongPress(() => on.menu(message), able);
  const classes = ['row', status, mine && 'mine', first && 'first', end && 'end', marked && 'marked', gone && 'gone'];
  const shown = withName && !mine;
  return (
    <article
      className={classes.filter(Boolean).join(' ')}
      data-key={key}
      tabIndex={-1}
      aria-labelledby={`${own}who ${own}text`}
      onPointerEnter={(event) => event.pointerType === 'mouse' && setOver(true)}
      onPointerLeave={() => setOver(false)}
      onFocus={(event) => setFocused(event.target.matches(':focus-visible'))}
      onBlur={(event) => event.currentTarget.contains(event.relatedTarget) || setFocused(false)}
      onKeyDown={(event) => {
        if (event.key !== 'Enter' || event.target !== event.currentTarget || !able) return;
        event.preventDefault();
        on.menu(message);
      }}
      {...press}
    >
      {shown && <Avatar id={from?.id ?? ''} name={name} />}
      <div className="stack">
        {shown ? (
          <span id={`${own}who`} className={first ? 'who' : 'sr'} style={colored(from?.id ?? '')}>
            <Name of={name} />
            <Spoken>: </Spoken>
          </span>
        ) : (
          <Spoken id={`${own}who`}>
            <Name of={mine ? 'You' : name} />
            {': '}
          </Spoken>
        )}
        {re !== undefined && !gone && (
          <Quote message={message} answered={answered} onJump={current ? () => on.jump(message) : undefined} />
        )}
        {editing ? (
          <Editor
            text={textOf(data)}
            refused={refused}
            onSave={(text) => on.edited(message, text)}
            onCancel={() => on.edited(message)}
          />
        ) : (
          <div className="bubble" id={`${own}text`}>
            <span className="text" dir="auto">
              {gone ? DELETED : <Whole key={edited} text={textOf(data)} />}
            </span>
            <span className="meta">
              {pinned && (
                <span className="state" title="Pinned">
                  <Icon of="pin" />
                  <Spoken>Pinned</Spoken>
                </span>
              )}
              {edited !== undefined && !gone && <span title={`Edited ${fullTimeOf(edited)}`}>edited</span>}
              {ts !== undefined && (
                <time dateTime={new Date(ts).toISOString()} title={fullTimeOf(ts)}>
                  {timeOf(ts)}
                </time>
              )}
              {mine && !gone && <State status={status} readBy={readBy} />}
            </span>
          </div>
        )}
        {!gone && (
          <Reactions
            message={message}
            onReact={able && may.write ? (key, is) => on.react(message, key, is) : undefined}
          />
        )}
        {status === 'failed' && (
          <p className="failure">
            Not sent: {error?.message ?? 'unknown'}.
            <button type="button" onClick={() => leave(() => on.retry(id))}>
              Try again
            </button>
            <button type="button" onClick={() => leave(() => on.discard(id))}>
              Discard
            </button>
          </p>
        )}
        {able && (over || focused) && !editing && (
          <ActionBar message={message} mine={mine} pinned={pinned} may={may} on={on} />
        )}
        {able && (
          <button type="button" className="sr more" tabIndex={-1} onClick={() => on.menu(message)}>
            Actions
          </button>
        )}
      </div>
    </article>
  );
});

const LONG_PRESS = 500; // ms

/** Calls `fn` when a finger has rested on an element. */
function useLongPress(fn: () => void, able: boolean) {
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const pressed = useRef(false);
  const end = () => clearTimeout(timer.current);
  useEffect(() => () => clearTimeout(timer.current), []);
  if (!able) return {};
  return {
    onTouchStart: (event: TouchEvent) => {
      end();
      pressed.current = false;
      // Links and buttons have their own.
      if (event.touches.length > 1 || (event.target as Element).closest('a, button, textarea')) return;
      timer.current = setTimeout(() => {
        pressed.current = true;
        fn();
      }, LONG_PRESS);
    },
    onTouchMove: end,
    onTouchCancel: end,
    onTouchEnd: (event: TouchEvent) => {
      end();
      if (pressed.current) event.preventDefault(); // a click would close what has opened
    },
    onContextMenu: (event: React.MouseEvent) => {
      if ((event.nativeEvent as PointerEvent).pointerType === 'touch') event.preventDefault();
    },
  };
}

// Acting removes the button, so focus moves to the field for the next message.
function leave(act: () => void): void {
  document.querySelector<HTMLElement>('.composer textarea')?.focus();
  act();
}

const states = {
  sending: ['clock', 'Sending'],
  sent: ['check', 'Sent'],
  failed: ['alert', 'Not sent'],
} as const;

function State({ status, readBy }: { status: keyof typeof states; readBy: string }): ReactNode {
  const [icon, label] = readBy && status === 'sent' ? (['checks', `Read by ${readBy}`] as const) : states[status];
  return (
    <span className={readBy ? 'state read' : 'state'} title={label}>
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
      // biome-ignore lint/suspicious/noArrayIndexKey: the pieces of a text have an order
      <a key={i} href={piece} target="_blank" rel="noopener noreferrer nofollow">
        {piece}
      </a>
    ) : (
      piece
    ),
  );
}
