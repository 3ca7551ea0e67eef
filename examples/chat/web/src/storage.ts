// A browser can refuse storage, or it can be full. The page works without it.

/** Returns what is stored under a key. It may be anything: check it. */
export function load(storage: () => Storage, key: string): unknown {
  try {
    const text = storage().getItem(key);
    return text === null ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

/** Null removes the entry. */
export function save(storage: () => Storage, key: string, value: unknown): void {
  try {
    if (value === null) storage().removeItem(key);
    else storage().setItem(key, JSON.stringify(value));
  } catch {}
}

/** Ends with the tab, so that each tab can be another user. */
export const ofTab = () => sessionStorage;

/** Shared by all tabs. */
export const ofBrowser = () => localStorage;
