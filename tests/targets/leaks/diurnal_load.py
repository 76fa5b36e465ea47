r"""A service that holds memory for each request in flight, while the load goes up and down.

Truth:
kind = "negative"
classes = ["load_proportional", "none"]
"""

import asyncio
import math
import time

from service import PERIOD_S, Service


async def handle(service, live, number):
    live[number] = bytearray(60_000)
    service.churn()
    await asyncio.sleep(2.0)
    del live[number]


async def main():
    service = Service(rate=40)
    live, began = {}, time.monotonic()
    running = set()
    service.ready()
    async for number in service.arrivals():
        day = 1 + math.sin(2 * math.pi * (time.monotonic() - began) / PERIOD_S)
        if service.random.random() < day / 2:
            task = asyncio.create_task(handle(service, live, number))
            running.add(task)
            task.add_done_callback(running.discard)


asyncio.run(main())
