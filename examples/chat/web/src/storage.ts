// A browser may refuse storage, or have it full: then the page works without.

export function load<T>(storage: () => Storage, key: string): T | null {
  try {
    const text = storage().getItem(key);
    return text === null ? null : (JSON.parse(text) as T);
  } catch {
    return null;
  }
}

/** Null takes it away. */
export function save(storage: () => Storage, key: string, value: unknown): void {
  try {
    if (value === null) storage().removeItem(key);
    else storage().setItem(key, JSON.stringify(value));
  } catch {}
}

/** Ends with the tab, so that each tab may be somebody else. */
export const ofTab = () => sessionStorage;

/** Shared by all tabs. */
export const ofBrowser = () => localStorage;
