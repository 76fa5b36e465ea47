r"""A server whose timers keep each closed connection for two hours: bounded by time, linear in any short window.

Truth:
kind = "negative"
classes = ["undetermined", "filling"]
"""

import asyncio

from service import Service


class Protocol:
    def __init__(self, number, size_bytes):
        self.number = number
        self.buffer = bytearray(size_bytes)
        self.timer = None

    def keep_alive(self, loop, seconds):
        self.timer = loop.call_later(seconds, self.expire)

    def expire(self):
        self.buffer = None


async def main():
    service = Service(rate=60, mib_per_min=4)
    loop = asyncio.get_running_loop()
    size_bytes = int(service.bytes_per_request)
    service.ready()
    async for number in service.arrivals():
        service.churn()
        Protocol(number, size_bytes).keep_alive(loop, 7200)


asyncio.run(main())
