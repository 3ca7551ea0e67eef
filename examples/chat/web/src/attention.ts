import { useSyncExternalStore } from 'react';

const EVENTS = ['visibilitychange', 'focus', 'blur'] as const;

function subscribe(fn: () => void): () => void {
  for (const event of EVENTS) addEventListener(event, fn, true);
  return () => {
    for (const event of EVENTS) removeEventListener(event, fn, true);
  };
}

/** Whether the page is visible and has focus, so that somebody may read it. */
export const isAttended = (): boolean => !document.hidden && document.hasFocus();

export const useAttention = (): boolean => useSyncExternalStore(subscribe, isAttended);
