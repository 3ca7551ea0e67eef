import type { ConnectionState } from 'chathub-client';
import { type ReactNode, useEffect, useMemo, useState } from 'react';
import { banOf } from './banned.js';
import { Countdown } from './Countdown.js';
import { endText } from './format.js';
import { Name } from './parts.js';

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
  const ban = useMemo(() => banOf(state), [state]);
  const said = ban ? (
    <>
      You are banned. {endText(ban.until)} <Name of={ban.reason} />
    </>
  ) : (
    text
  );
  const stopped = state.status === 'disconnected' && state.retryAt === null;
  // A server that is restarting has said when to come back.
  const canRetry = state.status === 'disconnected' && state.reason !== 'restart';
  return (
    <>
      <div className="sr" role="status">
        {said}
      </div>
      <div className="banner" data-stopped={stopped} hidden={text === ''}>
        {!stopped && <span className="spinner" aria-hidden="true" />}
        <span className="banner-text">{said}</span>
        {state.status === 'disconnected' && state.retryAt !== null && (
          <Countdown key={state.retryAt} to={state.retryAt} text={(left) => `Next try in ${left} s`} />
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
