import { type FormEvent, type ReactNode, useEffect, useLayoutEffect, useRef, useState } from 'react';
import { Icon } from './parts.js';

interface Props {
  label: string;
  disabled: boolean;
  draft: string;
  onDraft: (text: string) => void;
  onSend: (text: string) => void;
  /** The user types, or has stopped typing. */
  onTyping?: ((is: boolean) => void) | undefined;
}

/** On a phone, taking focus would open a keyboard over half of the screen. */
export const phone = matchMedia('(max-width: 760px)');

export function Composer({ label, disabled, draft, onDraft, onSend, onTyping }: Props): ReactNode {
  const [text, setText] = useState(draft);
  const area = useRef<HTMLTextAreaElement>(null);

  useEffect(() => {
    if (phone.matches) document.querySelector<HTMLElement>('.bar h2')?.focus();
    else if (!disabled) area.current?.focus();
  }, [disabled]);
  // The field is as high as its text.
  // biome-ignore lint/correctness/useExhaustiveDependencies: the text is in the element
  useLayoutEffect(() => {
    const element = area.current as HTMLTextAreaElement;
    element.style.height = 'auto';
    element.style.height = `${element.scrollHeight}px`;
  }, [text]);

  function change(text: string) {
    setText(text);
    onDraft(text);
    onTyping?.(text.trim() !== '');
  }

  function submit(event: FormEvent) {
    event.preventDefault();
    area.current?.focus();
    if (!text.trim() || disabled) return;
    onSend(text.trim());
    setText('');
    onDraft('');
  }

  return (
    <form className={text.trim() ? 'composer ready' : 'composer'} onSubmit={submit}>
      <textarea
        ref={area}
        rows={1}
        value={text}
        disabled={disabled}
        aria-label={label}
        placeholder={label}
        autoComplete="off"
        enterKeyHint="send"
        dir="auto"
        onChange={(event) => change(event.target.value)}
        onBlur={() => onTyping?.(false)}
        onKeyDown={(event) => {
          if (event.key !== 'Enter' || event.shiftKey || event.nativeEvent.isComposing) return;
          event.preventDefault();
          event.currentTarget.form?.requestSubmit();
        }}
      />
      <button className="send" type="submit" aria-label="Send" title="Send" disabled={disabled}>
        <Icon of="send" />
      </button>
    </form>
  );
}
