import { onScopeDispose, shallowRef } from 'vue';

/** Returns the snapshot of a store as a ref, as long as the component lives. */
export function useStore(store) {
  const snapshot = shallowRef(store.snapshot);
  onScopeDispose(store.subscribe(() => (snapshot.value = store.snapshot)));
  return snapshot;
}
