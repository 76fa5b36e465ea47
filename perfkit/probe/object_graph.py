"""Writes down every object of the target and what it refers to, in a copy of the process or in slices.

How the copy is made, and why not by `os.fork()`, is in `graph_parts/process_copy.py`; what is written, and how
objects are asked without running the target's code, in `graph_parts/walk.py` and what it uses.
"""

from __future__ import annotations

import gc
import os
import sys
import time

from perfkit.probe.graph_parts.frames import doubt
from perfkit.probe.graph_parts.process_copy import Copy
from perfkit.probe.graph_parts.walk import walk_heap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from perfkit.probe.graph_parts.frames import Doubt
    from perfkit.probe.graph_parts.process_copy import Work

_PAUSE_S = 0.006
_INTERVALS_S = (0.1, 0.3, 0.9)
"""For how long a thread must wait for the GIL before it asks for it, while a copy is made: longer than that takes."""
_HUNG_S = 1.0
_HUNG_AT_BIRTH_S = 0.3
_HUNG = "it waited for a lock that nobody can release"
_CRASHES = (4, 6, 7, 8, 11)
"""SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV: what ends a process that touches what is not there."""


class Recorder:
    """Takes snapshots when asked to."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._rows: dict[int, dict[str, Any]] = {}
        self._copy: Copy | None = None
        self._busy = self._under_way = False
        self._doubt: Doubt | None = None

    def start(self) -> dict[str, Any]:
        """Return the clock; nothing is recorded until a snapshot is asked for."""
        if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
            raise RuntimeError("the object graph needs CPython with its global lock")
        return {"monotonic_ns": time.monotonic_ns()}

    def call(self, take: int | None = None, give_up_copy: str | None = None, **options: Any) -> dict[str, Any]:
        """Begin snapshot number `take`, end the copy for a reason, or return what is known of the finished ones.

        Options: `file` to write, `fork` whether a copy may be made, `max_objects`, `max_seconds`,
        `share` of one CPU for slices, `copy_share` for the copy.
        """
        if give_up_copy is not None and self._copy is not None:
            self._copy.end(give_up_copy)
        if take is None:
            return {"rungs": list(self._rows.values()), "busy": self._busy, "under_way": self._under_way}
        if self._busy:
            raise RuntimeError("a snapshot is being taken already")
        self._busy, self._under_way = True, False
        self._probe.spawn(self._snapshot(take, **options))
        return {"monotonic_ns": time.monotonic_ns()}

    def stop(self) -> dict[str, Any]:
        """End the copy, if there is one; return what is known of the snapshots."""
        if self._copy is not None:
            self._copy.end()
        return {"rungs": list(self._rows.values()), "monotonic_ns": time.monotonic_ns()}

    def _snapshot(
        self,
        rung: int,
        file: str,
        fork: bool = True,
        max_objects: int = 20_000_000,
        max_seconds: float = 120.0,
        share: float = 0.5,
        copy_share: float = 1.0,
    ) -> Iterator[float]:
        """Take one snapshot; what came of it is in `_rows`."""
        row: dict[str, Any] = {"rung": rung, "file": os.path.basename(file), "monotonic_ns": time.monotonic_ns()}  # noqa: PTH119
        self._doubt = doubt()
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                if fork:
                    yield from self._in_copy(descriptor, row, max_objects, max_seconds, copy_share)
                if row.get("mode") is None:
                    yield from self._in_slices(descriptor, row, max_objects, max_seconds, share)
            finally:
                os.close(descriptor)
        except Exception as error:  # noqa: BLE001 - it is the recorder's to know
            row["problem"] = f"{type(error).__name__}: {error}"
        finally:
            row["took_ns"] = time.monotonic_ns() - row["monotonic_ns"]
            self._busy = False
            self._rows[rung] = row
        self._probe.emit(row)

    def _in_copy(
        self, descriptor: int, row: dict[str, Any], max_objects: int, max_seconds: float, copy_share: float
    ) -> Iterator[float]:
        """Let a copy of the process write the file; sets `mode` if it did."""
        if why := _tracer():
            row["no_copy"] = why
            return
        row["stopped_ns"] = 0
        for interval_s in _INTERVALS_S:
            try:
                copy = self._copy = Copy(copy_share, interval_s)
            except (ImportError, OSError, KeyError) as error:
                row["no_copy"] = f"{type(error).__name__}: {error}"
                return
            yield from copy.make(self._work(max_objects), descriptor, max_seconds)
            row["stopped_ns"] += copy.stopped_ns
            row["at_ns"], self._under_way = copy.made_ns, bool(copy.pid)
            if not copy.pid:
                row["no_copy"] = f"clone failed ({copy.why})"
                return
            try:
                yield from self._wait_for(copy, descriptor, max_seconds)
            finally:
                copy.end()
                self._copy = None
            if copy.why is None:
                row["mode"] = "copy"
                return
            row["no_copy"] = copy.why
            if copy.signal in _CRASHES:
                # The same walk would do the same to the target.
                raise RuntimeError(f"the copy of the process crashed ({copy.why})")
            was_hung_at_birth = copy.why == _HUNG and not os.fstat(descriptor).st_size
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            if not was_hung_at_birth:
                return

    def _work(self, max_objects: int) -> Work:
        """Return what the copy is to do."""

        def write_all(write: Callable[[Any], None], threads: dict[int, Any]) -> None:
            gc.unfreeze()
            for _slice in walk_heap(write, max_objects, in_copy=True, threads=threads, doubt=self._doubt):
                pass

        return write_all

    def _wait_for(self, copy: Copy, descriptor: int, max_seconds: float) -> Iterator[float]:
        """Wait until a copy is done; end it when it takes too long or waits for what nobody can give."""
        until = ran_at = time.monotonic()
        until += max_seconds
        # A copy that rests is asleep at times; another one is not, least of all before it has written anything.
        patience_s = _HUNG_S if copy.rests else _HUNG_AT_BIRTH_S
        while not copy.is_done():
            now = time.monotonic()
            if copy.is_running():
                ran_at = now
            if now >= until:
                copy.end(f"it took longer than {max_seconds:g} s")
            elif now - ran_at > patience_s:
                if patience_s == _HUNG_S or not os.fstat(descriptor).st_size:
                    copy.end(_HUNG)
                patience_s = _HUNG_S
            yield 0.05

    def _in_slices(
        self, descriptor: int, row: dict[str, Any], max_objects: int, max_seconds: float, share: float
    ) -> Iterator[float]:
        """Write the file from within the target, a few milliseconds at a time."""
        row["mode"], longest_ns, cost_ns = "slices", 0, 0
        self._under_way = True
        until = time.monotonic() + max_seconds
        walk = walk_heap(lambda data: _write_to(descriptor, data), max_objects, in_copy=False, doubt=self._doubt)
        try:
            while True:
                began_ns = time.thread_time_ns()
                finished = next(walk, self) is self
                took_ns = time.thread_time_ns() - began_ns
                longest_ns, cost_ns = max(longest_ns, took_ns), cost_ns + took_ns
                if finished:
                    break
                if time.monotonic() > until:
                    raise TimeoutError(f"it took longer than {max_seconds:g} s")
                yield max(_PAUSE_S, took_ns / 1e9 * (1 / share - 1))
        finally:
            walk.close()  # type: ignore[attr-defined]
            row["longest_hold_ns"], row["cost_ns"] = longest_ns, cost_ns


def _tracer() -> str | None:
    """Return what is at work in the target that a copy would get into the way of, or None."""
    tracker = getattr(sys.modules.get("memray"), "Tracker", None)
    hook = getattr(sys.modules.get("threading"), "_profile_hook", None)
    if tracker is not None and hook is not None:
        return "memray is at work, and a copy would write into its file"
    return None


def _write_to(descriptor: int, data: Any) -> None:
    """Write all of some bytes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
