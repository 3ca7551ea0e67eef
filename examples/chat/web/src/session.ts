import { ChatClient, ChatError, type ConnectionState, type User } from 'chathub-client';
import { keptIn, type StorageLike } from 'chathub-client/storage';
import { forgetDrafts } from './drafts.js';
import { load, ofTab, save } from './storage.js';
import { type Place, room } from './types.js';

/** The user who is logged in, and what is open. It survives a reload. */
export interface Session {
  readonly user: User;
  readonly token: string;
  readonly rooms: readonly string[];
  readonly active: Place | null;
}

const SESSION = 'chathub:session';
const OUTBOX = 'chathub:outbox';

/** Returns the stored session, if what is stored is one. */
export function loadSession(): Session | null {
  const stored = load(ofTab, SESSION);
  if (!isObject(stored) || typeof stored.token !== 'string') return null;
  const { user, token, rooms, active } = stored;
  if (!isObject(user) || typeof user.id !== 'string' || typeof user.name !== 'string') return null;
  return {
    user: { id: user.id, name: user.name },
    token,
    rooms: Array.isArray(rooms) ? rooms.filter((name) => typeof name === 'string') : [],
    active: isPlace(active) ? active : null,
  };
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

const isPlace = (value: unknown): value is Place =>
  isObject(value) &&
  typeof value.name === 'string' &&
  (value.kind === 'room' || (value.kind === 'user' && typeof value.id === 'string'));

export function saveSession(change: Partial<Session>): void {
  const session = loadSession();
  if (session) save(ofTab, SESSION, { ...session, ...change });
}

export function beginSession(login: Login): Session {
  const session: Session = { ...login, rooms: ['lobby'], active: room('lobby') };
  save(ofTab, SESSION, session);
  return session;
}

export function endSession(): void {
  save(ofTab, SESSION, null);
  save(ofTab, OUTBOX, null);
  forgetDrafts();
}

export interface Login {
  readonly user: User;
  readonly token: string;
}

/** The server refuses this name, and would refuse it again. */
class Refused extends Error {}

/** Asks for a token, which the demonstration log-in gives to everyone. */
export async function logIn(name: string): Promise<Login> {
  let response: Response;
  try {
    response = await fetch('login', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ name }),
    });
  } catch {
    throw new Error('The server cannot be reached. Try again in a moment.');
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body as Login;
  const message = typeof body.message === 'string' ? `${body.message}.` : 'The log-in failed.';
  throw response.status < 500 ? new Refused(message) : new Error(message);
}

/** Makes the client of a session. A provider connects it. */
export function newClient({ user, token }: Session): ChatClient {
  let good: string | null = token;
  const outbox: StorageLike = {
    getItem: (key) => ofTab().getItem(key),
    setItem: (key, value) => {
      if (loadSession()) ofTab().setItem(key, value); // not after the session
    },
    removeItem: (key) => ofTab().removeItem(key),
  };
  const client = new ChatClient(new URL('ws', document.baseURI).href, {
    storage: keptIn(outbox, OUTBOX),
    getToken: async (reason) => {
      if (reason === 'connect' && good !== null) return good;
      try {
        const { token } = await logIn(user.name);
        saveSession({ token });
        good = token;
        return token;
      } catch (err) {
        if (err instanceof Refused) throw new ChatError('unauthenticated', err.message);
        throw err;
      }
    },
  });
  // After a restart with another secret, the server refuses the token. A new
  // log-in helps then. If that token is refused too, the session is over.
  let renewed = false;
  client.onState((state) => {
    if (state.status === 'connected') renewed = false;
    if (!isOver(state) || renewed) return;
    renewed = true;
    good = null;
    client.connect();
  });
  return client;
}

/** Reports whether the server has refused this user for good. */
export function isOver(state: ConnectionState): boolean {
  return state.status === 'disconnected' && state.reason === 'refused' && state.error?.code === 'unauthenticated';
}
