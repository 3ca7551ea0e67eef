import { useEffect, useState } from 'react';

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

/** Returns the link that was followed last, or that opened the page. */
export function useLink(): Link | null {
  const [link, setLink] = useState(current);
  useEffect(() => {
    // So that the same link can be followed again, and a reload stays here.
    const take = () => {
      const link = current();
      if (!link) return;
      setLink(link);
      history.replaceState(history.state, '', location.pathname + location.search);
    };
    take();
    addEventListener('hashchange', take);
    return () => removeEventListener('hashchange', take);
  }, []);
  return link;
}
