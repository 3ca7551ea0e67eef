// The entry `chathub-client/storage`: keeps the outbox, so that it outlives the
// page.
import { isObject, isRe, isText, shape } from './check.js';
import type { OutboxStorage, Outgoing } from './outbox.js';
import { isDurable } from './protocol.js';

/** Where to keep it: localStorage, sessionStorage, AsyncStorage. */
export interface StorageLike {
  getItem(key: string): string | null | Promise<string | null>;
  setItem(key: string, value: string): unknown;
  removeItem(key: string): unknown;
}

const isOutgoing = shape<Omit<Outgoing, 'data'>>(
  { type: (type) => isText(type) && isDurable(type), id: isText },
  { room: isText, to: isText, re: isRe, epoch: isText },
) as (value: unknown) => value is Outgoing;

/**
 * Keeps the messages that the server has not acknowledged in a storage, for the
 * option `storage` of the client. Tabs that share a storage need different
 * values of `key`.
 */
export function keptIn(storage: StorageLike, key = 'chathub:outbox'): OutboxStorage {
  return (outbox, report) => {
    let saving = true; // also while it is not loaded yet
    let unsaved = false;

    // Nothing is saved before this is done: that would overwrite the storage.
    const load = async () => {
      try {
        const saved = await storage.getItem(key);
        if (saved) outbox.restore(...parse(saved));
      } catch (err) {
        report(err);
      }
      saving = false;
      if (unsaved) save();
    };

    // One write at a time, so that the last one wins.
    const save = () => {
      unsaved = true;
      if (!saving) void write();
    };

    const write = async () => {
      saving = true;
      try {
        await null; // changes of one moment become one write
        while (unsaved) {
          unsaved = false;
          const { user, messages } = outbox;
          if (messages.length === 0) await storage.removeItem(key);
          else await storage.setItem(key, JSON.stringify({ user, messages }));
        }
      } catch (err) {
        report(err); // messages are sent even if the storage is full
      } finally {
        saving = false;
      }
    };

    void load();
    return save;
  };
}

// Reads what was saved, without anything that is not a message.
function parse(saved: string): [messages: Outgoing[], user: string | undefined] {
  const value: unknown = JSON.parse(saved);
  const { user, messages } = isObject(value) ? value : {};
  return [Array.isArray(messages) ? messages.filter(isOutgoing) : [], isText(user) ? user : undefined];
}
