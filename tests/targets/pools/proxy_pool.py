"""Watches the reference proxy's pool in this very process, without an agent, and prints what was noted of two requests.

    python proxy_pool.py ROOT

The first is lent the one connection, the second has to wait for it. One line of JSON: events with their innermost frame.
"""

import json
import sys
import time
from pathlib import Path

ROOT = Path(sys.argv[1])
sys.path.insert(0, str(ROOT))

from perfkit.probe.pools import Recorder  # noqa: E402
from perfkit.proxy.pool import Pool, PoolSettings  # noqa: E402


class Agent:
    def emit(self, row):
        pass

    def spawn(self, steps):
        pass


class Timer:
    def cancel(self):
        pass

    def when(self):
        return 0.0


class Link:
    def is_usable(self):
        return True

    def close(self):
        pass


class Exchange:
    client = None


def connect(connection):
    connection.link = Link()


def sources(folder):
    files = (ROOT / "perfkit" / "probe" / folder).glob("*.py")
    return {file.stem: file.read_text() for file in files if file.stem != "__init__"}


def first(pool, lent):
    pool.acquire(lambda connection, error: lent.append(connection), exchanges[0])  # HERE: first


def second(pool, lent):
    pool.acquire(lambda connection, error: lent.append(connection), exchanges[1])  # HERE: second


pool = Pool("app", PoolSettings(maximum_size=1), connect, clock=time.monotonic, call_later=lambda *_args: Timer())
exchanges, lent = [Exchange(), Exchange()], []
pool.acquire(lambda connection, error: lent.append(connection))
[only] = pool.connections.values()
pool.connected(only)
pool.release(lent.pop())

recorder = Recorder(Agent())
by = recorder.start(sources("pool_parts"), {"perfkit_proxy": sources("pool_adapters")["perfkit_proxy"]})["by"]
book = recorder._book
first(pool, lent)
second(pool, lent)
pool.release(lent.pop())
pool.release(lent.pop())
stacks = {number: book.described(key) for number, key in book.new_stacks}
rows = []
from perfkit.probe.pool_parts.book import EVENT, EVENTS  # noqa: E402

for packed in book.events:
    _at, kind, _pool, slot, waited, _held, holder, stack, _active = EVENT.unpack(packed)
    flat = stacks.get(stack, [])
    rows.append({"event": EVENTS[kind], "slot": slot, "waited": waited, "holder": holder, "frame": flat[-3:]})
recorder.stop()
print(json.dumps({"by": by, "events": rows, "error": book.first_error}))
