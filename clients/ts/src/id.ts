/** Returns a new id for an event. It is unique, but can be guessed. */
export function newId(): string {
  // React Native has no crypto object, and pages served over plain http have no
  // randomUUID.
  const random = () => Math.random().toString(36).slice(2);
  return `${Date.now().toString(36)}-${random()}${random()}`;
}

/** Whether a JSON text is longer than `max` bytes of UTF-8. */
export function isOver(text: string, max: number): boolean {
  return text.length * 3 > max && encodeURIComponent(text).replace(/%../g, '.').length > max;
}
