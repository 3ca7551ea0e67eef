import { useSyncExternalStore } from 'react';
import { load, ofBrowser, save } from './storage.js';

/**
 * Remembers up to which time (the server's) each place was read. All tabs of a
 * user share it.
 */
export class ReadMarks {
  readonly #key: string;
  readonly #listeners = new Set<() => void>();
  #marks: Map<string, number>;

  constructor(userId: string) {
    this.#key = `chathub:read:${userId}`;
    this.#marks = this.#load();
  }

  /** Returns 0 if nothing was read. */
  of(place: string): number {
    return this.#marks.get(place) ?? 0;
  }

  mark(place: string, time: number): void {
    if (time <= this.of(place)) return;
    this.#marks = this.#load().set(place, time);
    save(ofBrowser, this.#key, [...this.#marks]);
    this.#changed();
  }

  readonly subscribe = (fn: () => void): (() => void) => {
    if (this.#listeners.size === 0) addEventListener('storage', this.#stored);
    this.#listeners.add(fn);
    return () => {
      this.#listeners.delete(fn);
      if (this.#listeners.size === 0) removeEventListener('storage', this.#stored);
    };
  };

  // Merges the marks of other tabs with those here. The later one counts.
  #load(): Map<string, number> {
    const stored = load(ofBrowser, this.#key);
    const marks = new Map<string, number>(Array.isArray(stored) ? stored.filter(isMark) : []);
    for (const [place, time] of this.#marks ?? []) marks.set(place, Math.max(time, marks.get(place) ?? 0));
    return marks;
  }

  readonly #stored = (event: StorageEvent): void => {
    if (event.key !== this.#key) return;
    this.#marks = this.#load();
    this.#changed();
  };

  #changed(): void {
    for (const fn of [...this.#listeners]) fn();
  }
}

const isMark = (entry: unknown): entry is [string, number] =>
  Array.isArray(entry) && typeof entry[0] === 'string' && Number.isFinite(entry[1]);

export function useReadMark(marks: ReadMarks, place: string): number {
  return useSyncExternalStore(marks.subscribe, () => marks.of(place));
}
