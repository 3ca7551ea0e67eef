import { ChatError, type Room, type RoomState } from 'chathub-client';

// Everyone in a room may set these keys, so their values may be anything.
const TOPIC = 'topic';
const PINNED = 'pinned';

export const LONGEST_TOPIC = 120; // characters
const PINS = 20;
const TRIES = 10; // while others pin at the same time

type State = Pick<RoomState, 'state' | 'versions'>;

/** Returns the topic of a room in one line. Empty if it has none. */
export function topicOf({ state }: State): string {
  const topic = state[TOPIC];
  return typeof topic === 'string' ? topic.replace(/\s+/g, ' ').trim().slice(0, LONGEST_TOPIC) : '';
}

/** Returns the version of a room's topic. */
export const topicVersion = ({ versions }: State): number => versions[TOPIC] ?? 0;

/** Returns the positions of the pinned messages, the last pinned one last. */
export function pinsOf({ state }: Pick<State, 'state'>): readonly number[] {
  const pins = state[PINNED];
  if (!Array.isArray(pins)) return [];
  return [...new Set(pins.filter((seq) => Number.isSafeInteger(seq) && seq > 0))].slice(0, PINS);
}

/** Sets the topic, if it still has that version. */
export async function setTopic(room: Room, topic: string, version: number): Promise<void> {
  await room.setState(TOPIC, topic || null, { expect: version });
}

/**
 * Pins a message, or takes the pin back. If somebody else pins at the same
 * time, both pins stay.
 */
export async function pin(room: Room, seq: number, on: boolean): Promise<void> {
  for (let tries = 1; ; tries++) {
    const others = pinsOf(room.state).filter((other) => other !== seq);
    if (on && others.length >= PINS)
      throw new ChatError('limit_exceeded', `No more than ${PINS} messages can be pinned`);
    const pins = on ? [...others, seq] : others;
    const version = room.state.versions[PINNED] ?? 0;
    try {
      await room.setState(PINNED, pins.length > 0 ? pins : null, { expect: version });
      return;
    } catch (err) {
      if ((err as ChatError).code !== 'conflict' || tries === TRIES) throw err;
      await changed(room, version);
    }
  }
}

// What was set instead may arrive after the refusal.
function changed(room: Room, version: number): Promise<void> {
  return new Promise((resolve) => {
    const look = ({ versions }: State) => {
      if ((versions[PINNED] ?? 0) === version) return;
      end();
      resolve();
    };
    const end = room.onState(look);
    look(room.state);
  });
}
