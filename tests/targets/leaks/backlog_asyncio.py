r"""A pipeline whose consumer is slower than its producer, with a queue without a bound between them.

Truth:
classes = ["backlog"]
holder = '_queue\b|Queue'
type = '(Message|bytearray)$'
"""

import asyncio

from service import Service


class Message:
    __slots__ = ("number", "body", "attempts")

    def __init__(self, number, size_bytes):
        self.number = number
        self.body = bytearray(size_bytes)  # truth: allocates
        self.attempts = 0


async def produce(service, queue, size_bytes):
    service.ready()
    async for number in service.arrivals():
        service.churn()
        queue.put_nowait(Message(number, size_bytes))  # truth: allocates inserts
        service.leaked(size_bytes)


async def consume(service, queue, share):
    while True:
        message = await queue.get()
        message.attempts += 1
        service.leaked(-len(message.body), units=-1)
        await asyncio.sleep(1 / (service.options.rate * share))


async def main():
    service = Service(rate=100)
    size_bytes = int(service.bytes_per_request / 0.4)
    queue = asyncio.Queue()
    for number in service.measured(size_bytes, units=200):
        queue.put_nowait(Message(-number, size_bytes))
        service.leaked(size_bytes)
    consumer = asyncio.create_task(consume(service, queue, 0.6))
    await produce(service, queue, size_bytes)
    await consumer


asyncio.run(main())
