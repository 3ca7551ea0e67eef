import { ChatProvider } from 'chathub-client/react';
import { type ReactNode, useState } from 'react';
import { Chat } from './Chat.js';
import { Login } from './Login.js';
import { beginSession, endSession, loadSession, newClient, type Session } from './session.js';

export function App(): ReactNode {
  const [session, setSession] = useState(loadSession);
  const [goodbye, setGoodbye] = useState({ name: '', message: '' });
  if (!session) return <Login {...goodbye} onLogin={(login) => setSession(beginSession(login))} />;
  return (
    <LoggedIn
      session={session}
      onEnd={(message) => {
        endSession();
        setGoodbye({ name: session.user.name, message });
        setSession(null);
      }}
    />
  );
}

function LoggedIn({ session, onEnd }: { session: Session; onEnd: (message: string) => void }): ReactNode {
  const [client] = useState(() => newClient(session));
  return (
    <ChatProvider client={client}>
      <Chat session={session} onEnd={onEnd} />
    </ChatProvider>
  );
}
