// The list of messages against a simple model of it.
import { expect, test } from 'vitest';
import type { Envelope, Outgoing } from '../src/index.js';
import { Messages } from '../src/store/messages.js';
import { random } from './fixture.js';

const MAX = 10;
const me = { id: 'u1', name: 'Ana' };
const ben = { id: 'u2', name: 'Ben' };

interface Line {
  epoch?: string;
  seq?: number;
  id: string | undefined;
  from: string | undefined;
}

/** The same with plain lists, searched from the start each time. */
class Model {
  past: Line[] = [];
  log: Line[] = [];
  open: Line[] = [];
  max = MAX;

  /** A page may be longer than what is kept of live messages. */
  page(events: Envelope[]): void {
    for (const e of events) this.take(e);
    const length = this.past.length + this.log.length;
    if (length > this.max) this.max = length + MAX;
  }

  dropLog(): void {
    this.log = [];
    this.max = MAX;
  }

  take({ epoch = '', seq = 0, id, from }: Envelope): void {
    const line = { epoch, seq, id, from: from?.id };
    const same = (m: Line) => id !== undefined && m.id === id && m.from === from?.id;
    this.open = this.open.filter((m) => !same(m));
    this.past = this.past.filter((m) => !same(m));
    if (this.log.some((m) => m.seq === seq)) return;
    this.log = [...this.log, line].sort((a, b) => (a.seq ?? 0) - (b.seq ?? 0));
  }

  trim(): void {
    const past = this.past.length;
    const over = Math.max(0, past + this.log.length - this.max);
    this.past = this.past.slice(over);
    this.log = this.log.slice(Math.max(0, over - past));
  }

  get all(): Line[] {
    return [...this.past, ...this.log, ...this.open];
  }
}

test.each(Array.from({ length: 50 }, (_, i) => i + 1))('random changes, seed %i', (seed) => {
  const pick = random(seed * 0x9e3779b1);
  const messages = new Messages(MAX, () => me.id);
  const model = new Model();
  let epoch = 1;
  let head = 0;
  let ids = 0;
  const event = (seq: number): Envelope => {
    const id = pick(4) === 0 ? undefined : `${pick(3)}`;
    const from = [me, ben, undefined][pick(3)];
    return {
      type: 'room-message',
      room: 'a',
      ...(id && { id }),
      ...(from && { from }),
      epoch: `e${epoch}`,
      seq,
      data: 1,
    };
  };
  const own = (id: string): Outgoing => ({ type: 'room-message', id, room: 'a', data: 1 });
  const steps = [
    () => {
      const e = event(++head); // a live one
      messages.take([e], true);
      messages.trim();
      model.take(e);
      model.trim();
    },
    () => {
      const page = Array.from({ length: pick(4) }, () => event(1 + pick(head + 3)));
      messages.take(page, false);
      model.page(page);
      head += 3;
    },
    () => {
      const id = `own ${++ids}`;
      messages.queued(own(id), me);
      model.open.push({ id, from: me.id });
    },
    () => {
      const line = model.open[0];
      if (!line) return;
      const e = { ...event(++head), id: line.id ?? '', from: me };
      messages.acknowledged(own(e.id), { id: e.id, seq: head, epoch: `e${epoch}` });
      model.take(e);
    },
    () => {
      const line = model.open.pop();
      if (line) messages.remove(line.id ?? '');
    },
    () => {
      if (pick(5) > 0) return;
      messages.newLife();
      model.past = [...model.past, ...model.log];
      model.dropLog();
      head = 0;
      epoch++;
    },
    () => {
      if (pick(10) > 0) return;
      messages.dropLog();
      model.dropLog();
    },
  ];
  for (let step = 0; step < 300; step++) {
    steps[pick(steps.length)]?.();
    const { all } = messages;
    const lines = all.map(({ id, from, epoch, seq }) => ({ id, from: from?.id, ...(seq && { epoch, seq }) }));
    expect(lines).toEqual(model.all);
    expect(messages.all).toBe(all);
    expect(messages.oldest).toBe(model.log[0]?.seq);
    expect(new Set(all.map((m) => m.key)).size).toBe(all.length);
  }
});
