import { useCallback, useEffect, useRef, useState } from 'react';

/** A message that a link leads to: `#room/seq`. */
export interface Link {
  readonly room: string;
  readonly seq: number;
}

export function linkTo({ room, seq }: Link): string {
  const url = new URL(location.href);
  url.hash = `${encodeURIComponent(room)}/${seq}`;
  return url.href;
}

function current(): Link | null {
  const [, name = '', digits = ''] = /^#([^/]{1,400})\/(\d{1,15})$/.exec(location.hash) ?? [];
  try {
    const room = decodeURIComponent(name).trim();
    const seq = Number(digits);
    return room !== '' && seq > 0 ? { room, seq } : null;
  } catch {
    return null;
  }
}

/**
 * Calls `onLink` for the link that opened the page, and for those that are
 * followed later. Returns the last one, until `forget` is called.
 */
export function useLink(onLink: (link: Link) => void) {
  const [link, setLink] = useState<Link | null>(null);
  const latest = useRef(onLink);
  useEffect(() => {
    latest.current = onLink;
  });
  useEffect(() => {
    const take = () => {
      const link = current();
      if (!link) return;
      // So that the same link can be followed again, and a reload stays here.
      history.replaceState(history.state, '', location.pathname + location.search);
      setLink(link);
      latest.current(link);
    };
    take();
    addEventListener('hashchange', take);
    return () => removeEventListener('hashchange', take);
  }, []);
  const forget = useCallback(() => setLink(null), []);
  return { link, forget };
}
