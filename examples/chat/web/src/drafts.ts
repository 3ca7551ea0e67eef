import { load, ofTab, save } from './storage.js';

const DRAFTS = 'chathub:drafts';

/** Texts that are not sent yet, by place. They survive a reload. */
export class Drafts {
  readonly #texts: Map<string, string>;

  constructor() {
    const stored = load(ofTab, DRAFTS);
    const isDraft = (entry: unknown): entry is [string, string] =>
      Array.isArray(entry) && typeof entry[0] === 'string' && typeof entry[1] === 'string';
    this.#texts = new Map(Array.isArray(stored) ? stored.filter(isDraft) : []);
  }

  of(place: string): string {
    return this.#texts.get(place) ?? '';
  }

  set(place: string, text: string): void {
    if (text) this.#texts.set(place, text);
    else this.#texts.delete(place);
    save(ofTab, DRAFTS, this.#texts.size > 0 ? [...this.#texts] : null);
  }
}

export const forgetDrafts = (): void => save(ofTab, DRAFTS, null);
