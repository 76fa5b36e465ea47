"""aiohttp's client: `python aiohttp_cases.py CASE UPSTREAM_URL`, prints `ready PID`."""

import asyncio
import os
import sys

import aiohttp

CASE, URL = sys.argv[1:3]
kept = []


async def unread(session):
    """Answers that are kept unread when they are errors."""

    async def handler(number):
        status = 500 if number % 5 == 4 else 200
        size = 20_000_000 if status == 500 else 1000
        answer = await session.get(f"{URL}/?status={status}&size_bytes={size}")  # HERE: unread
        if answer.status == 500:
            kept.append(answer)
            return
        await answer.read()

    number = 0
    while True:
        number += 1
        asyncio.create_task(handler(number))
        await asyncio.sleep(0.1)


async def forgotten(session):
    """Answers that nobody reads, closes or keeps."""

    async def handler(number):
        size = 1000 if number % 3 else 20_000_000
        answer = await session.get(f"{URL}/?size_bytes={size}")  # HERE: forgotten
        if number % 3:
            await answer.read()

    number = 0
    while True:
        number += 1
        asyncio.create_task(handler(number))
        await asyncio.sleep(0.2)


async def healthy(session):
    """More requests at a time than the limit, each short."""

    async def worker():
        while True:
            async with session.get(f"{URL}/?latency_ms=4") as answer:
                await answer.read()

    await asyncio.gather(*(worker() for _ in range(12)))


async def main():
    connector = aiohttp.TCPConnector(limit=8 if CASE == "healthy" else 100)
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get(URL) as answer:
            await answer.read()
        print("ready", os.getpid(), flush=True)
        await asyncio.wait_for(globals()[CASE](session), 300)


asyncio.run(main())
