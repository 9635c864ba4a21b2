"""A client that is not ours (python3-websockets), against the server of
deflate_test.go. Prints what was agreed on and how the messages fared, a line for
each offer."""

import asyncio
import json
import sys

import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory as Deflate

OFFERS = {
    "takeover": [Deflate()],
    "no takeover": [Deflate(server_no_context_takeover=True, client_no_context_takeover=True)],
    "client window": [Deflate(client_max_window_bits=10)],
    "server window": [Deflate(server_max_window_bits=10)],
    "off": None,
}


async def run(url, offer):
    async with websockets.connect(url, compression=None, extensions=offer) as ws:
        for i in range(40):
            message = f"{i} " + "Ebbe und Flut, " * [0, 1, 100, 3000][i % 4]
            await ws.send(message)
            text = json.loads(await ws.recv())["text"]
            if text != message:
                return f"message {i}: got {text[:40]}"
        agreed = ws.response_headers.get("Sec-WebSocket-Extensions", "")
        await ws.close(1000)
    return f"[{agreed}] 40 messages, closed {ws.close_code}"


async def main(url):
    for name, offer in OFFERS.items():
        print(f"{name}: {await run(url, offer)}")


asyncio.run(main(sys.argv[1]))
