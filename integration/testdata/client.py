"""A chat client on Python's websockets:

    client.py URL NAME TOKEN OTHERS EXTENSION

It logs in by the Authorization header, and greets the lobby. Once it has heard
all OTHERS (comma-separated), it says so, and stays until the server disconnects
it. It offers compression, as the package does by default. The server must agree
on EXTENSION: permessage-deflate, or nothing. Anything unexpected is an error.
"""

import asyncio
import json
import sys

import websockets

url, name, token, others, extension = sys.argv[1:]

# The parameter's name changed with the asyncio implementation of version 14.
HEADERS = "additional_headers" if int(websockets.__version__.split(".")[0]) >= 14 else "extra_headers"


def open_as(token):
    return websockets.connect(
        url, subprotocols=["chathub.v1"], **{HEADERS: {"Authorization": f"Bearer {token}"}}
    )


async def receive(ws, kind):
    while True:
        frame = json.loads(await ws.recv())
        assert frame["type"] != "error", frame
        if frame["type"] == kind:
            return frame


async def send(ws, **envelope):
    await ws.send(json.dumps(envelope, ensure_ascii=False))


async def closed(ws):
    """Returns the code and the reason of the server's close."""
    try:
        while True:
            await ws.recv()
    except websockets.ConnectionClosed as end:
        return end.rcvd.code, end.rcvd.reason


async def main():
    # A bad token: the reason in a frame, then 4500.
    async with open_as("not-a-token") as ws:
        frame = await receive(ws, "connect-error")
        assert frame["data"]["code"] == "unauthenticated", frame
        assert await closed(ws) == (4500, "Invalid token")

    # A close by the client.
    async with open_as(token) as ws:
        await receive(ws, "welcome")
        await ws.close(1000, "later")
        assert await closed(ws) == (1000, "later")

    async with open_as(token) as ws:
        assert ws.subprotocol == "chathub.v1", ws.subprotocol
        agreed = ws.response_headers if hasattr(ws, "response_headers") else ws.response.headers
        assert agreed.get("Sec-WebSocket-Extensions", "").split(";")[0] == extension, agreed
        welcome = await receive(ws, "welcome")
        assert welcome["data"]["user"]["id"] == name, welcome

        pong = await ws.ping("are you there?")
        await pong  # this checks the payload

        await send(ws, type="join-room", id="join", room="lobby", data={"history": 100})
        assert (await receive(ws, "ack"))["id"] == "join"

        # A text longer than 16 bits can count, beyond the BMP, and in fragments.
        text = "🌍" * 30_000
        own = json.dumps(
            {"type": "room-message", "id": "hello", "room": "lobby", "data": {"hello": name, "text": text}},
            ensure_ascii=False,
        )
        await ws.send([own[:4_000], own[4_000:10_000], own[10_000:]])

        missing = {name, *others.split(",")}
        while missing:
            message = await receive(ws, "room-message")
            if "hello" not in message["data"]:
                continue
            assert message["from"]["id"] == message["data"]["hello"], message
            assert message["data"]["text"] == text
            missing.discard(message["data"]["hello"])
        await send(ws, type="room-message", room="lobby", data={"done": name})

        assert await closed(ws) == (4503, "thanks 🌍")


asyncio.run(asyncio.wait_for(main(), 20))
