/** Returns a new id for an event: unique, not secret. */
export function newId(): string {
  const bytes = new Uint8Array(12);
  // React Native has no crypto of its own; randomUUID needs a secure context.
  if (globalThis.crypto) crypto.getRandomValues(bytes);
  else for (let i = 0; i < bytes.length; i++) bytes[i] = Math.random() * 256;
  return Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
}

/** Returns how many bytes a well-formed text has in UTF-8. */
export function utf8Length(text: string): number {
  let n = text.length;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    // Each half of a surrogate pair is two of its four bytes.
    if (c > 0x7f) n += c > 0x7ff && (c < 0xd800 || c > 0xdfff) ? 2 : 1;
  }
  return n;
}
