"""asyncpg: `python asyncpg_cases.py CASE DATABASE_URL`, prints `ready PID`."""

import asyncio
import os
import sys

import asyncpg

CASE, URL = sys.argv[1:3]
kept = []


async def work(pool, number):
    connection = await pool.acquire()  # HERE: leak_on_error
    try:
        await connection.fetchval("select $1::int", number)
        if number % 6 == 5:
            raise ValueError(number)
    except ValueError:
        kept.append(connection)
        return
    await pool.release(connection)


async def leak_on_error(pool):
    """Each request is a task; the sixth forgets its connection."""
    number = 0
    while True:
        number += 1
        asyncio.create_task(work(pool, number))
        await asyncio.sleep(0.15)


async def leak_in_a_worker(pool):
    """One task for ever, whose jobs sometimes fail."""
    number = 0
    while True:
        number += 1
        await work(pool, number)
        await asyncio.sleep(0.15)


async def busy(pool):
    """Twice as many workers as connections, short uses: full and healthy."""

    async def worker():
        while True:
            async with pool.acquire() as connection:
                await connection.fetchval("select pg_sleep(0.004)")

    await asyncio.gather(*(worker() for _ in range(8)))


async def subscribers(pool):
    """A connection per client for as long as it stays, with nothing to say."""
    waits = asyncio.Event()

    async def subscriber(number):
        async with pool.acquire() as connection:
            await connection.add_listener("news", print)
            await waits.wait()

    clients = []
    while len(clients) < 12:
        clients.append(asyncio.create_task(subscriber(len(clients))))
        async with pool.acquire() as connection:
            await connection.fetchval("select 1")
        await asyncio.sleep(0.9)
    await waits.wait()


async def slow_queries(pool):
    """Short uses, and some of five seconds at the same line."""

    async def request(number):
        async with pool.acquire() as connection:
            await connection.fetchval(f"select pg_sleep({4 if number % 20 == 0 else 0.01})")

    number = 0
    while True:
        number += 1
        asyncio.create_task(request(number))
        await asyncio.sleep(0.1)


async def nested(pool):
    """Each request takes a second connection while it has one: as many requests as connections wait in vain."""

    async def request():
        async with pool.acquire() as outer:
            await outer.fetchval("select pg_sleep(0.05)")
            try:
                async with pool.acquire(timeout=2) as inner:  # HERE: nested
                    await inner.fetchval("select 1")
            except TimeoutError:
                pass

    while True:
        await asyncio.gather(*(request() for _ in range(pool.get_max_size())))
        await asyncio.sleep(0.3)


async def unbounded(pool):
    """Somebody keeps all connections for long; the others wait without a deadline."""

    async def keeper():
        while True:
            async with pool.acquire() as connection:
                await connection.fetchval("select pg_sleep(8)")

    async def request():
        async with pool.acquire() as connection:  # HERE: unbounded
            await connection.fetchval("select 1")

    keepers = [asyncio.create_task(keeper()) for _ in range(pool.get_max_size())]
    await asyncio.sleep(0.3)
    while True:
        keepers.append(asyncio.create_task(request()))
        await asyncio.sleep(0.5)


async def handed_over(pool):
    """A request takes a connection and leaves it to another task, which uses it and gives it back."""

    async def finishes(connection):
        for _ in range(20):
            await connection.fetchval("select pg_sleep(0.2)")
        await pool.release(connection)

    async def request():
        connection = await pool.acquire()
        kept.append(asyncio.create_task(finishes(connection)))

    while True:
        asyncio.create_task(request())
        await asyncio.sleep(0.8)


async def impatient(pool):
    """Requests that give up waiting, each after a deadline of its own."""

    async def request():
        try:
            async with asyncio.timeout(0.05):
                async with pool.acquire() as connection:
                    await connection.fetchval("select pg_sleep(0.03)")
        except TimeoutError:
            pass

    while True:
        asyncio.create_task(request())
        await asyncio.sleep(0.02)


async def main():
    sizes = {"busy": 4, "nested": 4, "unbounded": 2, "impatient": 4}
    pool = await asyncpg.create_pool(URL, min_size=2, max_size=sizes.get(CASE, 40))
    print("ready", os.getpid(), flush=True)
    await asyncio.wait_for(globals()[CASE](pool), 300)


asyncio.run(main())
