import type { User } from 'chathub-client';

/** What this page puts into a message. Other clients may send anything. */
export interface Text {
  text: string;
  /** Of a private message: the recipient's name, which the envelope has not. It is for the sender's other tabs. */
  toName?: string;
}

declare module 'chathub-client' {
  interface ChatEvents {
    'room-message': Text;
    'private-message': Text;
  }
}

/** A room by its name, or the private messages with a user. */
export type Place =
  | { readonly kind: 'room'; readonly name: string }
  | { readonly kind: 'user'; readonly id: string; readonly name: string };

export const room = (name: string): Place => ({ kind: 'room', name });
export const privately = ({ id, name }: User): Place => ({ kind: 'user', id, name });

/** One string for each place. */
export const keyOf = (place: Place): string => (place.kind === 'room' ? `room:${place.name}` : `user:${place.id}`);

/** The text of a message's data: `{text}`, or whatever another client has sent. */
export function textOf(data: unknown): string {
  if (typeof data === 'string') return data;
  const text = (data as Partial<Text> | null | undefined)?.text;
  return typeof text === 'string' ? text : (JSON.stringify(data) ?? '');
}
