import type { Message } from 'chathub-client/react';
import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from 'react';

const NEAR = 60; // pixels: this close to the end counts as the end
const AHEAD = 200; // pixels: this close to the top, older messages are loaded

interface More {
  has: boolean;
  loading: boolean;
  load: () => Promise<void>;
}

interface Scroll {
  ref: RefObject<HTMLDivElement | null>;
  /** Whether the end is in sight. */
  atEnd: boolean;
  /** How many messages of others arrived while it was not. */
  missed: number;
  toEnd: () => void;
}

/**
 * Keeps a list of messages scrolled to where its reader is. At the end it stays
 * at the end. Elsewhere the same message stays at the same place, whatever is
 * added above or below.
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

  /** Notes the position. */
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
      // Begin at the first new message.
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
  }); // after every render: the parts above the messages have heights too

  useEffect(() => {
    const log = ref.current as HTMLDivElement;
    const scrolled = () => {
      look();
      const { more } = latest.current;
      // After a failure there is still the button.
      if (log.scrollTop < AHEAD && more?.has && !more.loading) more.load().catch(() => {});
    };
    log.addEventListener('scroll', scrolled, { passive: true });
    // A phone's keyboard or a taller composer leaves the reader at the end.
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

/** The first message that is fully visible, and its distance from the top. */
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
