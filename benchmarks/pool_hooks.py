"""What the hooks of connection pools add to one acquisition and return, library by library, and to the proxy.

    python benchmarks/pool_hooks.py [--rounds N] [--window S] [--pairs] [--out FILE]

Pairs: CPU time in microseconds, in this process. Connections lead nowhere: only the pool's own work is left,
which is the least that the hooks can be compared with. Each round measures without and with the hooks; what is
shown is the median of the differences.

Proxy: the reference proxy, attached to by its process id, saturated by 32 connections and at an ordinary rate, in
pairs of windows with and without the collector `pool_events`; ratios and the added p99.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import collector_overhead  # noqa: E402
from perfkit.collectors.pool_events import _sources  # noqa: E402
from perfkit.lab import lab  # noqa: E402
from perfkit.probe.pools import Recorder  # noqa: E402
from perfkit.scenarios import load as load_scenario  # noqa: E402

_PAIRS = 4000


class Nobody:
    """Stands for the agent: keeps nothing, runs nothing."""

    def emit(self, _row: Any) -> None:
        """Take a row."""

    def spawn(self, _steps: Any) -> None:
        """Do not run it: what the agent's thread does is not what a pair costs."""


class Exchange:
    """Stands for a request of the proxy."""

    client = None


def proxy_pairs() -> Callable[[], None]:
    """Return what takes and returns connections of the reference proxy's pool."""
    from perfkit.proxy.pool import Pool, PoolSettings

    class Timer:
        def cancel(self) -> None:
            pass

        def when(self) -> float:
            return 0.0

    class Link:
        def is_usable(self) -> bool:
            return True

        def close(self) -> None:
            pass

    def connect(connection: Any) -> None:
        connection.link = Link()

    pool = Pool("upstream", PoolSettings(), connect, clock=time.monotonic, call_later=lambda *_args: Timer())
    held: list[Any] = []
    pool.acquire(lambda connection, _error: held.append(connection))
    [connecting] = pool.connections.values()
    pool.connected(connecting)
    pool.release(held.pop())
    exchange: Any = Exchange()

    def receiver(connection: Any, _error: Any) -> None:
        pool.release(connection)

    def pairs() -> None:
        for _ in range(_PAIRS):
            pool.acquire(receiver, exchange)

    async def in_loop() -> None:
        pairs()

    return lambda: asyncio.run(in_loop())


def sqlalchemy_pairs() -> Callable[[], None]:
    """Return what takes and returns connections of SQLAlchemy over SQLite."""
    import sqlalchemy.pool

    engine: Any = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.pool.QueuePool)

    def pairs() -> None:
        for _ in range(_PAIRS):
            engine.raw_connection().close()

    return pairs


def urllib3_pairs() -> Callable[[], None]:
    """Return what takes and returns connections of urllib3 that are never used."""
    import urllib3.connectionpool

    pool: Any = urllib3.connectionpool.HTTPConnectionPool("localhost")

    def pairs() -> None:
        for _ in range(_PAIRS):
            pool._put_conn(pool._get_conn())

    return pairs


def redis_pairs() -> Callable[[], None]:
    """Return what takes and returns connections of redis-py that lead nowhere."""
    import redis.connection

    class Connection(redis.connection.Connection):  # type: ignore[misc, unused-ignore]
        def connect(self) -> None:
            pass

        def can_read(self, timeout: float = 0) -> bool:
            return False

    pool: Any = redis.connection.ConnectionPool(connection_class=Connection)

    def pairs() -> None:
        for _ in range(_PAIRS):
            pool.release(pool.get_connection())

    return pairs


def httpcore_pairs() -> Callable[[], None]:
    """Return what sends requests through httpcore's asynchronous pool to answers made up beforehand."""
    import httpcore

    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    number = _PAIRS // 8

    async def requests() -> None:
        made_up = httpcore.AsyncMockBackend([answer] * (number + 1))
        async with httpcore.AsyncConnectionPool(network_backend=made_up) as pool:
            for _ in range(number):
                await pool.request("GET", "http://localhost/")

    return lambda: asyncio.run(requests())


LIBRARIES: dict[str, tuple[Callable[[], Callable[[], None]], int]] = {
    "perfkit_proxy": (proxy_pairs, _PAIRS),
    "sqlalchemy": (sqlalchemy_pairs, _PAIRS),
    "urllib3": (urllib3_pairs, _PAIRS),
    "redis": (redis_pairs, _PAIRS),
    "httpcore": (httpcore_pairs, _PAIRS // 8),
}


def pair_us(library: str, rounds: int) -> dict[str, float]:
    """Return the CPU time of a pair without and with the hooks of a library, in microseconds."""
    make, number = LIBRARIES[library]
    pairs = make()
    pairs()

    def measure() -> float:
        began_ns = time.thread_time_ns()
        pairs()
        return (time.thread_time_ns() - began_ns) / 1e3 / number

    without, with_it = [], []
    sources, adapters = _sources("pool_parts"), _sources("pool_adapters")
    for _ in range(rounds):
        without.append(measure())
        recorder = Recorder(Nobody())
        recorder.start(sources, {library: adapters[library]})
        try:
            with_it.append(measure())
            lost, errors = recorder._book.lost, recorder._book.first_error
        finally:
            recorder.stop()
        if lost or errors:
            raise SystemExit(f"{library}: {lost} events were lost, {errors}")
    added = statistics.median(b - a for a, b in zip(without, with_it, strict=True))
    return {"without_us": statistics.median(without), "with_us": statistics.median(with_it), "added_us": added}


def table(rounds: int) -> dict[str, dict[str, float]]:
    """Return what a pair costs, by library; those that are not installed are left out."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = pair_us(library, rounds)
        except ModuleNotFoundError:
            continue
        each = found[library]
        print(f"{library:14} {each['without_us']:7.2f} us alone, +{each['added_us']:.2f} us watched", flush=True)
    return found


def proxy_ratios(rounds: int, window_s: float) -> dict[str, float]:
    """Return what the proxy does with the hooks divided by what it does without, saturated and at a fixed rate."""
    sets = {"pool_events": ("pool_events",)}
    plain = load_scenario("healthy")
    scenario = replace(
        plain,
        upstream={**plain.upstream, "latency_ms": 0, "jitter_ms": 0},
        load=replace(plain.load, rate_per_s=collector_overhead.RATE_PER_S),
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        lab(scenario, Path(folder)) as running,
        collector_overhead.attached(running.proxy_pid) as recording,
    ):
        settle_s = collector_overhead.SETTLE_S
        closed = collector_overhead.at_saturation(running, recording, sets, rounds, window_s, settle_s)["pool_events"]
        opened = collector_overhead.in_open_loop(running, recording, sets, rounds, window_s, Path(folder) / "rows")[
            "pool_events"
        ]
    return {
        "throughput_ratio": statistics.median(on["per_s"] / off["per_s"] for on, off in closed),
        "cpu_per_request_ratio": statistics.median(
            on["cpu_per_request_ns"] / off["cpu_per_request_ns"] for on, off in closed
        ),
        "ordinary_completed_ratio": statistics.median(on["requests"] / off["requests"] for on, off in opened),
        "ordinary_added_p99_ms": statistics.median(on["p99_ms"] - off["p99_ms"] for on, off in opened),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--window", type=float, default=3.0, help="whole seconds per window at the proxy")
    parser.add_argument("--pairs", action="store_true", help="leave the proxy out")
    options = parser.parse_args()
    found: dict[str, Any] = {"pairs": table(options.rounds)}
    if not options.pairs:
        found["proxy"] = ratios = proxy_ratios(options.rounds, options.window)
        print(f"proxy, saturated, watched / not: throughput {ratios['throughput_ratio']:.3f}, "
              f"CPU per request {ratios['cpu_per_request_ratio']:.3f}")  # fmt: skip
        print(f"proxy at {collector_overhead.RATE_PER_S:.0f} requests/s: {ratios['ordinary_completed_ratio']:.3f} of "
              f"the requests, p99 {ratios['ordinary_added_p99_ms']:+.2f} ms")  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps(found, indent=1), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
