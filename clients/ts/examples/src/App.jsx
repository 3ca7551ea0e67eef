import { ChatProvider, useRoom } from 'chathub-client/react';
import { text, title } from './chat.js';

function Lobby() {
  const { messages, unread, send } = useRoom('lobby');
  return (
    <>
      <title>{title(unread)}</title>
      <ul>
        {messages.map((m) => (
          <li key={m.key}>{text(m)}</li>
        ))}
      </ul>
      <button type="button" onClick={() => send('Hello')}>
        Say hello
      </button>
    </>
  );
}

export const App = ({ chat }) => (
  <ChatProvider client={chat}>
    <Lobby />
  </ChatProvider>
);
