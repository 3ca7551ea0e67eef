import type { Message } from 'chathub-client/react';
import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from 'react';

const NEAR = 60; // pixels from the end that count as being there
const AHEAD = 200; // pixels from the top at which older messages are asked for

interface More {
  has: boolean;
  loading: boolean;
  load: () => Promise<void>;
}

interface Scroll {
  ref: RefObject<HTMLDivElement | null>;
  /** Whether the end is in sight. */
  atEnd: boolean;
  /** Messages of others that came while it was not. */
  missed: number;
  toEnd: () => void;
}

/**
 * Keeps a list of messages where its reader is: at the end while they are there, else with the same
 * message at the same place, whatever comes above or below it.
 */
export function useScroll(
  messages: readonly Message[],
  me: string,
  more: More | undefined,
  onEnd: (inSight: boolean) => void,
): Scroll {
  const ref = useRef<HTMLDivElement>(null);
  const [atEnd, setAtEnd] = useState(true);
  const [missed, setMissed] = useState(0);
  const here = useRef({
    atEnd: true,
    opened: false,
    anchor: null as Anchor | null,
    last: undefined as string | undefined,
  });
  const latest = useRef({ more, onEnd });

  /** Takes note of where it is. */
  const look = useCallback(() => {
    const log = ref.current as HTMLDivElement;
    const { scrollTop, scrollHeight, clientHeight } = log;
    const end = scrollHeight - clientHeight - scrollTop < NEAR;
    here.current.atEnd = end;
    here.current.anchor = end ? null : anchorOf(log);
    setAtEnd(end);
    if (end) setMissed(0);
    latest.current.onEnd(end);
  }, []);

  useEffect(() => {
    latest.current = { more, onEnd };
  });

  useLayoutEffect(() => {
    const log = ref.current as HTMLDivElement;
    const h = here.current;
    const last = messages.at(-1);
    const isNew = last !== undefined && last.key !== h.last;
    if (!h.opened && messages.length > 0) {
      // Where the reading begins.
      const divider = log.querySelector<HTMLElement>('.divider');
      log.scrollTop = divider ? divider.offsetTop - log.clientHeight / 4 : log.scrollHeight;
      h.opened = true;
    } else if (h.atEnd || (isNew && last.status === 'sending')) {
      log.scrollTop = log.scrollHeight;
    } else {
      if (h.anchor) keep(log, h.anchor);
      const at = messages.findIndex((m) => m.key === h.last);
      const others = at < 0 ? 0 : messages.slice(at + 1).filter((m) => m.from?.id !== me).length;
      if (others > 0) setMissed((n) => n + others);
    }
    h.last = last?.key;
    look();
  }); // after every change: what stands above the messages has a height too

  useEffect(() => {
    const log = ref.current as HTMLDivElement;
    const scrolled = () => {
      look();
      const { more } = latest.current;
      if (log.scrollTop < AHEAD && more?.has && !more.loading) more.load().catch(() => {}); // the button is still there
    };
    log.addEventListener('scroll', scrolled, { passive: true });
    // The keyboard of a phone, or a composer with more lines: who was at the end stays there.
    const resized = new ResizeObserver(() => {
      if (here.current.atEnd) log.scrollTop = log.scrollHeight;
    });
    resized.observe(log);
    return () => {
      log.removeEventListener('scroll', scrolled);
      resized.disconnect();
    };
  }, [look]);

  const toEnd = useCallback(() => {
    const log = ref.current as HTMLDivElement;
    log.scrollTop = log.scrollHeight;
    log.focus({ preventScroll: true });
  }, []);
  return { ref, atEnd, missed, toEnd };
}

/** The first message that is wholly in sight, and how far below the edge it is. */
interface Anchor {
  readonly row: HTMLElement;
  readonly offset: number;
}

function anchorOf(log: HTMLElement): Anchor | null {
  const top = log.scrollTop;
  for (const row of log.querySelectorAll<HTMLElement>('.row')) {
    if (row.offsetTop >= top) return { row, offset: row.offsetTop - top };
  }
  return null;
}

function keep(log: HTMLElement, { row, offset }: Anchor): void {
  if (row.isConnected) log.scrollTop = row.offsetTop - offset;
}
