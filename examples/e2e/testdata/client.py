"""A WebSocket client that is not ours (python3-websockets), against the echo
and the close consumer of python_test.go. Prints what it saw, a line each."""

import asyncio
import sys

import websockets
from websockets.frames import OP_TEXT


async def echo(url):
    async with websockets.connect(url) as ws:
        for message in ["hello", "gr\u00fc\u00df dich \u4f60\u597d \U0001f30a", "", "x" * 60_000, b"\x00\xff\xfe", b"", bytes(range(256)) * 200]:
            await ws.send(message)
            answer = await ws.recv()
            print("same" if answer == message else f"sent {message[:40]!r}, got {answer[:40]!r}")
        await ws.send(["in ", "three ", "fragments"])
        print(await ws.recv())
        await asyncio.wait_for(await ws.ping(), 5)
        print("pong")
        await ws.close(1000, "done")
    print("closed", ws.close_code)


async def closed(name, url, provoke=None):
    async with websockets.connect(url) as ws:
        if provoke:
            await provoke(ws)
        try:
            await asyncio.wait_for(ws.recv(), 5)
        except websockets.ConnectionClosed:
            pass
        print(name, ws.close_code, ws.close_reason)


async def refused(url):
    try:
        async with websockets.connect(url):
            print("not refused")
    except websockets.InvalidStatusCode as e:
        print("refused", e.status_code)


async def main(base):
    await echo(base + "/echo")
    await closed("consumer", base + "/close/4009")
    await closed("not UTF-8", base + "/echo", lambda ws: ws.write_frame(True, OP_TEXT, b"a\xff"))
    await closed("too big", base + "/echo", lambda ws: ws.send("x" * (64 * 1024 + 1)))
    await refused(base + "/nowhere")


asyncio.run(main(sys.argv[1]))
