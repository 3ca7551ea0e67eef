import { ChatClient } from 'chathub-client';

/** Makes a client of the hub at /ws. The token is the user's id here. */
export const newChat = () =>
  new ChatClient('/ws', { getToken: () => new URLSearchParams(location.search).get('user') });

/** The text of a message, as a page shows it. */
export const text = (m) =>
  m.deleted ? '(deleted)' : `${m.from?.name}: ${m.data}${m.edited ? ' (edited)' : ''}${reactions(m)}`;

const reactions = (m) =>
  Object.entries(m.reactions ?? {})
    .map(([key, { count }]) => ` ${key}${count}`)
    .join('');

export const title = (unread) => (unread ? `(${unread}) Chat` : 'Chat');
