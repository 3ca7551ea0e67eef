import { type ReactNode, useEffect, useState } from 'react';

/** Counts down the seconds. Screen readers skip it, so say it once in words. */
export function Countdown({ to, text }: { to: number; text: (seconds: number) => string }): ReactNode {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, []);
  const left = Math.ceil((to - now) / 1_000);
  return (
    <span className="countdown" aria-hidden="true">
      {left > 0 && text(left)}
    </span>
  );
}
