import type { User } from 'chathub-client';
import { type Message, useChat, useConnection, usePrivateMessages, useRoom } from 'chathub-client/react';
import { type ReactNode, useEffect, useMemo, useState } from 'react';
import { useBan } from './banned.js';
import { endText, peopleText, refusalText } from './format.js';
import { useHold } from './Hold.js';
import { type Link, linkTo } from './link.js';
import { ModerateDialog } from './Moderate.js';
import { type Report, rulesOf, useStanding } from './moderation.js';
import { useOnline } from './online.js';
import { PeopleDialog, PeopleList } from './People.js';
import { Avatar, Icon, IconButton, Name, RoomAvatar } from './parts.js';
import { QuotedRoom } from './Quote.js';
import { PinsDialog, Topic, TopicDialog } from './RoomHead.js';
import { RoomDialog } from './RoomModeration.js';
import type { Receipts } from './receipts.js';
import { pin, pinsOf, topicOf } from './roomState.js';
import { load, ofBrowser, save } from './storage.js';
import { type Shared, Thread } from './Thread.js';
import { privately, room } from './types.js';

const FEW = 10; // people in a room for which it is shown who has read

interface RoomProps extends Shared {
  name: string;
  receipts: Receipts;
  onLeave: () => void;
}

export function RoomConversation({ name, receipts, onLeave, ...shared }: RoomProps): ReactNode {
  const view = useRoom(name);
  const { status, error, removed, users, count, typing } = view;
  const client = useChat();
  const [listing, setListing] = useState(false);
  const [open, setOpen] = useState<'topic' | 'pins' | 'moderation'>();
  const [wanted, setWanted] = useState<Link | null>(null);
  const pins = useMemo(() => pinsOf({ state: view.state }), [view.state]);
  const here = client.room(name);
  const standing = useStanding(name, status === 'joined', view.versions.moderation);
  const rules = useMemo(() => rulesOf(view.state), [view.state]);
  const hold = useHold(rules, standing);
  const ban = useBan(name, error, removed);
  const [moderated, setModerated] = useState<User>();
  const onModerate = standing.moderator && status === 'joined' ? setModerated : undefined;
  const fresh = useFresh(shared.me.id, shared.reports);
  const close = () => setOpen(undefined);
  const setPinned = (seq: number, on: boolean) => {
    const failed = (err: Error) => shared.say(on ? 'Not pinned' : 'Not unpinned', `${err.message}.`);
    pin(here, seq, on).catch(failed);
  };
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
  // Its state has the error.
  const joinAgain = () => void here.join({ history: 50 }).catch(ignore);
  function copyLink({ seq = 0 }: Message) {
    const link = linkTo({ room: name, seq });
    const copied = navigator.clipboard?.writeText(link) ?? Promise.reject();
    copied.then(
      () => shared.say('Copied', 'The link to the message is in the clipboard.'),
      () => shared.say('Link', link),
    );
  }
  return (
    <>
      <div className="conversation">
        <Head
          title={name}
          sub={sub}
          more={
            <Topic
              topic={topicOf(view)}
              onChange={status === 'joined' && !hold?.closed ? () => setOpen('topic') : undefined}
            />
          }
          picture={<RoomAvatar />}
          onBack={shared.onBack}
        >
          {pins.length > 0 && (
            <IconButton
              icon="pin"
              label={pins.length === 1 ? '1 pinned message' : `${pins.length} pinned messages`}
              count={pins.length}
              onClick={() => setOpen('pins')}
            />
          )}
          {onModerate && (
            <IconButton
              icon="shield"
              label={
                fresh.count > 0 ? `Moderation, ${fresh.count} new report${fresh.count > 1 ? 's' : ''}` : 'Moderation'
              }
              {...(fresh.count > 0 ? { count: fresh.count } : {})}
              onClick={() => {
                fresh.seen();
                setOpen('moderation');
              }}
            />
          )}
          <IconButton icon="people" label="Who is here" className="people-toggle" onClick={() => setListing(true)} />
          <button type="button" className="leave" aria-label="Leave the room" onClick={onLeave}>
            <Icon of="leave" />
            <span>Leave</span>
          </button>
        </Head>
        <QuotedRoom value={name}>
          <Thread
            {...shared}
            link={wanted ?? shared.link}
            onLinked={() => {
              setWanted(null);
              shared.onLinked();
            }}
            pins={pins}
            onPin={({ seq }, on) => seq !== undefined && setPinned(seq, on)}
            place={room(name)}
            title={name}
            label={`Messages in ${name}`}
            intro={status === 'joined' ? intro : null}
            of={view}
            ready={status === 'joined'}
            epoch={here.position?.epoch}
            dataOf={(text) => ({ text })}
            receipts={count <= FEW ? receipts : undefined}
            copyLink={copyLink}
            typing={typing}
            refusal={
              refused
                ? ban
                  ? {
                      title: 'You are banned from this room',
                      end: endText(ban.until),
                      reason: ban.reason,
                      again: 'Try again',
                      onAgain: joinAgain,
                    }
                  : {
                      title: removed ? `${refused} from this room` : `${refused} this room`,
                      reason: removed ? removed.reason : (error?.message ?? ''),
                      again: removed ? 'Join again' : 'Try again',
                      onAgain: joinAgain,
                    }
                : undefined
            }
            hold={hold}
            onModerate={onModerate}
            onTyping={(is) => (is ? view.setTyping() : view.stopTyping())}
          />
        </QuotedRoom>
      </div>
      <aside className="people" aria-labelledby="people">
        <h2 id="people">
          Who is here <span className="count">{count > 0 && count}</span>
        </h2>
        <PeopleList me={shared.me} users={users} count={count} onMessage={shared.onMessage} onModerate={onModerate} />
      </aside>
      {open === 'topic' && <TopicDialog room={here} onClosed={close} />}
      {open === 'pins' && (
        <PinsDialog
          room={name}
          pins={pins}
          messages={view.messages}
          epoch={here.position?.epoch}
          onJump={(seq) => setWanted({ room: name, seq })}
          onUnpin={(seq) => setPinned(seq, false)}
          onClosed={close}
        />
      )}
      {open === 'moderation' && (
        <RoomDialog
          room={name}
          rules={rules}
          standing={standing}
          reports={shared.reports}
          onModerate={setModerated}
          onClosed={close}
        />
      )}
      {moderated && (
        <ModerateDialog
          user={moderated}
          room={name}
          standing={standing}
          say={shared.say}
          onClosed={() => setModerated(undefined)}
        />
      )}
      {listing && (
        <PeopleDialog
          me={shared.me}
          users={users}
          count={count}
          onMessage={shared.onMessage}
          onModerate={onModerate}
          onClosed={() => setListing(false)}
        />
      )}
    </>
  );
}

export function PrivateConversation({ user, ...shared }: Shared & { user: User }): ReactNode {
  const { id, name } = user;
  const view = usePrivateMessages(id);
  const client = useChat();
  const { status } = useConnection();
  const online = useOnline()(id);
  const ready = status === 'connected' && client.inbox !== null;
  const hold = useHold(undefined, shared.standing);
  const [moderating, setModerating] = useState(false);
  const { loadMore } = view;
  useEffect(() => {
    if (ready) loadMore().catch(ignore); // what is older than the page
  }, [ready, loadMore]);
  const picture = <Avatar id={id} name={name} online={online} />;
  return (
    <div className="conversation">
      <Head
        title={name}
        sub={status === 'connected' ? onlineText[`${online}`] : 'You are not connected.'}
        picture={picture}
        onBack={shared.onBack}
      />
      <Thread
        {...shared}
        place={privately(user)}
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
        of={view}
        ready={ready}
        epoch={client.inbox?.epoch}
        dataOf={(text) => ({ text, toName: name })}
        hold={hold}
        onModerate={shared.standing.moderator ? () => setModerating(true) : undefined}
      />
      {moderating && (
        <ModerateDialog
          user={user}
          room={undefined}
          standing={shared.standing}
          say={shared.say}
          onClosed={() => setModerating(false)}
        />
      )}
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
  /** Beside it. */
  more?: ReactNode;
  picture: ReactNode;
  onBack: () => void;
  children?: ReactNode;
}

function Head({ title, sub, more, picture, onBack, children }: HeadProps): ReactNode {
  return (
    <header className="bar">
      <IconButton icon="back" label="Back to the conversations" className="narrow-only" onClick={onBack} />
      {picture}
      <div className="bar-text">
        <h2 tabIndex={-1}>
          <Name of={title} />
        </h2>
        <p>
          <span>{sub}</span>
          {more}
        </p>
      </div>
      {children}
    </header>
  );
}

/** Returns how many reports the moderator has not seen, in any tab. */
function useFresh(me: string, reports: readonly Report[]) {
  const key = `chathub:reports:${me}`;
  const [seen, setSeen] = useState(() => Number(load(ofBrowser, key)));
  return {
    count: reports.filter(({ ts, by }) => ts > seen && by?.id !== me).length,
    seen: () => {
      const last = reports[0]?.ts ?? 0;
      save(ofBrowser, key, last);
      setSeen(last);
    },
  };
}

const ignore = () => {};
