"""httpx over httpcore: `python httpx_cases.py CASE UPSTREAM_URL`, prints `ready PID`."""

import asyncio
import os
import sys

import httpx

CASE, URL = sys.argv[1:3]
LIMIT = 100
kept = []


async def ghosts(client):
    """Bursts that are cancelled while they connect and queue (httpcore 1.0.9 keeps slots for those that queued)."""

    async def request():
        return await client.get(f"{URL}/?latency_ms=20")  # HERE: ghosts

    while True:
        tasks = [asyncio.create_task(request()) for _ in range(LIMIT + 2)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        try:
            await client.get(f"{URL}/")
        except httpx.PoolTimeout:
            pass
        await asyncio.sleep(0.9)


async def unread_stream(client):
    """A proxy that opens the answer as a stream and forgets it when the status is an error."""

    async def handler(number):
        status = 500 if number % 5 == 4 else 200
        request = client.build_request("GET", f"{URL}/?status={status}&size_bytes=200000")
        answer = await client.send(request, stream=True)  # HERE: unread_stream
        if status == 500:
            kept.append(answer)
            return
        await answer.aread()
        await answer.aclose()

    number = 0
    while True:
        number += 1
        asyncio.create_task(handler(number))
        await asyncio.sleep(0.1)


async def few_connections(client):
    """Twenty visitors over three connections: a request is often promised one that another has taken meanwhile."""
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=3), timeout=30) as small:

        async def worker():
            while True:
                await small.get(f"{URL}/?latency_ms=60")
                await asyncio.sleep(0.03)

        await asyncio.gather(*(worker() for _ in range(20)))


async def healthy(client):
    """Fifteen requests at a time."""

    async def worker():
        while True:
            await client.get(f"{URL}/?latency_ms=5")

    await asyncio.gather(*(worker() for _ in range(15)))


async def event_streams(client):
    """A stream per client, opened by a task that ends, with an event now and then."""

    async def reader(answer):
        async for _ in answer.aiter_bytes():
            pass

    async def opens():
        url = f"{URL}/?framing=chunked&piece_delay_ms=700&size_bytes=6000000"
        answer = await client.send(client.build_request("GET", url), stream=True)
        kept.append(asyncio.create_task(reader(answer)))

    while True:
        if len(kept) < 40:
            asyncio.create_task(opens())
        await client.get(f"{URL}/")
        await asyncio.sleep(0.6)


async def long_polls(client):
    """Answers that take long, and silence in between."""

    async def worker():
        while True:
            await client.get(f"{URL}/?latency_ms=6000")

    async def others():
        while True:
            await client.get(f"{URL}/?latency_ms=5")
            await asyncio.sleep(0.05)

    await asyncio.gather(*(worker() for _ in range(6)), others())


async def main():
    limits = httpx.Limits(max_connections=LIMIT, max_keepalive_connections=0 if CASE == "ghosts" else LIMIT)
    async with httpx.AsyncClient(limits=limits, timeout=httpx.Timeout(30, pool=1)) as client:
        await client.get(f"{URL}/")
        print("ready", os.getpid(), flush=True)
        await asyncio.wait_for(globals()[CASE](client), 300)


asyncio.run(main())
