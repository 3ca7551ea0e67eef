import { type FormEvent, type ReactNode, useEffect, useRef, useState } from 'react';
import { type Login as Answer, logIn } from './session.js';

interface Props {
  name: string;
  /** Why the last session ended. */
  message: string;
  onLogin: (login: Answer) => void;
}

export function Login({ name, message, onLogin }: Props): ReactNode {
  const [error, setError] = useState(message);
  const [busy, setBusy] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    document.title = 'chathub';
    input.current?.focus();
  }, []);

  async function submit(event: FormEvent) {
    event.preventDefault();
    setBusy(true);
    setError('');
    try {
      onLogin(await logIn(input.current?.value ?? ''));
    } catch (err) {
      setError((err as Error).message);
      setBusy(false);
      input.current?.focus();
    }
  }

  return (
    <main className="login">
      <div className="login-card">
        <img className="logo" src="./icon.svg" alt="" width="52" height="52" />
        <h1>Come in and chat</h1>
        <p className="lead">Pick a name to join the rooms and to write to others.</p>
        <form onSubmit={submit}>
          <label htmlFor="name">Your name</label>
          <input
            ref={input}
            id="name"
            className="field"
            type="text"
            defaultValue={name}
            maxLength={32}
            required
            autoComplete="nickname"
            autoCapitalize="words"
            spellCheck={false}
            enterKeyHint="go"
            placeholder="Ana"
            aria-invalid={error !== ''}
            aria-describedby="login-error login-hint"
            onChange={() => setError('')}
          />
          <p id="login-error" className="form-error" role="alert">
            {error}
          </p>
          <button className="primary" type="submit" disabled={busy}>
            Start chatting
          </button>
        </form>
        <p id="login-hint" className="hint">
          This is a demonstration without passwords. Anyone can take any name.
        </p>
      </div>
    </main>
  );
}
