/** Returns a new id for an event: unique, not secret. */
export function newId(): string {
  // React Native has no crypto of its own, and pages on plain http have no randomUUID.
  const random = () => Math.random().toString(36).slice(2);
  return `${Date.now().toString(36)}-${random()}${random()}`;
}

/** Whether a JSON text has more than `max` bytes in UTF-8. */
export function isOver(text: string, max: number): boolean {
  return text.length * 3 > max && encodeURIComponent(text).replace(/%../g, '.').length > max;
}
