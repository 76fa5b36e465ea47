r"""A websocket hub: clients arrive for half a minute, each with a compressor of its own, then they stay.

Truth:
kind = "negative"
classes = ["load_proportional", "none", "filling", "undetermined"]
"""

import asyncio
import zlib

from service import Service


class Hub:
    def __init__(self):
        self.connected = {}

    async def connection(self, number, lines):
        self.connected[number] = deflate = zlib.compressobj(wbits=-12, memLevel=5)
        try:
            while line := await lines.get():
                deflate.compress(line)
        finally:
            del self.connected[number]


async def main():
    service = Service(rate=60)
    hub, clients = Hub(), []
    service.ready()
    async for number in service.arrivals():
        service.churn()
        if len(clients) < 350 and number % 6 == 0:
            lines = asyncio.Queue(maxsize=10)
            clients.append((asyncio.create_task(hub.connection(number, lines)), lines))
        elif clients:
            await service.random.choice(clients)[1].put(b"tick" * 20)


asyncio.run(main())
