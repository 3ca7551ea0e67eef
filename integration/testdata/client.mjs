// A chat client on the npm package ws:
//
//   node client.mjs URL NAME TOKEN OTHERS EXTENSION
//
// It logs in by the subprotocol, as a browser has to, and greets the lobby.
// Once it has heard all OTHERS (comma-separated), it says so, and stays until
// the server disconnects it. It offers compression. The server must agree on
// EXTENSION: permessage-deflate, or nothing. Anything unexpected is an error.
import assert from "node:assert/strict";
import { once } from "node:events";
import WebSocket from "ws";

const [url, name, token, others, extension] = process.argv.slice(2);
const missing = new Set(others.split(","));

setTimeout(() => assert.fail(`${name} is still waiting`), 20_000).unref();

function open(token) {
  const ws = new WebSocket(url, ["chathub.v1", `chathub.bearer.${token}`], {
    perMessageDeflate: { threshold: 1 },
  });
  const frames = []; // received and not read yet
  let wake = () => {};
  ws.on("message", (data, binary) => {
    assert.equal(binary, false);
    frames.push(JSON.parse(data.toString()));
    wake();
  });
  ws.on("close", () => wake());
  ws.next = async (type) => {
    for (;;) {
      while (frames.length === 0) {
        assert.equal(ws.readyState, WebSocket.OPEN, `closed while waiting for ${type}`);
        await new Promise((resolve) => (wake = resolve));
      }
      const frame = frames.shift();
      assert.notEqual(frame.type, "error", JSON.stringify(frame));
      if (frame.type === type) return frame;
    }
  };
  return ws;
}

function send(ws, envelope) {
  ws.send(JSON.stringify(envelope));
}

// A bad token: the reason in a frame, then 4500.
{
  const ws = open("not-a-token");
  const closed = once(ws, "close");
  await once(ws, "open");
  const frame = await ws.next("connect-error");
  assert.equal(frame.data.code, "unauthenticated");
  const [code, reason] = await closed;
  assert.equal(code, 4500);
  assert.equal(reason.toString(), "Invalid token");
}

// A close by the client.
{
  const ws = open(token);
  await once(ws, "open");
  await ws.next("welcome");
  const closed = once(ws, "close");
  ws.close(1000, "later");
  const [code] = await closed;
  assert.equal(code, 1000);
}

const ws = open(token);
const closed = once(ws, "close");
await once(ws, "open");
assert.equal(ws.protocol, "chathub.v1");
assert.equal(ws.extensions, extension);
assert.equal((await ws.next("welcome")).data.user.id, name);

const pong = once(ws, "pong");
ws.ping("are you there?");
assert.equal((await pong)[0].toString(), "are you there?");

send(ws, { type: "join-room", id: "join", room: "lobby", data: { history: 100 } });
assert.equal((await ws.next("ack")).id, "join");

// A text longer than 16 bits can count, beyond the BMP, and in fragments that
// are cut within a character.
const text = "🌍".repeat(30_000);
const own = Buffer.from(
  JSON.stringify({ type: "room-message", id: "hello", room: "lobby", data: { text, hello: name } }),
);
const cut = own.indexOf("🌍") + 4 * 12_345 + 2;
ws.send(own.subarray(0, cut), { binary: false, fin: false });
ws.send(own.subarray(cut), { binary: false, fin: true });

for (missing.add(name); missing.size > 0; ) {
  const { from, data } = await ws.next("room-message");
  if (data.hello === undefined) continue;
  assert.equal(from.id, data.hello);
  assert.equal(data.text, text);
  missing.delete(data.hello);
}
send(ws, { type: "room-message", room: "lobby", data: { done: name } });

const [code, reason] = await closed;
assert.equal(code, 4503);
assert.equal(reason.toString(), "thanks 🌍");
