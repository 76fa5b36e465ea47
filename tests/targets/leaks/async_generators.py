r"""A streaming service that remembers each stream in flight; a client that goes away leaves its generator suspended.

Truth:
classes = ["python_leak"]
holder = '\.in_flight\b'
type = '(async_generator|Stream|bytearray)$'
"""

import asyncio

from service import Service


class Streams:
    def __init__(self, service):
        self.service = service
        self.in_flight = {}

    async def chunks(self, number):
        buffer = bytearray(3500)  # truth: allocates
        try:
            for part in range(4):
                buffer[:2] = b"ok"
                yield bytes(buffer[: part + 1])
                await asyncio.sleep(0)
        finally:
            self.in_flight.pop(number, None)

    async def answer(self, number, goes_away):
        stream = self.chunks(number)  # truth: allocates
        self.in_flight[number] = stream  # truth: inserts allocates
        sent = 0
        async for part in stream:  # truth: allocates
            sent += len(part)
            if goes_away:
                self.service.leaked(3500)
                return sent
        return sent


async def main():
    service = Service(rate=100)
    streams = Streams(service)
    for number in service.measured(4300):
        await streams.answer(-number, goes_away=True)
    service.ready()
    async for number in service.arrivals():
        service.churn()
        await streams.answer(number, goes_away=service.due(4300))


asyncio.run(main())
