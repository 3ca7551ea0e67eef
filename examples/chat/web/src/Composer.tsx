import type { Message } from 'chathub-client/react';
import { type FormEvent, type ReactNode, useEffect, useRef, useState } from 'react';
import { LONGEST, partsOf } from './long.js';
import { Icon, Name, useHeight } from './parts.js';
import { shortOf } from './types.js';

interface Props {
  label: string;
  disabled: boolean;
  /** The next message can be written, and not be sent yet. */
  waiting: boolean;
  /** A long text cannot go out in parts. */
  single: boolean;
  draft: string;
  /** The message that the next one answers. */
  replyTo: Message | undefined;
  onDraft: (text: string) => void;
  /** A long text goes out in parts. */
  onSend: (parts: readonly string[]) => void;
  onNoReply: () => void;
  /** The user wants to edit their last message. */
  onEditLast: () => void;
  /** The user types, or has stopped typing. */
  onTyping?: ((is: boolean) => void) | undefined;
}

/** On a phone, taking focus would open a keyboard over half of the screen. */
export const phone = matchMedia('(max-width: 760px)');

export function Composer(props: Props): ReactNode {
  const { label, disabled, waiting, single, draft, replyTo, onDraft, onSend, onNoReply, onEditLast, onTyping } = props;
  const [text, setText] = useState(draft);
  const area = useRef<HTMLTextAreaElement>(null);
  const cut = text.length > LONGEST ? [] : partsOf(text);
  const tooMany = single && cut.length > 1;
  const tooLong = text.length > LONGEST || tooMany;
  const parts = tooLong ? [] : cut;

  useEffect(() => {
    if (phone.matches) document.querySelector<HTMLElement>('.bar h2')?.focus();
    else if (!disabled) area.current?.focus();
  }, [disabled]);
  useEffect(() => {
    if (replyTo) area.current?.focus();
  }, [replyTo]);
  useHeight(area, text);

  function change(text: string) {
    setText(text);
    onDraft(text);
    onTyping?.(text.trim() !== '');
  }

  function submit(event: FormEvent) {
    event.preventDefault();
    area.current?.focus();
    if (parts.length === 0 || disabled || waiting) return;
    onSend(parts);
    setText('');
    onDraft('');
  }

  return (
    <form className={parts.length > 0 && !waiting && !disabled ? 'composer ready' : 'composer'} onSubmit={submit}>
      {replyTo && (
        <div className="replying">
          <p>
            Reply to <Name of={replyTo.from?.name ?? 'Server'} className="quote-who" />
            <Name of={shortOf(replyTo)} className="quote-text" />
          </p>
          <button
            type="button"
            onClick={() => {
              onNoReply();
              area.current?.focus();
            }}
          >
            Cancel
          </button>
        </div>
      )}
      <p className="composer-note" role="status" hidden={parts.length < 2 && !tooLong}>
        {tooMany && 'This is too long for one message, and in slow mode you can send one at a time.'}
        {tooLong && !tooMany && `This is too long. ${LONGEST.toLocaleString('en')} characters can be sent at once.`}
        {parts.length > 1 && `This is long. It will be sent as ${parts.length} messages.`}
      </p>
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
          if (event.nativeEvent.isComposing || event.altKey) return;
          if (event.key === 'ArrowUp' && text === '') {
            event.preventDefault();
            return onEditLast();
          }
          if (event.key === 'Escape' && replyTo) return onNoReply();
          if (event.key !== 'Enter' || event.shiftKey) return;
          event.preventDefault();
          event.currentTarget.form?.requestSubmit();
        }}
      />
      <button className="send" type="submit" aria-label="Send" title="Send" disabled={disabled || waiting}>
        <Icon of="send" />
      </button>
    </form>
  );
}
