r"""A server whose requests each wait for themselves or for the shutdown, whichever comes first.

The future of the shutdown lives as long as the process, and keeps what waits for it in a set of its own.

Truth:
classes = ["python_leak"]
holder = '\.awaited_by\b'
type = 'Task$|bytearray$'
"""

import asyncio

from service import Service


class Shutdown:
    def __init__(self):
        self.future = asyncio.get_running_loop().create_future()
        self.awaited_by = set()

    async def or_else(self, task):
        self.awaited_by.add(task)  # truth: inserts
        done, _ = await asyncio.wait({task, self.future}, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()


async def answer(size_bytes):
    await asyncio.sleep(0.001)
    return bytearray(size_bytes)  # truth: allocates


async def poll(service, shutdown):
    task = asyncio.create_task(answer(3000))  # truth: allocates
    await shutdown.or_else(task)  # truth: inserts allocates
    service.leaked(3000)


async def main():
    service = Service(rate=100)
    shutdown = Shutdown()
    for _ in service.measured(3700, units=128):
        await poll(service, shutdown)
    service.ready()
    polls = set()
    async for _ in service.arrivals():
        service.churn()
        await answer(500)
        if service.due(3700):
            poll_ = asyncio.create_task(poll(service, shutdown))
            polls.add(poll_)
            poll_.add_done_callback(polls.discard)


asyncio.run(main())
