"""Recordings of a service's collector in numbers, one situation each, with the noise of the real thing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from perfkit.profile import Profile
from tests.builders import MAIN, PID, SECOND_NS, SPAN, Row, Stack, make_profile, pause, setting_rows

TIDY: Stack = (*MAIN, ("tidy", "/srv/app/server.py", 93))
FLUSH: Stack = (*MAIN, ("Sheet.__del__", "/srv/app/sheets.py", 20), ("flush", "/srv/app/sheets.py", 31))
SESSION: Stack = (("Session.__init__", "/usr/lib/python3/site-packages/httplib/session.py", 9),)


@dataclass
class Service:
    """A service with `young_per_s` collections per second, every eleventh of the middle generation."""

    seconds: int = 30
    young_per_s: float = 2.0
    young_ms: float = 0.2
    middle_ms: float = 0.8
    full_per_s: float = 0.0
    full_ms: float = 0.0
    collected: int = 30
    thresholds: tuple[int, int, int] = (700, 10, 10)
    enabled: bool = True
    heap_objects: int = 60_000
    grows_per_s: float = 0.0
    block_swing: int = 2_000
    python: str = "3.11.7"
    seed: int = 1
    manual: tuple[Row, ...] = ()
    garbage: list[Row] = field(default_factory=list)
    cpu: list[Row] = field(default_factory=list)
    settings: list[Row] = field(default_factory=list)

    def record(self, path: Path, also: Mapping[str, Sequence[Row]] = MappingProxyType({}), **more: Any) -> Profile:
        """Return the profile; `also` are rows beside its own, `more` replaces them."""
        random = np.random.default_rng(self.seed)
        rows: list[Row] = list(self.manual)
        for number, at_s in enumerate(np.arange(0.3, self.seconds, 1 / self.young_per_s) if self.young_per_s else ()):
            middle = number % 11 == 10
            took = (self.middle_ms if middle else self.young_ms) * float(random.lognormal(0, 0.2))
            rows.append(pause(int(at_s * SECOND_NS), took, generation=int(middle), collected=self.collected))
        for at_s in np.arange(0.55, self.seconds, 1 / self.full_per_s) if self.full_per_s else ():
            took = self.full_ms * float(random.lognormal(0, 0.1))
            rows.append(pause(int(at_s * SECOND_NS) + 13, took, generation=2, collected=1))
        census = [
            {
                "at_ns": at * SECOND_NS,
                "rung": rung,
                "type": "app.Thing",
                "objects": int(self.heap_objects + self.grows_per_s * at + random.integers(0, 40)),
                "size_bytes": 1,
            }
            for rung, at in enumerate(range(2, self.seconds, 3))
        ]
        ledger = [
            {
                "at_ns": at * SECOND_NS,
                "rss_bytes": 10**8,
                "anon_bytes": 10**8,
                "file_bytes": 0,
                "shmem_bytes": 0,
                "python_blocks": 2 * self.heap_objects + int(random.integers(0, self.block_swing)),
            }
            for at in range(1, self.seconds)
        ]
        n = len(rows)
        quality = {
            "collector": "gc_pauses",
            "from_ns": 0,
            "until_ns": self.seconds * SECOND_NS,
            "expected": n,
            "taken": n,
            "lost": 0,
        }
        parts: dict[str, Any] = {
            "gc_pauses": rows,
            "census": census,
            "ledger": ledger,
            "garbage": self.garbage or [_nothing(at) for at in range(1, self.seconds, 2)],
            "settings": [*setting_rows(self.thresholds, enabled=self.enabled), *self.settings],
            "quality": [quality],
            "cpu": self.cpu,
            "manifest": {"targets": ({"pid": PID, "python": self.python, "free_threaded": False},)},
        }
        for name, rows in also.items():
            parts[name] = [*parts.get(name, ()), *rows]
        return make_profile(path, duration_s=self.seconds, **(parts | more))


def _nothing(at_s: int) -> Row:
    """Return a look that found nothing."""
    return {
        "at_ns": at_s * SECOND_NS,
        "generation": 0,
        "examined": 400,
        "type": None,
        "objects": 0,
        "size_bytes": 0,
        "descriptors": 0,
    }


def kinds(
    seconds: int,
    *,
    objects: int,
    size_bytes: int,
    stack: Stack = SPAN,
    type_: str = "app.trace.Span",
    descriptors: int = 0,
) -> list[Row]:
    """Return looks that find a class in cycles, and a list in each."""
    look = {"generation": 0, "examined": 2 * objects + 100}
    return [
        {"at_ns": at * SECOND_NS, **look, **kind}
        for at in range(1, seconds, 2)
        for kind in (
            {
                "type": type_,
                "objects": objects,
                "size_bytes": objects * size_bytes,
                "descriptors": descriptors,
                "stack": stack,
            },
            {"type": "builtins.list", "objects": objects, "size_bytes": objects * 80, "descriptors": 0},
        )
    ]


def healthy(**how: Any) -> Service:
    """Return a service that loses a thousandth of its time."""
    return Service(**how)


def large_but_rare(**how: Any) -> Service:
    """Return a service with a large heap that is walked once in the recording."""
    return Service(**({"full_per_s": 1 / 25, "full_ms": 180.0, "heap_objects": 1_500_000} | how))


def library_cycles(**how: Any) -> Service:
    """Return a healthy service most of whose little garbage is an installed library's."""
    service = Service(**({"young_per_s": 3.0, "collected": 650} | how))
    service.garbage = kinds(service.seconds, objects=150, size_bytes=120, stack=SESSION, type_="httplib.Session")
    return service


def cycles(**how: Any) -> Service:
    """Return a service whose own classes make up what the collector frees."""
    service = Service(**({"young_per_s": 4.0, "collected": 680} | how))
    service.garbage = kinds(service.seconds, objects=200, size_bytes=150)
    return service


def payload_cycles(**how: Any) -> Service:
    """Return a service whose cycles hold bodies."""
    service = cycles(**how)
    service.garbage = kinds(service.seconds, objects=20, size_bytes=60_000, type_="app.Response")
    return service


def socket_cycles(**how: Any) -> Service:
    """Return a service whose cycles hold open sockets."""
    service = cycles(**how)
    service.garbage = kinds(service.seconds, objects=20, size_bytes=300, type_="app.Check", descriptors=10)
    service.settings = [{"at_ns": 0, "name": "process.descriptor_limit", "value": "1024"}]
    return service


def above_the_knee(**how: Any) -> Service:
    """Return a service whose requests hold more objects at a time than the threshold."""
    return Service(**({"young_per_s": 400.0, "young_ms": 0.25, "collected": 0, "block_swing": 6_000} | how))


def static_heap(**how: Any) -> Service:
    """Return a service that walks a large heap again and again for nothing."""
    more = {"young_per_s": 100.0, "collected": 0, "full_per_s": 1.0, "full_ms": 120.0, "heap_objects": 1_000_000}
    return Service(**(more | {"block_swing": 40_000} | how))


def manual(per_s: float = 10.0, took_ms: float = 12.0, **how: Any) -> Service:
    """Return a service that collects by hand."""
    service = Service(**how)
    service.manual = tuple(
        pause(int(at_s * SECOND_NS) + 7, took_ms, generation=2, manual=True, collected=2, stack=TIDY)
        for at_s in np.arange(0.1, service.seconds, 1 / per_s)
    )
    return service


def slow_finalizer(**how: Any) -> Service:
    """Return a service whose finalizers take up its young collections; the profiler saw them."""
    service = cycles(**({"young_per_s": 2.0, "young_ms": 60.0, "middle_ms": 60.0} | how))
    starts = np.arange(0.3, service.seconds, 0.5)
    service.cpu = [
        {
            "tick_ns": int((at + 0.02) * SECOND_NS),
            "weight_ns": SECOND_NS // 50,
            "thread": "main",
            "stack": FLUSH,
            "active": True,
        }
        for at in starts
    ]
    return service


def switched_off(**how: Any) -> Service:
    """Return a service that switched the collector off and makes cycles."""
    service = Service(**({"young_per_s": 0.0, "enabled": False, "grows_per_s": 2_000.0} | how))
    service.garbage = kinds(service.seconds, objects=200, size_bytes=300)
    return service
