import type { ReactNode } from 'react';
import { Name } from './parts.js';

export interface Toast {
  readonly key: number;
  readonly title: string;
  readonly text: string;
}

/** Messages to everyone and notifications. Each is shown for a few seconds. */
export function Toasts({ toasts }: { toasts: readonly Toast[] }): ReactNode {
  return (
    <div className="toasts" role="status">
      {toasts.map(({ key, title, text }) => (
        <p key={key} className="toast">
          <strong>
            <Name of={title} />
          </strong>{' '}
          <Name of={text} />
        </p>
      ))}
    </div>
  );
}
