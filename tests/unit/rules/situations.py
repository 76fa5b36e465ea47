"""Recordings of a busy service in numbers: noise, requests in flight, the tracer's own memory, and one situation.

Built from individual random events and then binned like the collectors do, so that what the
rules see has the irregularities of the real thing: Poisson arrivals, full caches whose content
is older than the recording, memory that the tracer itself takes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from perfkit.profile import Profile
from tests.builders import MAIN, SECOND_NS, Row, Stack, make_profile

REMEMBER: Stack = (*MAIN, ("remember", "/srv/app/sessions.py", 31))
READ: Stack = (*MAIN, ("read", "/usr/lib/python3.11/asyncio/streams.py", 713))
PUT: Stack = (*MAIN, ("put", "/srv/app/cache.py", 17))
NATIVE: Stack = (*MAIN, ("compress", "/srv/app/codec.py", 90))


@dataclass
class Service:
    """A service at `rate_per_s` requests per second, recorded for `seconds` with `rungs` censuses."""

    seed: int = 1
    seconds: float = 40.0
    rungs: int = 10
    rate_per_s: float = 200.0
    interval_s: float = 0.5
    tracer: bool = True
    heap: list[Row] = field(default_factory=list)
    anon: list[Callable[[float], float]] = field(default_factory=list)
    traced: list[Callable[[float], float]] = field(default_factory=list)
    types: dict[str, tuple[Callable[[float], float], int]] = field(default_factory=dict)
    containers: dict[tuple[str, str, str], tuple[Callable[[float], float], int | None]] = field(default_factory=dict)
    process: dict[str, Callable[[float], float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.arrivals_s = np.cumsum(self.random.exponential(1 / self.rate_per_s, int(self.rate_per_s * self.seconds)))
        self.arrivals_s = self.arrivals_s[self.arrivals_s < self.seconds]
        self._requests_in_flight()

    def arrived(self, at_s: float) -> float:
        """Return how many requests have arrived."""
        return float(np.searchsorted(self.arrivals_s, at_s))

    def allocate(self, stack: Stack, born_s: Iterable[float], lives_s: Iterable[float], size_bytes: int) -> None:
        """Trace allocations; `lives_s` may be infinite."""
        end = np.ceil(np.asarray(born_s) / self.interval_s) * self.interval_s
        died = np.ceil((np.asarray(born_s) + np.asarray(lives_s)) / self.interval_s) * self.interval_s
        died[died > self.seconds] = np.inf
        for (at, gone), count in zip(*np.unique(np.column_stack([end, died]), axis=0, return_counts=True), strict=True):
            if at <= self.seconds:
                freed = None if np.isinf(gone) else int(gone * SECOND_NS)
                self.heap.append(
                    {
                        "stack": stack,
                        "allocated_ns": int(at * SECOND_NS),
                        "freed_ns": freed,
                        "allocations": int(count),
                        "size_bytes": int(count) * size_bytes,
                    }
                )
        order = np.sort(born_s)
        gone = np.sort(np.asarray(born_s) + np.asarray(lives_s))

        def live(at_s: float) -> float:
            return float(size_bytes * (np.searchsorted(order, at_s) - np.searchsorted(gone, at_s)))

        self.traced.append(live)

    def _requests_in_flight(self) -> None:
        """Buffers and objects of requests: 20 ms on average, now and then a second."""
        n = len(self.arrivals_s)
        lives = self.random.exponential(0.02, n) + (self.random.random(n) < 0.01) * self.random.exponential(1.0, n)
        self.allocate(READ, self.arrivals_s, lives, 8192)
        self.anon.append(self.traced[-1])
        for type_, mean, size in (("builtins.tuple", 9000, 56), ("_asyncio.Task", 20, 200), ("app.Request", 8, 120)):
            self.types[type_] = (lambda _, m=mean: m + self.random.poisson(0.02 * m + 4), size)
        for number in range(30):
            mean = 10 * (number + 1)
            self.containers["dict", f"module app.m{number} > STATE", "str"] = (
                lambda _, m=mean: m + self.random.poisson(m / 10) * (m % 3),
                None,
            )

    def record(self, path: Path, **more: Any) -> Profile:
        """Return the profile."""
        rung_s = np.linspace(0.8, self.seconds - 0.5, self.rungs)
        ledger_s = np.arange(1.0, self.seconds, 1.0)
        noise = self.random.normal(0, 60_000, len(ledger_s))
        own = (lambda t: 3e6 * (1 - np.exp(-t / 6)) + 20_000 * t) if self.tracer else (lambda t: 0.0)
        anon = [60e6 + sum(f(t) for f in self.anon) + own(t) + e for t, e in zip(ledger_s, noise, strict=True)]
        usage_s = np.arange(0.0, self.seconds, 0.1)
        rows: dict[str, Iterable[Row]] = {
            "ledger": [
                {
                    "at_ns": int(t * SECOND_NS),
                    "rss_bytes": int(a + 20e6),
                    "anon_bytes": int(a) // 4096 * 4096,
                    "file_bytes": 20_000_000,
                    "shmem_bytes": 0,
                }
                for t, a in zip(ledger_s, anon, strict=True)
            ],
            "census": [
                {"at_ns": int(t * SECOND_NS), "rung": rung, "type": name, "objects": n, "size_bytes": n * size}
                for rung, t in enumerate(rung_s)
                for name, (count, size) in self.types.items()
                if (n := int(count(t))) or True
            ],
            "containers": [
                {
                    "at_ns": int(t * SECOND_NS),
                    "rung": rung,
                    "container": owner,
                    "type": f"builtins.{type_}" if "." not in type_ else type_,
                    "items": int(count(t)),
                    "item_type": item,
                    "owner": owner,
                    "limit_items": limit,
                }
                for rung, t in enumerate(rung_s)
                for (type_, owner, item), (count, limit) in self.containers.items()
            ],
            "process": [
                {
                    "at_ns": int(t * SECOND_NS),
                    "cpu_user_ns": int(t * 3e8),
                    "cpu_system_ns": int(t * 1e8),
                    "threads": int(self.process.get("threads", lambda _: 3)(t)),
                    "descriptors": int(self.process.get("descriptors", lambda _: 40 + self.random.poisson(4))(t)),
                    "minor_faults": 1,
                    "major_faults": 0,
                }
                for t in ledger_s
            ],
            "requests": [
                {
                    "intended_ns": int(t * SECOND_NS),
                    "start_ns": int(t * SECOND_NS),
                    "latency_ns": 3_000_000,
                    "status": 200,
                    "route": "page",
                    "method": "GET",
                    "sent_bytes": 0,
                    "received_bytes": 1024,
                }
                for t in self.arrivals_s
            ],
        }
        if self.tracer:
            rows["heap"] = self.heap
            rows["usage"] = [
                {
                    "at_ns": int(t * SECOND_NS),
                    "rss_bytes": 80_000_000,
                    "traced_bytes": int(sum(f(t) for f in self.traced)),
                }
                for t in usage_s
            ]
        return make_profile(path, duration_s=self.seconds, **(rows | more))


def healthy(**how: Any) -> Service:
    """Return a service that keeps nothing beyond its requests."""
    return Service(**how)


def sessions_leak(size_bytes: int = 2048, owner: str = "module app.sessions > SESSIONS > by_id", **how: Any) -> Service:
    """Return a service that never drops a session."""
    service = Service(**how)
    service.allocate(REMEMBER, service.arrivals_s, np.full(len(service.arrivals_s), np.inf), size_bytes)
    service.anon.append(service.traced[-1])
    service.types["app.sessions.Session"] = (service.arrived, 48)
    service.containers["dict", owner, "app.sessions.Session"] = (service.arrived, None)
    return service


def full_cache(entries: int = 20_000, **how: Any) -> Service:
    """Return a service with a cache that was full before: entries are replaced, memory stays.

    The tracer sees only what comes, until all that it did not see is gone.
    """
    service = Service(**how)
    lives = np.full(len(service.arrivals_s), entries / service.rate_per_s)
    service.allocate(PUT, service.arrivals_s, lives, 1024)
    service.types["app.cache.Page"] = (lambda _: entries, 48)
    service.containers["dict", "module app.cache > PAGES > pages", "app.cache.Page"] = (lambda _: entries, entries)
    return service


def filling_cache(limit: int = 20_000, *, declared: bool = True, type_: str = "dict", **how: Any) -> Service:
    """Return a service whose bounded cache fills up while it is recorded."""
    service = Service(**how)
    lives = np.full(len(service.arrivals_s), limit / service.rate_per_s)
    service.allocate(PUT, service.arrivals_s, lives, 1024)
    service.anon.append(service.traced[-1])
    items = lambda t: min(service.arrived(t), limit)  # noqa: E731
    service.types["app.cache.Page"] = (items, 48)
    service.containers[type_, "module app.cache > PAGES > pages", "app.cache.Page"] = (
        items,
        limit if declared else None,
    )
    return service


def native_growth(per_s: float = 500_000.0, **how: Any) -> Service:
    """Return a service whose memory grows outside of Python's containers."""
    service = Service(**how)
    service.anon.append(lambda t: per_s * t)
    return service


def descriptor_leak(per_s: float = 10.0, **how: Any) -> Service:
    """Return a service that opens a file per request and keeps it."""
    service = Service(rate_per_s=per_s, **how)
    service.process["descriptors"] = lambda t: 40 + service.arrived(t)
    service.containers["list", "module app.audit > FILES", "_io.FileIO"] = (service.arrived, None)
    return service


def queue_backlog(**how: Any) -> Service:
    """Return a service whose consumer manages two thirds of what comes in."""
    service = Service(**how)
    service.allocate(PUT, service.arrivals_s[::3], np.full(len(service.arrivals_s[::3]), np.inf), 2048)
    service.anon.append(service.traced[-1])
    waiting = lambda t: service.arrived(t) / 3  # noqa: E731
    service.types["app.jobs.Job"] = (waiting, 48)
    service.containers["collections.deque", "module app.jobs > JOBS > _queue", "app.jobs.Job"] = (waiting, None)
    return service


def load_driven(**how: Any) -> Service:
    """Return a service with a session per open connection, while the load rises and falls in waves."""
    service = Service(**how)
    wave = lambda t: 1 + 0.9 * np.sin(2 * np.pi * t / service.seconds - 1.5)  # noqa: E731
    keep = service.random.random(len(service.arrivals_s)) < wave(service.arrivals_s) / 2
    service.arrivals_s = service.arrivals_s[keep]
    service.allocate(REMEMBER, service.arrivals_s, np.full(len(service.arrivals_s), 1.0), 2048)
    service.anon.append(service.traced[-1])
    live = lambda t: service.arrived(t) - service.arrived(t - 1.0)  # noqa: E731
    service.containers["dict", "module app.sessions > OPEN", "app.sessions.Session"] = (live, None)
    return service
