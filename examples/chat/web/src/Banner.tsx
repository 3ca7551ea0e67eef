import type { ConnectionState } from 'chathub-client';
import { type ReactNode, useEffect, useState } from 'react';

const SOON = 600; // ms: a first connection is usually made within this time

/** Says why there is no connection, and when the next attempt begins. */
export function Banner({ state, onRetry }: { state: ConnectionState; onRetry: () => void }): ReactNode {
  const first = state.status === 'connecting' && state.attempt === 1;
  const [late, setLate] = useState(false);
  useEffect(() => {
    setLate(false);
    if (!first) return;
    const timer = setTimeout(() => setLate(true), SOON);
    return () => clearTimeout(timer);
  }, [first]);
  const text = first && !late ? '' : textOf(state);
  const stopped = state.status === 'disconnected' && state.retryAt === null;
  // A server that is restarting has said when to come back.
  const canRetry = state.status === 'disconnected' && state.reason !== 'restart';
  return (
    <>
      <div className="sr" role="status">
        {text}
      </div>
      <div className="banner" data-stopped={stopped} hidden={text === ''}>
        {!stopped && <span className="spinner" aria-hidden="true" />}
        <span className="banner-text">{text}</span>
        {state.status === 'disconnected' && state.retryAt !== null && (
          <Countdown key={state.retryAt} to={state.retryAt} />
        )}
        {canRetry && (
          <button type="button" onClick={onRetry}>
            {stopped ? 'Connect again' : 'Try now'}
          </button>
        )}
      </div>
    </>
  );
}

function textOf(state: ConnectionState): string {
  if (state.status === 'connected') return '';
  if (state.status === 'connecting') return 'Connecting…';
  switch (state.reason) {
    case 'idle':
    case 'closed':
      return '';
    case 'restart':
      return 'The server is restarting. Your messages will be sent when it is back.';
    case 'refused':
      return `${state.error?.message ?? 'The server closed the connection'}.`;
    default:
      return navigator.onLine
        ? 'The connection is lost. Your messages will be sent when it is back.'
        : 'You are offline. Your messages will be sent when you are back online.';
  }
}

function Countdown({ to }: { to: number }): ReactNode {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, []);
  const left = Math.ceil((to - now) / 1_000);
  return (
    <span className="countdown" aria-hidden="true">
      {left > 0 && `Next try in ${left} s`}
    </span>
  );
}
