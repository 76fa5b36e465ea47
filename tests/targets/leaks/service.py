"""What the programs of this folder share: options, load, a static heap, decoys, the ready handshake, the truth.

Standard library only, Python 3.10 and later. A program makes one `Service`, fills what a service
of its kind has in memory at start-up, measures what one leaked unit takes, calls `ready`, and
works off the load. The load is inside: requests arrive at random times (Poisson) at `--rate` per
second in the chosen `--shape`, and each one owes `--mib-per-min` its share, so that memory grows
by that much on average. What was really leaked is counted and written to `--truth FILE`, one JSON
line per second with the time of CLOCK_MONOTONIC.
"""

import argparse
import asyncio
import gc
import json
import math
import os
import random
import signal
import threading
import time
import tracemalloc
from collections import OrderedDict

MIB = 1 << 20
PERIOD_S = 40.0
"""Length of a day of the diurnal shape: at least one fits into a recording."""


class Product:
    """One entry of the catalogue that every service loads at start-up."""

    def __init__(self, number):
        self.sku = f"sku-{number:06d}"
        self.price_cents = 100 + number * 7 % 9900
        self.tags = [f"tag-{number % 50}", f"shelf-{number % 311}"]
        self.stock = {"main": [number % 17, 3], "spare": number % 5}


class BoundedCache:
    """A least-recently-used cache that is full when the service is ready, so that it only turns over."""

    def __init__(self, max_entries):
        self.max_entries = max_entries
        self.entries = OrderedDict()

    def get(self, key, make):
        if key in self.entries:
            self.entries.move_to_end(key)
            return self.entries[key]
        self.entries[key] = value = make(key)
        if len(self.entries) > self.max_entries:
            self.entries.popitem(last=False)
        return value


class Request:
    """A request of the small HTTP server below."""

    def __init__(self, method, path, headers, body):
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body


class Service:
    """The options, the load and the books of one program."""

    def __init__(self, rate=100.0, mib_per_min=6.0, objects=200_000):
        self.options = options = parse(rate, mib_per_min, objects)
        self.random = random.Random(options.seed)
        self.bytes_per_request = options.mib_per_min * MIB / 60 / options.rate
        self.requests_total = 0
        self._owed_bytes = 0.0
        self._units = 0
        self._payload_bytes = 0
        self._unit_bytes = 0.0
        self._books = threading.Lock()
        self.catalogue = {}
        for number in range(options.objects // 4):
            product = Product(number)
            self.catalogue[product.sku] = product
        self.pages = BoundedCache(1000)
        for number in range(1200):
            self.pages.get(number, self._page)
        self._recent = [self._page(number) for number in range(300)]
        self._slot = 0

    # -- decoys ------------------------------------------------------------------------------

    def _page(self, key):
        return {"key": key, "body": self.random.randbytes(self.random.randrange(200, 2000)), "hits": [key]}

    def churn(self, make=None):
        """Do what a request does that leaves nothing behind; `make()` lives as long as 300 requests take."""
        page = self.pages.get(int(self.random.paretovariate(1.0)) % 5000, self._page)
        text = json.dumps({"key": page["key"], "size": len(page["body"]), "tags": ["a", "b"]})
        self._recent[self._slot] = make() if make is not None else json.loads(text)
        self._slot = (self._slot + 1) % len(self._recent)
        sku = f"sku-{self.random.randrange(len(self.catalogue) or 1):06d}"
        return self.catalogue.get(sku), bytearray(len(page["body"]))

    # -- the books ---------------------------------------------------------------------------

    def due(self, size_bytes):
        """Whether the load owes the leak another unit of this size; it is paid then."""
        with self._books:
            if self._owed_bytes < size_bytes:
                return False
            self._owed_bytes -= size_bytes
            return True

    def leaked(self, payload_bytes=0, units=1):
        """Enter that units were leaked, with a payload of so many bytes in all."""
        with self._books:
            self._units += units
            self._payload_bytes += payload_bytes

    def measured(self, size_bytes, units=256):
        """Yield some times with one unit due; afterwards it is known what a unit takes beyond its payload.

        The rounds leak like all others do, and are in the books.
        """
        gc.collect()
        tracemalloc.start()
        before, units_before, payload_before = tracemalloc.get_traced_memory()[0], self._units, self._payload_bytes
        for number in range(units):
            self._owed_bytes = size_bytes
            yield number
        self._owed_bytes = 0.0
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before - (self._payload_bytes - payload_before)
        tracemalloc.stop()
        self._unit_bytes = max(grown / max(self._units - units_before, 1), 0.0)

    def reading(self):
        """Return what the books say now."""
        with self._books:
            size_bytes = self._payload_bytes + self._units * self._unit_bytes
            return {
                "monotonic_ns": time.monotonic_ns(),
                "units": self._units,
                "size_bytes": round(size_bytes),
                "requests": self.requests_total,
            }

    # -- the load ----------------------------------------------------------------------------

    def level(self, at_s):
        """Return the load at a time, where 1 is the mean."""
        if self.options.shape == "diurnal":
            return 1 + 0.8 * math.sin(2 * math.pi * at_s / PERIOD_S)
        if self.options.shape == "bursty":
            return 2.8 if at_s % 15 < 5 else 0.1
        return 1.0

    def _delays(self):
        """Yield the time until the next request, seconds; 0 when it is overdue."""
        began = due = time.monotonic()
        while True:
            due += self.random.expovariate(self.options.rate * self.level(due - began))
            delay = due - time.monotonic()
            if delay < -1.0:  # overloaded: what is a second late is never sent
                due -= delay
            yield max(delay, 0.0)
            with self._books:
                self.requests_total += 1
                self._owed_bytes += self.bytes_per_request

    def requests(self):
        """Yield the number of each request when it arrives."""
        for number, delay in enumerate(self._delays()):
            time.sleep(delay)
            yield number

    async def arrivals(self):
        """Yield the number of each request when it arrives, in an event loop."""
        for number, delay in enumerate(self._delays()):
            await asyncio.sleep(delay)
            yield number

    async def serve_http(self, handle, make_request, clients=8):
        """Serve HTTP on the loopback interface, with clients of its own that keep their connections.

        `await handle(request)` returns the body of the answer; `make_request(number)` returns
        (method, path, headers, body).
        """

        async def session(reader, writer):
            try:
                while head := await reader.readuntil(b"\r\n\r\n"):
                    first, *lines = head.decode("latin-1").split("\r\n")
                    method, path, _ = first.split(" ")
                    headers = dict(line.lower().split(": ", 1) for line in lines if line)
                    body = await reader.readexactly(int(headers.get("content-length", 0)))
                    answer = await handle(Request(method, path, headers, body))
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer)
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(session, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        waiting = asyncio.Queue(maxsize=1000)

        async def client():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while True:
                method, path, headers, body = make_request(await waiting.get())
                lines = [f"{method} {path} HTTP/1.1", "host: shop.test", f"content-length: {len(body)}"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))

        running = [asyncio.create_task(client()) for _ in range(clients)]
        self.ready()
        async for number in self.arrivals():
            await waiting.put(number)
        return server, running

    # -- the handshake -----------------------------------------------------------------------

    def ready(self, pid=None):
        """Say that the service is up, and which process to look at; begin to write the truth."""
        signal.alarm(self.options.lifetime_s)  # nothing stays behind when the starter is gone
        if self.options.truth:
            threading.Thread(target=self._write_truth, args=(self.options.truth,), name="books", daemon=True).start()
        if self.options.peer:
            threading.Thread(target=self._ask_peer, name="peer", daemon=True).start()
        print("ready", pid or os.getpid(), flush=True)

    def _write_truth(self, file):
        with open(file, "w", buffering=1) as books:
            while True:
                books.write(json.dumps(self.reading()) + "\n")
                time.sleep(1.0)

    def _ask_peer(self):
        """Write what another tool says of the growth within a window, as its users would ask it."""
        options = self.options
        if options.peer == "objgraph":
            import objgraph

            time.sleep(options.peer_after_s)
            objgraph.growth(limit=10)
            time.sleep(options.peer_window_s)
            answer = [[name, count, delta] for name, count, delta in objgraph.growth(limit=10)]
        else:
            tracemalloc.start()
            time.sleep(options.peer_after_s)
            before = tracemalloc.take_snapshot()
            time.sleep(options.peer_window_s)
            after = tracemalloc.take_snapshot()
            tracemalloc.stop()
            lines = after.compare_to(before, "lineno")[:10]
            answer = [[d.traceback[0].filename, d.traceback[0].lineno, d.size_diff] for d in lines]
        with open(options.peer_out + ".part", "w") as out:
            json.dump(answer, out)
        os.replace(options.peer_out + ".part", options.peer_out)


def parse(rate, mib_per_min, objects):
    """Return the options that all programs have, with the program's defaults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=rate, help="requests per second, on average")
    parser.add_argument("--mib-per-min", type=float, default=mib_per_min, help="how fast it leaks, on average")
    parser.add_argument("--shape", choices=("steady", "diurnal", "bursty"), default="steady")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--objects", type=int, default=objects, help="size of the static heap")
    parser.add_argument("--truth", help="file to write what was leaked to, one JSON line per second")
    parser.add_argument("--lifetime-s", type=int, default=1800)
    parser.add_argument("--peer", choices=("objgraph", "tracemalloc"), help="ask this tool, too")
    parser.add_argument("--peer-after-s", type=float, default=5.0)
    parser.add_argument("--peer-window-s", type=float, default=20.0)
    parser.add_argument("--peer-out", help="file for its answer")
    return parser.parse_args()
