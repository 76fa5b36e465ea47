"""A service that leaks in some places and not in others; the number of static objects is the argument."""

import asyncio
import collections
import functools
import io
import queue
import sys


class Session:
    def __init__(self, number):
        self.number = number
        self.body = bytearray(2000)


class Cache:
    def __init__(self):
        self.maxsize = 100_000
        self._data = collections.OrderedDict()


class App:
    handlers = []
    received = bytearray()

    def __init__(self):
        self._sessions = {}
        self.cache = Cache()


SESSIONS = {}
BODIES = {}
RECENT = collections.OrderedDict()
RING = collections.deque(maxlen=90_000)
EVENTS = queue.SimpleQueue()
UPLOADS = io.BytesIO()
REPORT = io.StringIO()
HISTORY_OF = {f"customer-{number}": [] for number in range(40)}
STATIC = [[number] for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 0)]


def login(number):
    SESSIONS[f"user-{number}"] = Session(number)


def logout(number):
    del SESSIONS[f"user-{number}"]


def logout_all():
    SESSIONS.clear()


def remember(number):
    RECENT[number] = bytearray(3000)
    if len(RECENT) > 50:
        RECENT.popitem(last=False)


@functools.lru_cache(maxsize=80_000)
def compute(number):
    return (number,)


def make_logger():
    lines = []
    return lambda line: lines.append([line])


log = make_logger()


async def main():
    app = App()
    task = asyncio.create_task(worker())
    number = 0
    print("ready", flush=True)
    while True:
        number += 1
        login(number)
        remember(number)
        compute(number)
        log(number)
        BODIES[str(number)] = b"x" * 100
        RING.append([number])
        EVENTS.put([number])
        UPLOADS.write(b"x" * 2000)
        REPORT.write("x" * 2000)
        App.received += b"x" * 2000
        HISTORY_OF[f"customer-{number % 40}"].append(number)
        App.handlers.append(Session(number))
        app._sessions[number] = Session(number)
        app.cache._data[number] = Session(number)
        await asyncio.sleep(0.002)
    await task


async def worker():
    mine = []
    while True:
        mine.append([len(mine)])
        await asyncio.sleep(0.002)


asyncio.run(main())
