import type { ChatError, PrivateRef, User } from 'chathub-client';
import { type Message, useChat, useConnection } from 'chathub-client/react';
import type { Actions, Shown as Messages } from 'chathub-client/store';
import { type ReactNode, useEffect, useMemo, useRef, useState } from 'react';
import { ActionSheet, type RowActions } from './Actions.js';
import { banOf } from './banned.js';
import type { Break } from './breaks.js';
import { Composer, phone } from './Composer.js';
import { DeleteDialog } from './dialogs.js';
import type { Drafts } from './drafts.js';
import type { Refused } from './Editor.js';
import { type Heads, useNews } from './following.js';
import { typingText } from './format.js';
import { type Hold, HoldLine, HoldSpoken } from './Hold.js';
import { Log } from './Log.js';
import type { Link } from './link.js';
import { ReportDialog } from './Moderate.js';
import { type Asked, type Report, usePending } from './moderation.js';
import { Name } from './parts.js';
import { useReading } from './reading.js';
import type { Receipts } from './receipts.js';
import { keyOf, type Place, type Text, textOf } from './types.js';

/** What all conversations get from the page. */
export interface Shared {
  me: User;
  drafts: Drafts;
  heads: Heads;
  breaks: readonly Break[];
  /** What refused edits have left, by the keys of the messages. */
  refused: ReadonlyMap<string, Refused>;
  onRefused: (key: string, left?: Refused) => void;
  /** A message to show, if a link leads here. */
  link: Link | null;
  /** The page has begun to follow it. */
  onLinked: () => void;
  /** Shows a text for a few seconds. */
  say: (title: string, text: string) => void;
  /** Back to the list of conversations, on a narrow screen. */
  onBack: () => void;
  onMessage: (user: User) => void;
  /** What concerns the user in the whole service. */
  standing: Asked;
  /** For moderators, the newest first. */
  reports: readonly Report[];
  /** When the user has last written in a room. */
  written: (room: string) => number;
  /** The reader sees the newest messages, or no longer does. */
  onSeeing: (is: boolean) => void;
}

/** Why nothing can be written in a room. */
export interface Refusal {
  title: string;
  /** Possibly empty. */
  reason: string;
  /** Until when, as a sentence. */
  end?: string;
  /** What the button says. */
  again: string;
  onAgain: () => void;
}

interface Props extends Shared {
  place: Place;
  title: string;
  label: string;
  /** Shown while there are no messages. */
  intro: ReactNode;
  of: Messages<Text> & Actions<Text>;
  /** Whether pages can be loaded. */
  ready: boolean;
  /** The life of the log that the server has now. */
  epoch: string | undefined;
  /** Makes the data of a message. */
  dataOf: (text: string) => Text;
  /** How far the others have read. Undefined if that is not shown. */
  receipts?: Receipts | undefined;
  copyLink?: (m: Message) => void;
  /** The positions of the pinned messages. */
  pins?: readonly number[];
  onPin?: (m: Message, on: boolean) => void;
  typing?: readonly User[];
  refusal?: Refusal | undefined;
  hold: Hold | undefined;
  /** Shows what a moderator can do about a user. Undefined for others. */
  onModerate: ((user: User) => void) | undefined;
  onTyping?: (is: boolean) => void;
}

const NO_PINS: readonly number[] = [];
const LONGEST_QUOTE = 600; // characters, of which the server counts the bytes
const MANY = 100; // the server counts no more unread messages

/** The messages of a conversation, and the field for the next one. */
export function Thread(props: Props): ReactNode {
  const { me, drafts, heads, breaks, say, onSeeing, place, title, label, intro, of, epoch, dataOf } = props;
  const { receipts, typing = [], pins = NO_PINS, refusal, hold, onTyping } = props;
  const { messages, hasMore, hasNewer, loading, loadMore, loadNewer, showNewest } = of;
  const skip = place.kind === 'room' ? heads.of(place) : -1;
  const { firstNew, firstVisit, seeing, hideNew, seen } = useReading(of, skip);
  const news = useNews(messages, me, heads.of(place), hasNewer);
  const { target, go } = useJump(props);
  const [editing, setEditing] = useState<string>();
  const [replyTo, setReplyTo] = useState<Message>();
  const [menu, setMenu] = useState<Message>();
  const [deleting, setDeleting] = useState<Message>();
  const [reporting, setReporting] = useState<Message>();
  const client = useChat();
  const moderates = props.onModerate !== undefined;
  const banned = banOf(useConnection()) !== undefined;
  const held = banned || refusal ? undefined : hold;
  const closed = banned || refusal !== undefined || hold?.closed === true;
  const may = useMemo(() => ({ write: !closed, moderate: moderates }), [closed, moderates]);
  // Slow mode counts from the last message, and from one that is not sent yet.
  const slow = (place.kind === 'room' && hold?.everyMs) || 0;
  const next = slow > 0 ? props.written(place.kind === 'room' ? place.name : '') + slow : 0;
  const waiting = usePending(next) || (slow > 0 && messages.some((m) => m.status === 'sending'));

  // The line above the new messages shows once all of them are loaded.
  const missing = !firstVisit && of.unread && of.firstUnread === undefined && hasMore && messages.length > 0;
  const sought = useRef(false);
  useEffect(() => {
    if (!missing || !props.ready || loading || sought.current) return;
    sought.current = true;
    loadMore(MANY).catch(() => {});
  }, [missing, props.ready, loading, loadMore]);
  useEffect(() => {
    onSeeing(seeing);
    return () => onSeeing(false);
  }, [seeing, onSeeing]);
  useEffect(() => () => showNewest(), [showNewest]);

  // Always the same, so that a row renders only if its message changes.
  const latest = useRef({ props, go });
  useEffect(() => {
    latest.current = { props, go };
  });
  const on = useMemo((): RowActions => {
    const of = () => latest.current.props.of;
    const tell = (title: string) => (err: ChatError) => latest.current.props.say(title, `${err.message}.`);
    return {
      retry: (id) => of().retry(id),
      discard: (id) => of().discard(id),
      reply: setReplyTo,
      edit: (m) => setEditing(m.key),
      edited: (m, text) => {
        setEditing(undefined);
        focusComposer();
        const { dataOf, say, onRefused } = latest.current.props;
        onRefused(m.key);
        if (text === undefined) return;
        of()
          .edit(m, dataOf(text))
          .catch((err: ChatError) => {
            say('Not edited', `${err.message}.`);
            // The text is in the field again, now or at the next edit.
            onRefused(m.key, { text, reason: err.message });
            setEditing((other) => other ?? m.key);
          });
      },
      remove: setDeleting,
      react: (m, key, is) => void of().react(m, key, is).catch(tell('No reaction')),
      copyLink: latest.current.props.copyLink && ((m) => latest.current.props.copyLink?.(m)),
      pin: latest.current.props.onPin && ((m, is) => latest.current.props.onPin?.(m, is)),
      report: setReporting,
      moderate: ({ from }) => from && latest.current.props.onModerate?.(from),
      jump: (m) => latest.current.go(m.re),
      menu: setMenu,
    };
  }, []);

  function editLast() {
    const own = messages.findLast(
      (m) => m.from?.id === me.id && m.status === 'sent' && m.deleted === undefined && m.epoch === epoch,
    );
    if (own) setEditing(own.key);
  }

  function send(parts: readonly string[]) {
    hideNew();
    setReplyTo(undefined);
    for (const [i, part] of parts.entries()) {
      // After a restart without the log, its position would mean another one.
      if (i === 0 && replyTo && replyTo.epoch === epoch) of.reply(replyTo, dataOf(part));
      else of.send(dataOf(part));
    }
  }

  function report({ seq, id, from, data }: Message, reason: string) {
    if (place.kind === 'room') return client.send('report', { seq, reason }, { room: place.name });
    const quote = textOf(data).slice(0, LONGEST_QUOTE);
    return client.send('report', { id, author: from?.id, reason, quote }, { to: place.id });
  }

  return (
    <>
      <Log
        me={me}
        label={label}
        intro={intro}
        messages={messages}
        epoch={epoch}
        firstNew={firstNew}
        editing={editing}
        refused={props.refused}
        pins={pins}
        target={target}
        breaks={breaks}
        more={{ has: hasMore && props.ready, loading, load: loadMore }}
        newer={{ has: hasNewer, loading, load: loadNewer, leave: showNewest }}
        receipts={receipts}
        withNames={place.kind === 'room'}
        onEnd={seen}
        may={may}
        on={on}
      />
      <div className="sr" role="status">
        {refusal ? `${refusal.title}. ${refusal.end ? `${refusal.end} ` : ''}${refusal.reason}` : news}
      </div>
      <div className="sr" role="status">
        {held && <HoldSpoken of={held} until={next} />}
      </div>
      <div className={typing.length > 0 ? 'typing on' : 'typing'}>
        <span className="dots" aria-hidden="true">
          <i />
          <i />
          <i />
        </span>
        <span>{typing.length > 0 && typingText(typing)}</span>
      </div>
      {refusal && (
        <div className="refusal">
          <p>
            <strong>{refusal.title}</strong>
            {refusal.end}
            <Name of={refusal.reason} />
          </p>
          <button type="button" onClick={refusal.onAgain}>
            {refusal.again}
          </button>
        </div>
      )}
      {held && <HoldLine of={held} until={next} />}
      <Composer
        label={`Message ${title}`}
        disabled={closed}
        waiting={waiting}
        single={slow > 0}
        draft={drafts.of(keyOf(place))}
        replyTo={replyTo}
        onDraft={(text) => drafts.set(keyOf(place), text)}
        onSend={send}
        onNoReply={() => setReplyTo(undefined)}
        onEditLast={editLast}
        onTyping={onTyping}
      />
      {menu && (
        <ActionSheet
          message={menu}
          mine={menu.from?.id === me.id}
          pinned={menu.seq !== undefined && pins.includes(menu.seq)}
          may={may}
          on={on}
          onClosed={() => setMenu(undefined)}
        />
      )}
      {reporting && (
        <ReportDialog
          message={reporting}
          onReport={async (reason) => {
            await report(reporting, reason);
            say('Reported', 'Moderators will look at it.');
          }}
          onClosed={() => setReporting(undefined)}
        />
      )}
      {deleting && (
        <DeleteDialog
          message={deleting}
          onClosed={() => setDeleting(undefined)}
          onDelete={() => {
            focusComposer(); // the bar of the message goes, with the button that had focus
            of.remove(deleting).catch((err) => say('Not deleted', `${err.message}.`));
          }}
        />
      )}
    </>
  );
}

function focusComposer(): void {
  const composer = document.querySelector<HTMLElement>(phone.matches ? '.log' : '.composer textarea');
  composer?.focus({ preventScroll: true });
}

/** A message to go to, and how many pages were loaded for it. */
interface Goal {
  readonly to: number | PrivateRef;
  readonly pages: number;
}

const PAGES = 20; // that are looked through for a private message

/** Goes to messages, which are loaded if need be. */
function useJump({ of, ready, epoch, say, link, onLinked }: Props) {
  const [goal, setGoal] = useState<Goal | null>(null);
  const [target, setTarget] = useState<string>();
  useEffect(() => {
    if (!link) return;
    setTarget(undefined);
    setGoal({ to: link.seq, pages: 0 });
    onLinked();
  }, [link, onLinked]);
  useEffect(() => {
    if (!goal || !ready || of.loading) return;
    const { to, pages } = goal;
    const found = of.messages.findLast((m) =>
      typeof to === 'number' ? m.seq === to && m.epoch === epoch : m.id === to.id && m.from?.id === to.author,
    );
    const room = typeof to === 'number';
    if (!found && (room ? pages === 0 : pages < PAGES && of.hasMore)) {
      setGoal({ to, pages: pages + 1 });
      (room ? of.loadAround(to) : of.loadMore()).catch((err) => {
        setGoal(null);
        say('Not loaded', `${err.message}.`);
      });
      return;
    }
    setGoal(null);
    if (found) setTarget(found.key);
    else say('Not found', 'This message is no longer there.');
  }, [goal, ready, of, epoch, say]);
  return {
    target,
    go: (to: Message['re']) => {
      if (to === undefined) return;
      setTarget(undefined); // so that the same message can be gone to again
      setGoal({ to, pages: 0 });
    },
  };
}
