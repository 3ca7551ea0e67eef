import { type ReactNode, useEffect, useRef, useState } from 'react';
import { useHeight } from './parts.js';

/** The text of an edit that the server has refused. */
export interface Refused {
  readonly text: string;
  readonly reason: string;
}

interface Props {
  text: string;
  /** Begins with what was refused. */
  refused: Refused | undefined;
  onSave: (text: string) => void;
  onCancel: () => void;
}

/** A message while it is edited, in its place. */
export function Editor({ text: before, refused, onSave, onCancel }: Props): ReactNode {
  const [text, setText] = useState(refused?.text ?? before);
  const area = useRef<HTMLTextAreaElement>(null);
  useHeight(area, text);
  useEffect(() => {
    const element = area.current as HTMLTextAreaElement;
    // A refusal must not interrupt somebody who is writing something else.
    const other = document.activeElement;
    if (!(other instanceof HTMLTextAreaElement || other instanceof HTMLInputElement) || !other.value) element.focus();
    element.setSelectionRange(element.value.length, element.value.length);
  }, []);
  const good = text.trim() !== '';
  function save() {
    if (!good) return;
    if (text.trim() === before) onCancel();
    else onSave(text.trim());
  }
  return (
    <div className="editor">
      <textarea
        ref={area}
        rows={1}
        value={text}
        aria-label="Edit the message"
        aria-describedby="edit-hint"
        autoComplete="off"
        enterKeyHint="done"
        dir="auto"
        onChange={(event) => setText(event.target.value)}
        onKeyDown={(event) => {
          if (event.nativeEvent.isComposing) return;
          if (event.key === 'Escape') {
            event.stopPropagation();
            onCancel();
          } else if (event.key === 'Enter' && !event.shiftKey) {
            event.preventDefault();
            save();
          }
        }}
      />
      {refused && (
        <p className="editor-problem" role="status">
          Not edited: {refused.reason}.
        </p>
      )}
      <p className="editor-actions">
        <span id="edit-hint">Escape to cancel, Enter to save</span>
        <button type="button" onClick={onCancel}>
          Cancel
        </button>
        <button type="button" disabled={!good} onClick={save}>
          Save
        </button>
      </p>
    </div>
  );
}
