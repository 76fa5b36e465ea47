"""redis-py, threads and asyncio: `python redis_cases.py CASE REDIS_URL`, prints `ready PID`."""

import asyncio
import os
import sys
import threading
import time

import redis
import redis.asyncio

CASE, URL = sys.argv[1:3]
kept = []


def leak():
    """Raw connections for a script, not released when it fails."""
    pool = redis.ConnectionPool.from_url(URL)
    client = redis.Redis(connection_pool=pool)

    def script(number):
        connection = pool.get_connection()  # HERE: leak
        connection.send_command("PING")
        connection.read_response()
        if number % 7 == 6:
            kept.append(connection)
            return
        pool.release(connection)

    def worker(number):
        while True:
            number += 1
            script(number)
            client.incr("calls")
            time.sleep(0.15)

    run(worker, 2)


def healthy():
    """Commands from several threads over a blocking pool that is smaller."""
    client = redis.Redis(connection_pool=redis.BlockingConnectionPool.from_url(URL, max_connections=4, timeout=5))

    def worker(number):
        while True:
            client.incr("calls")
            time.sleep(0.003)

    run(worker, 8)


async def async_leak():
    """A subscription per request that is not closed when the request fails."""
    client = redis.asyncio.Redis.from_url(URL, max_connections=200)

    async def handler(number):
        subscription = client.pubsub()
        await subscription.subscribe("news")  # HERE: async_leak
        await client.incr("calls")
        if number % 6 == 5:
            kept.append(subscription)
            return
        await subscription.aclose()

    number = 0
    while True:
        number += 1
        asyncio.create_task(handler(number))
        await asyncio.sleep(0.15)


async def async_subscribers():
    """A subscription per client, for as long as the client stays, and nothing to say."""
    client = redis.asyncio.Redis.from_url(URL, max_connections=200)

    async def subscriber():
        async with client.pubsub() as subscription:
            await subscription.subscribe("news")
            async for _ in subscription.listen():
                pass

    while True:
        if len(kept) < 25:
            kept.append(asyncio.create_task(subscriber()))
        await client.incr("calls")
        await asyncio.sleep(0.6)


def run(worker, count):
    for number in range(count):
        threading.Thread(target=worker, args=(number,), daemon=True).start()


print("ready", os.getpid(), flush=True)
if CASE.startswith("async_"):
    asyncio.run(asyncio.wait_for(globals()[CASE](), 300))
else:
    globals()[CASE]()
    time.sleep(300)
