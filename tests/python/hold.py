"""A durable mediation.v1 client that acknowledges its first two events and holds the rest until it is killed."""

import asyncio
import json
import os

from websockets.asyncio.client import connect


async def main():
    url = f"ws://{os.environ['WS']}/"
    async with connect(url, subprotocols=["mediation.v1"], additional_headers={"X-Client-ID": "python"}) as ws:
        assert ws.subprotocol == "mediation.v1", ws.subprotocol
        count = 0
        async for text in ws:
            frame = json.loads(text)
            if frame["type"] == "session":
                print("subscribed")
            if frame["type"] == "event":
                count += 1
                print("got", frame["payload"])
                if int(frame["payload"]) < 2:
                    await ws.send(json.dumps({"type": "ack", "ids": [frame["id"]]}))
                print("holding", count)


asyncio.run(main())
