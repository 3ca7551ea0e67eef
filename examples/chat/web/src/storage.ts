// A browser can refuse storage, or it can be full. The page works without it.

export function load<T>(storage: () => Storage, key: string): T | null {
  try {
    const text = storage().getItem(key);
    return text === null ? null : (JSON.parse(text) as T);
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
