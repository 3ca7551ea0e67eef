import { type ReactNode, useState } from 'react';
import { Countdown } from './Countdown.js';
import { durationText, endText, leftText } from './format.js';
import { type Muted, type Rules, type Standing, usePending } from './moderation.js';
import { Icon, type IconName, Name } from './parts.js';

/** What moderators have decided that concerns the writer of a conversation. */
export interface Hold {
  readonly icon: IconName;
  readonly title: string;
  /** Possibly empty. */
  readonly reason: string;
  /** Nothing can be written. */
  readonly closed: boolean;
  /** Slow mode: one message in this time, in ms. 0: off. */
  readonly everyMs: number;
}

/** Returns what concerns a writer. What has ended does not. */
export function useHold(rules: Rules | undefined, standing: Standing): Hold | undefined {
  const { muted, exempt } = standing;
  const isMuted = useHolds(muted?.until ?? 0) && muted;
  const isFrozen = useHolds(rules?.frozenUntil ?? 0) && rules?.frozen;
  const isSlow = useHolds(rules?.slowUntil ?? 0) && rules?.everyMs;
  if (isMuted) return { icon: 'shield', ...mutedText(isMuted), closed: true, everyMs: 0 };
  if (isFrozen) {
    const title = `This room is frozen. Only moderators can write. ${endText(rules?.frozenUntil ?? 0)}`;
    return { icon: 'snow', title, reason: '', closed: !exempt, everyMs: 0 };
  }
  if (!isSlow) return undefined;
  const each = exempt ? 'Others can send' : 'You can send';
  const title = `Slow mode. ${each} one message every ${durationText(isSlow)}. ${endText(rules?.slowUntil ?? 0)}`;
  return { icon: 'clock', title, reason: '', closed: false, everyMs: exempt ? 0 : isSlow };
}

// An end that is 0 is none.
const useHolds = (until: number) => usePending(until || Number.POSITIVE_INFINITY);

function mutedText({ room, until, reason }: Muted) {
  const where = room === undefined ? 'You are muted everywhere.' : 'You are muted in this room.';
  return { title: `${where} ${endText(until) || 'Until a moderator lifts it.'}`, reason };
}

interface Props {
  of: Hold;
  /** When the user may write again. */
  until: number;
}

const againText = (seconds: number) => `You can write again in ${leftText(seconds)}`;

/** Says it above the field. */
export function HoldLine({ of, until }: Props): ReactNode {
  const waiting = usePending(until);
  return (
    <div className={of.closed ? 'hold closed' : 'hold'}>
      <Icon of={of.icon} />
      <p>
        <span>{of.title}</span>
        {of.reason && <Name of={of.reason} />}
      </p>
      {waiting && <Countdown key={until} to={until} text={againText} />}
    </div>
  );
}

/** The same for screen readers. */
export function HoldSpoken({ of, until }: Props): ReactNode {
  const waiting = usePending(until);
  return (
    <>
      {of.title} {of.reason && <Name of={of.reason} />}
      {waiting && <Once key={until} until={until} />}
    </>
  );
}

/** Stays as it was at first, so that it is read out once. */
function Once({ until }: { until: number }): ReactNode {
  const [left] = useState(() => Math.ceil((until - Date.now()) / 1_000));
  return `${againText(left)}.`;
}
