import type { User } from 'chathub-client';

/** The data of this page's messages. Other clients may send anything. */
export interface Text {
  text: string;
  /**
   * The recipient's name, in private messages. The envelope has only the id,
   * and the sender's other tabs need a name to show.
   */
  toName?: string;
}

declare module 'chathub-client' {
  interface ChatEvents {
    'room-message': Text;
    'private-message': Text;
  }
}

/** A room, or the private messages with a user. */
export type Place =
  | { readonly kind: 'room'; readonly name: string }
  | { readonly kind: 'user'; readonly id: string; readonly name: string };

export const room = (name: string): Place => ({ kind: 'room', name });
export const privately = ({ id, name }: User): Place => ({ kind: 'user', id, name });

/** Returns a string that is unique to the place. */
export const keyOf = (place: Place): string => (place.kind === 'room' ? `room:${place.name}` : `user:${place.id}`);

/** Returns the text of a message, or its data as JSON if there is none. */
export function textOf(data: unknown): string {
  if (typeof data === 'string') return data;
  const text = (data as Partial<Text> | null | undefined)?.text;
  return typeof text === 'string' ? text : (JSON.stringify(data) ?? '');
}

export const DELETED = 'This message was deleted';

const SHORT = 80; // characters

/** Returns the beginning of a message's text, in one line. */
export function shortOf({ data, deleted }: { readonly data?: unknown; readonly deleted?: number | undefined }): string {
  if (deleted !== undefined) return DELETED;
  const text = textOf(data).slice(0, 500).replace(/\s+/g, ' ');
  return text.length > SHORT ? `${text.slice(0, SHORT)}…` : text;
}
