import { readable } from 'svelte/store';

/** Returns the snapshot of a store as a store of Svelte. */
export const fromStore = (store) =>
  readable(store.snapshot, (set) => {
    const stop = store.subscribe(() => set(store.snapshot));
    set(store.snapshot);
    return stop;
  });
