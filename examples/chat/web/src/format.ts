import type { User } from 'chathub-client';

const time = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const weekday = new Intl.DateTimeFormat('en', { weekday: 'long' });
const day = new Intl.DateTimeFormat('en', { weekday: 'long', day: 'numeric', month: 'long' });
const oldDay = new Intl.DateTimeFormat('en', { day: 'numeric', month: 'long', year: 'numeric' });
const date = new Intl.DateTimeFormat('en', { day: 'numeric', month: 'long' });

export const timeOf = (ts: number): string => time.format(ts);
export const fullTimeOf = (ts: number): string => full.format(ts);
export const dayKey = (ts: number): string => new Date(ts).toDateString();

/** "Today", "Yesterday", "Monday", "Monday, 3 March", "3 March 2025". */
export function dayOf(ts: number): string {
  const midnight = (t: number) => new Date(t).setHours(0, 0, 0, 0);
  const days = Math.round((midnight(Date.now()) - midnight(ts)) / 86_400_000);
  if (days <= 0) return 'Today';
  if (days === 1) return 'Yesterday';
  if (days < 7) return weekday.format(ts);
  return (days < 300 ? day : oldDay).format(ts);
}

/** "Until 14:35.", "Until 3 March, 14:35.". Without an end it is empty. */
export function endText(until: number): string {
  if (until === 0) return '';
  const days = dayKey(until) === dayKey(Date.now()) ? '' : `${date.format(until)}, `;
  return `Until ${days}${timeOf(until)}.`;
}

/** "5 s", "5 min", "2 h", in one line. */
export function durationText(ms: number): string {
  const [unit, name] = (
    [
      [3_600_000, 'h'],
      [60_000, 'min'],
    ] as const
  ).find(([unit]) => ms % unit === 0) ?? [1_000, 's'];
  return `${Math.ceil(ms / unit)}\u00a0${name}`;
}

/** "12 s", "4 min 12 s". */
export const leftText = (seconds: number): string =>
  seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;

/** "Ana", "Ana and Ben", "Ana, Ben and 3 others". */
export function listOf(users: readonly User[]): string {
  // Isolated, so that a name cannot change the direction of the text around it.
  const names = users.map((u) => `\u2068${u.name}\u2069`);
  const last = names.at(-1) ?? '';
  if (names.length === 1) return last;
  if (names.length <= 3) return `${names.slice(0, -1).join(', ')} and ${last}`;
  return `${names[0]}, ${names[1]} and ${names.length - 2} others`;
}

export const typingText = (users: readonly User[]): string =>
  `${listOf(users)} ${users.length > 1 ? 'are' : 'is'} typing`;

export const peopleText = (count: number): string => (count <= 1 ? 'Only you are here' : `${count} people here`);

export const refusalText = (removed: object | undefined): string => (removed ? 'You were removed' : 'You cannot join');

const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' });

export function initials(name: string): string {
  const words = name.trim().split(/\s+/);
  const picked = words.length > 1 ? [words[0], words.at(-1)] : [words[0]];
  return picked
    .map((word = '') => [...graphemes.segment(word)][0]?.segment ?? '')
    .join('')
    .toUpperCase();
}

/**
 * Returns a hue for an id: its FNV-1a hash times the golden angle, so that
 * similar ids get different colours.
 */
export function hue(id: string): number {
  let h = 0x811c9dc5;
  for (const ch of id) h = Math.imul(h ^ (ch.codePointAt(0) ?? 0), 0x01000193);
  return Math.round((h >>> 0) * 137.508) % 360;
}

const link = /https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]}]/g;

/**
 * Splits a text into pieces. Those at odd indexes are web addresses, with http
 * or https only.
 */
export function linked(text: string): string[] {
  const pieces: string[] = [];
  let end = 0;
  for (const match of text.matchAll(link)) {
    pieces.push(text.slice(end, match.index), match[0]);
    end = match.index + match[0].length;
  }
  pieces.push(text.slice(end));
  return pieces;
}

/** Returns a text without case and accents, for a search. */
export const foldedOf = (text: string): string => text.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase();
