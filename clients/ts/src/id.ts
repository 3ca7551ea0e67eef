/** Returns a new id for an event. It is unique, but can be guessed. */
export function newId(): string {
  // React Native has no crypto object, and pages served over plain http have no
  // randomUUID.
  return [Date.now(), Math.random(), Math.random()].map((n) => n.toString(36)).join('-');
}
