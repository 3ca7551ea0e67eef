import { type CSSProperties, type ReactNode, type RefObject, useEffect, useId, useLayoutEffect, useRef } from 'react';
import { hue, initials } from './format.js';

const paths = {
  back: 'M15 5l-7 7 7 7',
  close: 'M6 6l12 12M18 6L6 18',
  plus: 'M12 5v14M5 12h14',
  people:
    'M12.5 8.5a3.5 3.5 0 1 1-7 0a3.5 3.5 0 0 1 7 0M2.5 19.5c.6-3.4 3.2-5.5 6.5-5.5s5.9 2.1 6.5 5.5M16 5.3a3.5 3.5 0 0 1 0 6.4M18 14.6c1.9.8 3.1 2.5 3.5 4.9',
  leave: 'M20.5 12a8.5 8.5 0 1 1-17 0a8.5 8.5 0 0 1 17 0M8.500 12h7',
  exit: 'M10 4.5H6.5a2 2 0 0 0-2 2v11a2 2 0 0 0 2 2H10M9.5 12h10M15.5 8l4 4-4 4',
  send: 'M12 19V5M5.5 11.5L12 5l6.5 6.5',
  down: 'M12 5v14M5.5 12.5L12 19l6.5-6.5',
  up: 'M6 14.5l6-6l6 6',
  clock: 'M20 12a8 8 0 1 1-16 0a8 8 0 0 1 16 0M12 8v4.5l2.5 1.5',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  checks: 'M2.5 12.5l4.5 4.5L16.5 7.5M11.5 16l1.5 1L22 7.5',
  react: 'M20.5 12a8.5 8.5 0 1 1-17 0a8.5 8.5 0 0 1 17 0M8.5 14c.8 1.4 2 2.2 3.5 2.2s2.7-.8 3.5-2.2M9 9.5v.4M15 9.5v.4',
  reply: 'M10 6L4.5 11.5L10 17M5 11.5h8.5a6 6 0 0 1 6 6v1',
  edit: 'M5 19l.8-3.8L16.5 4.5a1.9 1.9 0 0 1 2.9 2.9L8.8 18.2L5 19M14.5 6.5l3 3',
  delete: 'M4.5 7h15M9.5 7V4.5h5V7M6.5 7l1 12.5h9l1-12.5M10.2 11v5M13.8 11v5',
  link: 'M10 13.5a4 4 0 0 0 5.7.3l2.8-2.8a4 4 0 0 0-5.7-5.7l-1.300 1.300M14 10.5a4 4 0 0 0-5.7-.3l-2.8 2.8a4 4 0 0 0 5.7 5.7l1.300-1.300',
  pin: 'M9 4.5h6l-1 6 3 3.500v1H7v-1l3-3.500-1-6M12 14.500V20',
  unpin: 'M9 4.5h6l-1 6 3 3.500v1H7v-1l3-3.500-1-6M12 14.500V20M4 4l16 16',
  bell: 'M6.5 16.5V11a5.5 5.5 0 0 1 11 0v5.5l1.5 1.5H5l1.5-1.5M10 20.5h4',
  muted: 'M6.5 16.5V11a5.5 5.5 0 0 1 11 0v5.5l1.5 1.5H5l1.5-1.5M10 20.5h4M4 4l16 16',
  flag: 'M6 20.500V4.500M6 5c4-2 7.500 2 12 0v8.500c-4.500 2-8-2-12 0',
  shield:
    'M12 3.500l7 2.500v5.500c0 4.200-2.800 7.500-7 9c-4.200-1.500-7-4.800-7-9V6l7-2.500M9 12l2.200 2.200L15.200 10',
  snow: 'M12 3.500v17M4.600 7.800l14.800 8.400M19.400 7.800L4.600 16.200',
  alert: 'M20.5 12a8.5 8.5 0 1 1-17 0a8.5 8.5 0 0 1 17 0M12 7.5v5.5M12 16v.2',
};

export type IconName = keyof typeof paths;

export function Icon({ of }: { of: IconName }): ReactNode {
  return (
    <svg viewBox="0 0 24 24" aria-hidden="true">
      <path d={paths[of]} />
    </svg>
  );
}

interface ButtonProps {
  icon: IconName;
  label: string;
  onClick: () => void;
  className?: string;
  /** Shown beside the icon. The label says it too. */
  count?: number;
}

export function IconButton({ icon, label, onClick, className = '', count }: ButtonProps): ReactNode {
  return (
    <button type="button" className={`icon-button ${className}`} aria-label={label} title={label} onClick={onClick}>
      <Icon of={icon} />
      {count !== undefined && <span className="icon-count">{count}</span>}
    </button>
  );
}

/** A name that cannot change the direction of the text around it. */
export function Name({ of, className }: { of: string; className?: string }): ReactNode {
  return <bdi className={className}>{of}</bdi>;
}

/** The colour of a user, for elements styled with `--hue`. */
export const colored = (id: string): CSSProperties => ({ '--hue': hue(id) }) as CSSProperties;

/**
 * Initials on a colour that follows from the id. Screen readers skip it, so say
 * in words whether the user is online.
 */
export function Avatar({ id, name, online }: { id: string; name: string; online?: boolean | undefined }): ReactNode {
  return (
    <span className="avatar" style={colored(id)} aria-hidden="true">
      {initials(name)}
      {online !== undefined && <span className={online ? 'presence on' : 'presence'} />}
    </span>
  );
}

export function RoomAvatar(): ReactNode {
  return (
    <span className="avatar room" aria-hidden="true">
      #
    </span>
  );
}

/** Text for screen readers only. */
export function Spoken({ id, children }: { id?: string; children: ReactNode }): ReactNode {
  return (
    <span id={id} className="sr">
      {children}
    </span>
  );
}

/** Makes a field as high as its text. */
export function useHeight(area: RefObject<HTMLTextAreaElement | null>, text: string): void {
  // biome-ignore lint/correctness/useExhaustiveDependencies: the text is in the element
  useLayoutEffect(() => {
    const element = area.current as HTMLTextAreaElement;
    element.style.height = 'auto';
    element.style.height = `${element.scrollHeight}px`;
  }, [text]);
}

interface DialogProps {
  title: ReactNode;
  className?: string;
  /** The dialog is closed, and focus is back where it was. */
  onClosed: () => void;
  /** Is given a function that closes the dialog. */
  children: (close: () => void) => ReactNode;
}

/** A modal dialog. The browser keeps focus inside, and Escape closes it. */
export function Dialog({ title, className = '', onClosed, children }: DialogProps): ReactNode {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current as HTMLDialogElement;
    if (!dialog.open) dialog.showModal();
    dialog.querySelector<HTMLElement>('input, textarea')?.focus(); // instead of the close button
  }, []);
  const close = () => ref.current?.close();
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: a click beside it; the keyboard has Escape
    <dialog
      ref={ref}
      className={className}
      aria-labelledby={id}
      onClose={onClosed}
      onClick={(event) => event.target === ref.current && close()}
    >
      <div className="dialog-body">
        <header className="dialog-head">
          <h2 id={id}>{title}</h2>
          <IconButton icon="close" label="Close" onClick={close} />
        </header>
        {children(close)}
      </div>
    </dialog>
  );
}
