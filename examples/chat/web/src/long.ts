// The server takes 64 KiB. A character is six bytes of JSON at most.
const PART = 10_000; // UTF-16 units
const PARTS = 20;

/** The longest text that can be sent. */
export const LONGEST = PART * PARTS;

/**
 * Cuts a text into parts that fit into a message each, at the end of a line or
 * of a word if there is one.
 */
export function partsOf(text: string): string[] {
  const parts: string[] = [];
  let rest = text.trim();
  while (rest.length > PART) {
    let at = Math.max(rest.lastIndexOf('\n', PART), PART / 2);
    if (at === PART / 2) at = Math.max(rest.lastIndexOf(' ', PART), PART / 2);
    if (at === PART / 2) at = PART - Number(/[\ud800-\udbff]/.test(rest.charAt(PART - 1)));
    parts.push(rest.slice(0, at).trim());
    rest = rest.slice(at).trim();
  }
  parts.push(rest);
  return parts.filter((part) => part !== '');
}
