import { useConnection, usePresence } from 'chathub-client/react';

/**
 * Returns a function that says whether a user is online. It returns undefined
 * if that is unknown: without a connection, or with too many users for a list.
 */
export function useOnline(): (userId: string) => boolean | undefined {
  const { status } = useConnection();
  const { users, count, isOnline } = usePresence();
  return (userId) => {
    if (status !== 'connected') return undefined;
    return isOnline(userId) || (users.length < count ? undefined : false);
  };
}
