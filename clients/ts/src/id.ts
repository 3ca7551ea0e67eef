/** Returns a new id for an event. It is unique, but can be guessed. */
export function newId(): string {
  // React Native has no crypto object, and pages served over plain http have no
  // randomUUID.
  const random = () => Math.random().toString(36).slice(2);
  return `${Date.now().toString(36)}-${random()}${random()}`;
}
