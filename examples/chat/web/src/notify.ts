import type { Envelope } from 'chathub-client';
import { useEvent } from 'chathub-client/react';
import { useEffect, useRef, useState } from 'react';
import { isAttended } from './attention.js';
import { load, ofBrowser, save } from './storage.js';
import { keyOf, type Place, privately, room, textOf } from './types.js';

const NOTIFY = 'chathub:notify';

/** What a browser says. Some have no notifications. */
const permission = (): NotificationPermission => ('Notification' in window ? Notification.permission : 'denied');

export interface Notifications {
  /** Undefined if the browser shows none, or the user has refused. */
  readonly on: boolean | undefined;
  /** Asks for consent if there is none yet. To be called on a click. */
  toggle(): void;
}

/**
 * Shows messages of others in the browser's notifications while nobody attends
 * to the page, if the user has turned that on. `isNews` tells them from those
 * that a new page loads.
 */
export function useNotifications(
  me: string,
  unread: ReadonlyMap<string, number>,
  isNews: (place: Place, seq: number) => boolean,
  onOpen: (place: Place) => void,
): Notifications {
  const [wanted, setWanted] = useState(load(ofBrowser, NOTIFY) === true);
  const [allowed, setAllowed] = useState(permission);
  const shown = useRef(new Map<string, Notification>());

  function show(place: Place, title: string, e: Envelope): void {
    if (!wanted || allowed !== 'granted' || isAttended()) return;
    if (!e.from || e.from.id === me || e.deleted !== undefined || !isNews(place, e.seq ?? 0)) return;
    const key = keyOf(place);
    try {
      // Two tabs show one notification, since it has the same tag.
      const notification = new Notification(title, { body: textOf(e.data).slice(0, 200), tag: key, icon: 'icon.svg' });
      notification.onclick = () => {
        window.focus();
        notification.close();
        onOpen(place);
      };
      shown.current.set(key, notification);
    } catch {} // Chrome on Android has them in service workers only
  }
  useEvent('room-message', (_, e) => {
    if (e.room !== undefined) show(room(e.room), `\u2068${e.from?.name}\u2069 in \u2068${e.room}\u2069`, e);
  });
  useEvent('private-message', (_, e) => {
    if (e.from) show(privately(e.from), e.from.name, e);
  });
  // What has been read, here or elsewhere, is no news.
  useEffect(() => {
    for (const [key, notification] of shown.current) {
      if (unread.get(key)) continue;
      notification.close();
      shown.current.delete(key);
    }
  }, [unread]);

  async function toggle() {
    let now = allowed;
    if (now === 'default') {
      now = await Notification.requestPermission();
      setAllowed(now);
    }
    const next = now === 'granted' && !(wanted && allowed === 'granted');
    setWanted(next);
    save(ofBrowser, NOTIFY, next || null);
  }
  return { on: allowed === 'denied' ? undefined : wanted && allowed === 'granted', toggle: () => void toggle() };
}
