r"""A notifier that remembers each task it starts, so that none is collected early, and forgets to forget them.

Truth:
classes = ["python_leak"]
holder = '\.tasks\b'
type = 'Task$|bytes$'
"""

import asyncio

from service import Service


class Notifier:
    def __init__(self, service):
        self.service = service
        self.tasks = set()
        self.known = {}

    async def render(self, size_bytes):
        await asyncio.sleep(0.001)
        return bytes(size_bytes)  # truth: allocates

    async def look_up(self, number):
        await asyncio.sleep(0.003)
        return {"user": number, "mail": f"user-{number}@shop.test"}

    def notify(self, number):
        task = asyncio.create_task(self.render(4000), name=f"notify-{number}")  # truth: allocates
        self.tasks.add(task)  # truth: inserts allocates
        self.service.leaked(4000)
        return task


async def main():
    service = Service(rate=100)
    notifier = Notifier(service)
    for number in service.measured(5000):
        await notifier.notify(number)
    service.ready()
    lookups = set()
    async for number in service.arrivals():
        service.churn()
        lookup = asyncio.create_task(notifier.look_up(number))
        lookups.add(lookup)
        lookup.add_done_callback(lookups.discard)
        if service.due(5000):
            notifier.notify(number)


asyncio.run(main())
