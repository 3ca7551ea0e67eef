// Tests for any server: the one in memory and the real one.
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import type { ChatClient, ChatOptions, Envelope, JoinedRoom, Room } from '../src/index.js';
import { ChatError } from '../src/index.js';
import type { Backend } from './backend.js';

let names = 0;

/** A name that no other test uses. */
export const fresh = (name: string) => `${name}-${++names}`;

/** Waits until a condition holds. Fails after 20 s, so as not to hang. */
export function until(condition: () => unknown, what = 'the condition'): Promise<void> {
  return vi.waitFor(
    () => {
      if (!condition()) throw new Error(`waiting for ${what}`);
    },
    { timeout: 20_000, interval: 5 },
  );
}

/** Collects the data of messages, or of another type of event. */
export function collect(from: Room | ChatClient, type = 'room-message'): unknown[] {
  const data: unknown[] = [];
  (from as ChatClient).on(type, (d) => void data.push(d));
  return data;
}

export function behaviour(name: string, start: () => Promise<Backend>): void {
  describe(name, () => {
    let server: Backend;
    const clients: ChatClient[] = [];

    beforeAll(async () => {
      server = await start();
    }, 300_000);
    afterAll(() => server.stop());
    afterEach(() => {
      for (const client of clients.splice(0)) client.close();
    });

    async function connect(user: string, options?: ChatOptions): Promise<ChatClient> {
      const client = server.client(user, options);
      clients.push(client);
      client.connect();
      await until(() => client.state.status === 'connected', `${user} to connect`);
      return client;
    }

    /**
     * Breaks the connection with `end`, and returns a function that waits until
     * the client is connected again.
     */
    async function breaking(client: ChatClient, end: () => Promise<void>): Promise<() => Promise<void>> {
      let lost = false;
      let back = false;
      client.onState((state) => {
        lost ||= state.status === 'disconnected';
        back ||= lost && state.status === 'connected';
      });
      await end();
      await until(() => lost, 'the connection to break');
      return () => until(() => back, 'the client to come back');
    }

    test('a room message reaches everyone in the room once, its sender too', async () => {
      const [ana, ben] = await Promise.all([connect(fresh('ana')), connect(fresh('ben'))]);
      const room = fresh('room');
      const [hers, his] = [collect(ana.room(room)), collect(ben.room(room))];
      await Promise.all([ana.room(room).join(), ben.room(room).join()]);
      const receipts = await Promise.all([1, 2, 3].map((n) => ana.room(room).send(n)));
      expect(receipts.map((r) => r.seq)).toEqual([...receipts.map((r) => r.seq)].sort((a, b) => Number(a) - Number(b)));
      await until(() => hers.length >= 3 && his.length >= 3);
      expect([hers, his]).toEqual([
        [1, 2, 3],
        [1, 2, 3],
      ]);
    });

    test.each(['__proto__', 'constructor', '🌍 <img onerror=alert(1)>'])('a room may be called %s', async (odd) => {
      const ana = await connect(fresh('ana'));
      const room = ana.room(odd);
      const seen = collect(room);
      await room.join();
      const text = `<img src=x onerror=alert(1)> ${fresh('text')}`;
      await room.send({ text, ['__proto__']: 1 });
      await (await breaking(ana, () => server.cut()))();
      await room.send('again');
      await until(() => seen.length >= 2);
      expect(seen).toEqual([{ text, ['__proto__']: 1 }, 'again']);
    });

    test('half an emoji arrives as U+FFFD, in data, ids and names', async () => {
      const half = (text: string) => `${text}😀`.slice(0, -1);
      const whole = (text: string) => `${text}\ufffd`;
      const [ana, ben] = await Promise.all([connect(fresh('ana')), connect(fresh('ben'))]);
      const name = fresh('room');
      expect(ana.room(half(name))).toBe(ana.room(whole(name)));
      const seen = collect(ben.room(whole(name)));
      await Promise.all([ana.room(half(name)).join(), ben.room(half(name)).join()]);
      const data = { [half('key')]: ['😀', { text: half('ab') }, '\\ud83d', half('\\')] };
      const receipt = await ana.room(half(name)).send(data, { id: half('id') });
      expect(receipt.id).toBe(whole('id'));
      await until(() => seen.length > 0);
      expect(seen).toEqual([{ [whole('key')]: ['😀', { text: whole('ab') }, '\\ud83d', whole('\\')] }]);

      ana.room(half(name)).typing();
      await until(() => ben.room(whole(name)).state.typing.length > 0);
      const to = whole(fresh('cem'));
      await ana.privateMessage(half(to.slice(0, -1)), half('psst'));
      const cem = server.client(to);
      clients.push(cem);
      const whispers = collect(cem, 'private-message');
      cem.connect();
      await until(() => whispers.length > 0);
      expect(whispers).toEqual([whole('psst')]);
      cem.answer(half('ask').slice(0, 3), () => half('answer'));
      expect(await server.ask(to, 'ask', null)).toEqual([whole('answer')]);
    });

    test('history is read page by page', async () => {
      const ana = await connect(fresh('ana'));
      const room = ana.room(fresh('room'));
      await room.join();
      for (let n = 1; n <= 5; n++) await room.send(n);
      const newest = await room.history({ limit: 2 });
      expect(newest.messages.map((m) => m.data)).toEqual([4, 5]);
      expect(newest.more).toBe(true);
      const rest = await room.history({ limit: 10, before: newest.messages[0]?.seq });
      expect(rest.messages.map((m) => m.data)).toEqual([1, 2, 3]);
      expect(rest.more).toBe(false);
    });

    test('a join brings the newest messages, before the live ones', async () => {
      const [ana, ben] = await Promise.all([connect(fresh('ana')), connect(fresh('ben'))]);
      const name = fresh('room');
      await ana.room(name).join();
      for (let n = 1; n <= 5; n++) await ana.room(name).send(n);
      const seen = collect(ben.room(name));
      await ben.room(name).join({ history: 2 });
      await ana.room(name).send(6);
      await until(() => seen.length >= 3);
      expect(seen).toEqual([4, 5, 6]);
    });

    test('missed messages of several rooms and the inbox come after a reconnect, once and in order', async () => {
      const [anaId, benId] = [fresh('ana'), fresh('ben')];
      const [ana, ben] = await Promise.all([connect(anaId), connect(benId, { backoff: { min: 400, max: 800 } })]);
      const rooms = [fresh('room'), fresh('room'), fresh('room')];
      const seen = rooms.map((r) => collect(ben.room(r)));
      const whispers = collect(ben, 'private-message');
      const joins: JoinedRoom[] = [];
      for (const r of rooms) {
        await Promise.all([ana.room(r).join(), ben.room(r).join()]);
        ben.room(r).onJoined((info) => joins.push(info));
      }
      await ana.room(rooms[0] ?? '').send('before');
      await ana.privateMessage(benId, 'before');
      await until(() => seen[0]?.length && whispers.length);

      const benBack = await breaking(ben, () => server.cut());
      for (const n of [1, 2]) for (const r of rooms) await ana.room(r).send(n);
      await ana.privateMessage(benId, 'meanwhile');
      await benBack();
      await ana.room(rooms[2] ?? '').send('after');
      await until(() => seen[2]?.length === 3 && whispers.length === 2);
      expect(seen).toEqual([
        ['before', 1, 2],
        [1, 2],
        [1, 2, 'after'],
      ]);
      expect(whispers).toEqual(['before', 'meanwhile']);
      expect(joins.map((j) => [j.recovered, j.resumed])).toEqual([
        [true, true],
        [true, true],
        [true, true],
      ]);
    });

    test('a conversation survives a restart: nothing is lost, doubled or out of order', async () => {
      const users = await Promise.all([connect(fresh('ana')), connect(fresh('ben'))]);
      const name = fresh('room');
      const logs = users.map((u) => collect(u.room(name)));
      await Promise.all(users.map((u) => u.room(name).join()));
      const total = 100;
      const sent = users.map(async (u, i) => {
        for (let n = 0; n < total; n++) await u.room(name).send(`${i} ${n}`);
      });
      await until(() => (logs[0]?.length ?? 0) > 10);
      await server.restart(false);
      await until(() => (logs[0]?.length ?? 0) > total);
      await server.cut();
      await Promise.all(sent);
      await until(() => logs.every((log) => log.length >= 2 * total));
      expect(logs[0]).toEqual(logs[1]);
      for (const i of [0, 1]) {
        const own = logs[0]?.filter((m) => String(m).startsWith(`${i} `));
        expect(own).toEqual(Array.from({ length: total }, (_, n) => `${i} ${n}`));
      }
    });

    test('a server that has lost its logs causes recovered: false', async () => {
      const ana = await connect(fresh('ana'));
      const room = ana.room(fresh('room'));
      const joins: JoinedRoom[] = [];
      const inbox: boolean[] = [];
      const seen = collect(room);
      room.onJoined((info) => joins.push(info));
      ana.onInbox((info) => inbox.push(info.resumed && info.recovered));
      await room.join();
      await room.send('old');
      await server.restart(true);
      await until(() => joins.length === 2, 'the second join');
      expect(joins[1]).toMatchObject({ resumed: true, recovered: false });
      expect(joins[1]?.epoch).not.toBe(joins[0]?.epoch);
      expect(inbox.at(-1)).toBe(false);
      await room.send('new');
      await until(() => seen.length >= 2);
      expect(seen).toEqual(['old', 'new']);
    });

    test('events, receipts and pages have the epoch of their log', async () => {
      const anaId = fresh('ana');
      const [ana, ben] = await Promise.all([connect(anaId), connect(fresh('ben'))]);
      const room = ana.room(fresh('room'));
      const events: Envelope[] = [];
      room.on('room-message', (_, e) => events.push(e as Envelope));
      ana.on('private-message', (_, e) => events.push(e));
      let { epoch } = await room.join();
      const receipt = await room.send(1);
      expect(receipt).toMatchObject({ epoch, seq: expect.any(Number) });
      const page = await room.history();
      expect(page.messages).toMatchObject([{ epoch, seq: receipt.seq }]);

      const inbox = ana.inbox?.epoch;
      expect(await ana.privateMessage(fresh('cem'), 2)).toMatchObject({ epoch: inbox, seq: expect.any(Number) });
      expect(await ben.notify(anaId, 3)).toEqual({ id: expect.any(String) });
      await ben.privateMessage(anaId, 4);
      await until(() => events.length >= 2);
      expect(events).toMatchObject([
        { epoch, seq: receipt.seq },
        { epoch: inbox, data: 4 },
      ]);

      // Missed messages and live ones have the epoch of the new log.
      room.onJoined((info) => {
        epoch = info.epoch;
      });
      await (await breaking(ana, () => server.restart(true)))();
      expect(epoch).not.toBe(receipt.epoch);
      expect(await room.send(5)).toMatchObject({ epoch });
      await until(() => events.length >= 3);
      expect(events[2]).toMatchObject({ epoch, data: 5 });
    });

    test('messages written while the server was away are sent in order afterwards', async () => {
      const ana = await connect(fresh('ana'), { backoff: { min: 200, max: 400 } });
      const room = ana.room(fresh('room'));
      const seen = collect(room);
      await room.join();
      await breaking(ana, () => server.cut());
      const sent = [1, 2, 3, 4].map((n) => room.send(n));
      expect(ana.outbox.map((m) => m.data)).toEqual([1, 2, 3, 4]);
      await Promise.all(sent);
      await until(() => seen.length >= 4);
      expect(seen).toEqual([1, 2, 3, 4]);
      expect(ana.outbox).toEqual([]);
    });

    test('a message without an answer is sent again, and stored once', async () => {
      const ana = await connect(fresh('ana'));
      const room = ana.room(fresh('room'));
      const seen = collect(room);
      await room.join();
      for (let n = 0; n < 10; n++) {
        const sent = room.send(n);
        await server.cut();
        await sent;
      }
      const { messages } = await room.history({ limit: 50 });
      expect(messages.map((m) => m.data)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
      await until(() => seen.length >= 10);
      expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    });

    test('a private message waits for an absent user, and does not come back to its sender', async () => {
      const benId = fresh('ben');
      const ana = await connect(fresh('ana'));
      const own = collect(ana, 'private-message');
      const receipt = await ana.privateMessage(benId, { text: 'psst' });
      expect(receipt.seq).toBeGreaterThan(0);
      await (await breaking(ana, () => server.cut()))();

      const ben = server.client(benId);
      clients.push(ben);
      const events: Envelope[] = [];
      ben.on('private-message', (_, e) => events.push(e));
      ben.connect();
      await until(() => events.length > 0);
      expect(events[0]).toMatchObject({ id: receipt.id, to: benId, from: ana.user, data: { text: 'psst' } });
      await ana.onlineUsers(); // its answer comes after the replay
      expect(own).toEqual([]);
    });

    test('an id that was used for another message is a conflict, and the connection goes on', async () => {
      const [benId, name] = [fresh('ben'), fresh('room')];
      const [ana, ben] = await Promise.all([connect(fresh('ana')), connect(benId)]);
      const [inRoom, whispers, notices] = [
        collect(ben.room(name)),
        collect(ben, 'private-message'),
        collect(ben, 'notification'),
      ];
      await Promise.all([ana.room(name).join(), ben.room(name).join()]);
      const outcomes: string[] = [];
      ana.onSend((e) => e.status !== 'queued' && outcomes.push(`${e.message.data} ${e.status}`));
      const id = fresh('id');
      const refused = { code: 'conflict' };
      await ana.room(name).send(1, { id });
      expect(await ana.room(name).send(1, { id })).toMatchObject({ dup: true });
      await expect(ana.room(name).send(2, { id })).rejects.toMatchObject(refused);
      await ana.privateMessage(benId, 3, { id });
      await expect(ana.privateMessage(benId, 4, { id })).rejects.toMatchObject(refused);
      await expect(ana.notify(benId, 3, { id })).rejects.toMatchObject(refused);
      await ana.room(name).send(5);
      expect(outcomes).toEqual(['1 sent', '1 sent', '2 failed', '3 sent', '4 failed', '3 failed', '5 sent']);
      expect(ana.outbox).toEqual([]);
      await until(() => inRoom.length >= 2 && whispers.length > 0);
      expect([inRoom, whispers, notices]).toEqual([[1, 5], [3], []]);
    });

    test('a second tab of the sender gets its private messages', async () => {
      const anaId = fresh('ana');
      const [one, two] = await Promise.all([connect(anaId), connect(anaId)]);
      const seen = collect(two, 'private-message');
      await one.privateMessage(fresh('ben'), 'hello');
      await until(() => seen.length > 0);
      expect(seen).toEqual(['hello']);
    });

    test('answers questions of the server', async () => {
      const anaId = fresh('ana');
      const ana = await connect(anaId);
      ana.answer('double', async (n) => Number(n) * 2);
      ana.answer('nothing', () => undefined);
      ana.answer('refuse', () => {
        throw new ChatError('forbidden', 'Not now');
      });
      expect(await server.ask(anaId, 'double', 21)).toEqual([42]);
      expect(await server.ask(anaId, 'nothing', 1)).toEqual([null]);
      expect(await server.ask(anaId, 'refuse', 1)).toEqual([expect.stringMatching(/forbidden.*Not now/)]);
      expect(await server.ask(anaId, 'nobody', 1)).toEqual([expect.stringMatching(/unknown_type/)]);
    });

    test('an unknown event is an error for its caller', async () => {
      const ana = await connect(fresh('ana'));
      await expect(ana.send('no-such-event', 1)).rejects.toMatchObject({ name: 'ChatError', code: 'unknown_type' });
      await expect(ana.send('room-message', 1, { room: fresh('room') })).rejects.toMatchObject({ code: 'not_in_room' });
      expect(ana.state.status).toBe('connected');
    });

    test('a room that was left is not joined again', async () => {
      const ana = await connect(fresh('ana'));
      const room = ana.room(fresh('room'));
      await room.join();
      room.leave();
      expect(room.state.status).toBe('left');
      await (await breaking(ana, () => server.cut()))();
      await expect(room.send('x')).rejects.toMatchObject({ code: 'not_in_room' });
    });
  });
}
