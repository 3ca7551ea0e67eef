import type { User } from 'chathub-client';
import { type Message, useChat, useConnection, usePrivateMessages, useRoom } from 'chathub-client/react';
import { type ReactNode, type RefObject, useState } from 'react';
import type { Break } from './breaks.js';
import { Composer } from './Composer.js';
import { useInboxHead, useNews, useReading, useRoomHead } from './following.js';
import { peopleText, refusalText, typingText } from './format.js';
import { Log } from './Log.js';
import { useOnline } from './online.js';
import { PeopleDialog, PeopleList } from './People.js';
import { Avatar, IconButton, Name, RoomAvatar } from './parts.js';
import type { ReadMarks } from './read.js';
import { keyOf, privately, room } from './types.js';

interface Shown {
  me: User;
  marks: ReadMarks;
  /** Texts that are not sent yet, by place. */
  drafts: Map<string, string>;
  breaks: readonly Break[];
  /** Back to the list of conversations, on a narrow screen. */
  onBack: () => void;
  onMessage: (user: User) => void;
}

export function RoomConversation({
  name,
  onLeave,
  ...shown
}: Shown & { name: string; onLeave: () => void }): ReactNode {
  const { messages, status, error, removed, users, count, typing, hasMore, loading, ...on } = useRoom(name);
  const client = useChat();
  const [listing, setListing] = useState(false);
  const head = useRoomHead(name);
  // Without a connection, the last known people are shown.
  const refused = status === 'refused' && refusalText(removed);
  const sub = refused || (count > 0 ? peopleText(count) : 'Joining…');
  const intro = (
    <>
      <RoomAvatar />
      <h3>
        Welcome to <Name of={name} />
      </h3>
      <p>There are no messages yet. Everyone in the room can read what you write.</p>
    </>
  );
  return (
    <>
      <div className="conversation">
        <Head title={name} sub={sub} picture={<RoomAvatar />} onBack={shown.onBack}>
          <IconButton icon="people" label="Who is here" className="people-toggle" onClick={() => setListing(true)} />
          <button type="button" className="leave" aria-label="Leave the room" onClick={onLeave}>
            Leave
          </button>
        </Head>
        <Thread
          {...shown}
          place={keyOf(room(name))}
          title={name}
          label={`Messages in ${name}`}
          intro={status === 'joined' ? intro : null}
          messages={messages}
          head={head}
          more={{ has: hasMore, loading, load: on.loadMore }}
          typing={typing}
          refusal={
            refused
              ? {
                  title: removed ? `${refused} from this room` : `${refused} this room`,
                  reason: removed ? removed.reason : (error?.message ?? ''),
                  again: removed ? 'Join again' : 'Try again',
                  // Its state has the error.
                  onAgain: () => client.room(name).join({ history: 50 }).catch(ignore),
                }
              : undefined
          }
          onSend={(text) => on.send({ text })}
          onRetry={on.retry}
          onDiscard={on.discard}
          onTyping={(is) => (is ? on.setTyping() : on.stopTyping())}
        />
      </div>
      <aside className="people" aria-labelledby="people">
        <h2 id="people">
          Who is here <span className="count">{count > 0 && count}</span>
        </h2>
        <PeopleList me={shown.me} users={users} count={count} onMessage={shown.onMessage} />
      </aside>
      {listing && (
        <PeopleDialog
          me={shown.me}
          users={users}
          count={count}
          onMessage={shown.onMessage}
          onClosed={() => setListing(false)}
        />
      )}
    </>
  );
}

export function PrivateConversation({ user, ...shown }: Shown & { user: User }): ReactNode {
  const { id, name } = user;
  const { messages, send, retry, discard } = usePrivateMessages(id);
  const head = useInboxHead();
  const { status } = useConnection();
  const online = useOnline()(id);
  const picture = <Avatar id={id} name={name} online={online} />;
  return (
    <div className="conversation">
      <Head
        title={name}
        sub={status === 'connected' ? onlineText[`${online}`] : 'You are not connected.'}
        picture={picture}
        onBack={shown.onBack}
      />
      <Thread
        {...shown}
        place={keyOf(privately(user))}
        title={name}
        label={`Messages with ${name}`}
        intro={
          <>
            <Avatar id={id} name={name} />
            <h3>
              <Name of={name} />
            </h3>
            <p>Only the two of you can read this. Messages arrive even if one of you is away.</p>
          </>
        }
        messages={messages}
        head={head}
        onSend={(text) => send({ text, toName: name })}
        onRetry={retry}
        onDiscard={discard}
      />
    </div>
  );
}

const onlineText = {
  true: 'Online',
  false: 'Offline. Your messages will be waiting.',
  undefined: 'Too many people are online to tell who.',
};

interface HeadProps {
  title: string;
  sub: string;
  picture: ReactNode;
  onBack: () => void;
  children?: ReactNode;
}

function Head({ title, sub, picture, onBack, children }: HeadProps): ReactNode {
  return (
    <header className="bar">
      <IconButton icon="back" label="Back to the conversations" className="narrow-only" onClick={onBack} />
      {picture}
      <div className="bar-text">
        <h2 tabIndex={-1}>
          <Name of={title} />
        </h2>
        <p>{sub}</p>
      </div>
      {children}
    </header>
  );
}

const ignore = () => {};

/** Why nothing can be written in a room. */
interface Refusal {
  title: string;
  /** Possibly empty. */
  reason: string;
  /** What the button says. */
  again: string;
  onAgain: () => void;
}

interface ThreadProps extends Shown {
  place: string;
  title: string;
  label: string;
  /** Shown while there are no messages. */
  intro: ReactNode;
  messages: readonly Message[];
  /** Messages up to this `seq` are older than the page. */
  head: RefObject<number>;
  more?: { has: boolean; loading: boolean; load: () => Promise<void> };
  typing?: readonly User[];
  refusal?: Refusal | undefined;
  onSend: (text: string) => void;
  onRetry: (id: string) => void;
  onDiscard: (id: string) => void;
  onTyping?: (is: boolean) => void;
}

function Thread({ place, marks, drafts, messages, typing = [], onTyping, onSend, ...rest }: ThreadProps): ReactNode {
  const { me, title, label, intro, breaks, head, more, refusal, onRetry, onDiscard } = rest;
  const { newAfter, hideNew, seen } = useReading(place, marks, messages, me);
  const news = useNews(messages, me, head);
  return (
    <>
      <Log
        me={me}
        label={label}
        intro={intro}
        messages={messages}
        newAfter={newAfter}
        breaks={breaks}
        more={more}
        withNames={onTyping !== undefined}
        onEnd={seen}
        onRetry={onRetry}
        onDiscard={onDiscard}
      />
      <div className="sr" role="status">
        {refusal ? `${refusal.title}. ${refusal.reason}` : news}
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
            <Name of={refusal.reason} />
          </p>
          <button type="button" onClick={refusal.onAgain}>
            {refusal.again}
          </button>
        </div>
      )}
      <Composer
        label={`Message ${title}`}
        disabled={refusal !== undefined}
        draft={drafts.get(place) ?? ''}
        onDraft={(text) => drafts.set(place, text)}
        onSend={(text) => {
          hideNew();
          onSend(text);
        }}
        onTyping={onTyping}
      />
    </>
  );
}
