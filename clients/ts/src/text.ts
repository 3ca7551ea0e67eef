/**
 * Replaces unpaired surrogates with U+FFFD. A text that was cut in the middle
 * of an emoji ends with one, and no UTF-8 can hold it.
 */
export function wellFormed(text: string): string {
  return JSON.parse(toJSON(text));
}

/** Encodes a value as JSON, with well-formed texts and names only. */
export function toJSON(value: object | string): string {
  // JSON.stringify escapes unpaired surrogates, and no other character from
  // U+D000 on. The dot skips over other escapes, such as that of a backslash.
  return JSON.stringify(value).replace(/\\(?:ud...|.)/g, (found) => (found.length > 2 ? '\ufffd' : found));
}

/** Whether a JSON text is longer than `max` bytes of UTF-8. */
export function isOver(text: string, max: number): boolean {
  return text.length * 3 > max && new TextEncoder().encode(text).length > max;
}
