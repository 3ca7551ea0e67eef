import type { Message } from 'chathub-client/react';
import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from 'react';

const NEAR = 60; // pixels: this close to the end counts as the end
const AHEAD = 200; // pixels: this close to an edge, more messages are loaded

/** Pages on one side of the messages. */
export interface More {
  has: boolean;
  loading: boolean;
  load: () => Promise<void>;
}

export interface Newer extends More {
  /** Leaves the older part of the log that is shown. */
  leave: () => void;
}

interface Scroll {
  ref: RefObject<HTMLDivElement | null>;
  /** Whether the end is in sight. */
  atEnd: boolean;
  /** How many messages of others arrived while it was not. */
  missed: number;
  toEnd: () => void;
  /** Whether the line above the new messages is further up. */
  lineAbove: boolean;
  toLine: () => void;
}

/**
 * Keeps a list of messages scrolled to where its reader is. At the end it stays
 * at the end. Elsewhere the same message stays at the same place, whatever is
 * added above or below. `target` is the key of a message to show instead, once.
 */
export function useScroll(
  messages: readonly Message[],
  me: string,
  more: More,
  newer: Newer,
  target: string | undefined,
  onEnd: (inSight: boolean) => void,
): Scroll {
  const ref = useRef<HTMLDivElement>(null);
  const [atEnd, setAtEnd] = useState(true);
  const [missed, setMissed] = useState(0);
  const [lineAbove, setLineAbove] = useState(false);
  const here = useRef({
    atEnd: true,
    opened: false,
    anchor: null as Anchor | null,
    last: undefined as string | undefined,
    older: false,
    target: undefined as string | undefined,
  });
  const latest = useRef({ more, newer, onEnd });

  /** Notes the position. */
  const look = useCallback(() => {
    const log = ref.current as HTMLDivElement;
    const { scrollTop, scrollHeight, clientHeight } = log;
    const end = scrollHeight - clientHeight - scrollTop < NEAR && !latest.current.newer.has;
    here.current.atEnd = end;
    here.current.anchor = end ? null : anchorOf(log);
    setAtEnd(end);
    const line = lineOf(log);
    setLineAbove(line !== null && line.offsetTop + line.offsetHeight < scrollTop);
    if (end) setMissed(0);
    latest.current.onEnd(end);
  }, []);

  useLayoutEffect(() => {
    latest.current = { more, newer, onEnd };
    const log = ref.current as HTMLDivElement;
    const h = here.current;
    const goal = target === h.target ? undefined : rowOf(log, target);
    const last = messages.at(-1);
    const isNew = last !== undefined && last.key !== h.last;
    if (goal) {
      log.scrollTop = goal.offsetTop - (log.clientHeight - goal.offsetHeight) / 2;
      goal.focus({ preventScroll: true });
      h.opened = true;
    } else if (!h.opened && messages.length > 0) {
      // Begin at the first new message.
      toLine(log);
      h.opened = true;
    } else if (h.atEnd || (isNew && last.status === 'sending')) {
      log.scrollTop = log.scrollHeight;
    } else {
      if (h.anchor) keep(log, h.anchor);
      const at = h.older ? -1 : messages.findIndex((m) => m.key === h.last);
      const others = at < 0 ? 0 : messages.slice(at + 1).filter((m) => m.from?.id !== me).length;
      if (others > 0) setMissed((n) => n + others);
    }
    h.last = last?.key;
    h.older = newer.has;
    if (goal || target === undefined) h.target = target;
    look();
  }); // after every render: the parts above the messages have heights too

  useEffect(() => {
    const log = ref.current as HTMLDivElement;
    const scrolled = () => {
      look();
      const { more, newer } = latest.current;
      const below = log.scrollHeight - log.clientHeight - log.scrollTop;
      // After a failure there is still the button.
      if (log.scrollTop < AHEAD && more.has && !more.loading) more.load().catch(() => {});
      else if (below < AHEAD && newer.has && !newer.loading) newer.load().catch(() => {});
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
    latest.current.newer.leave();
    here.current.atEnd = true;
    log.scrollTop = log.scrollHeight;
    log.focus({ preventScroll: true });
  }, []);
  return { ref, atEnd, missed, toEnd, lineAbove, toLine: () => toLine(ref.current as HTMLDivElement) };
}

const lineOf = (log: HTMLElement) => log.querySelector<HTMLElement>('.divider');

function toLine(log: HTMLElement): void {
  const line = lineOf(log);
  log.scrollTop = line ? line.offsetTop - log.clientHeight / 4 : log.scrollHeight;
}

export function rowOf(log: HTMLElement, key: string | undefined): HTMLElement | undefined {
  if (key === undefined) return;
  return [...log.querySelectorAll<HTMLElement>('.row')].findLast((row) => row.dataset.key === key);
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
