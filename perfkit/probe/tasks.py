"""Reads asyncio's tasks from outside their loops: which coroutine, in which state, waiting where, for how long.

Nothing is instrumented: asyncio itself knows its tasks, in a set of weak references. Each task
is held for some microseconds only. Looking at a place where a coroutine waits makes the
interpreter keep a frame object for it, so only some tasks per reading are looked at that closely.
"""

from __future__ import annotations

import gc
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_SLICE_NS = 1_500_000
_PAUSE_S = 0.002
_MAX_DEPTH = 32
_MAX_STACKS = 4000
_MAX_GROUPS = 400
_OTHER = "[other coroutines]"

_IN_LISTS = sys.version_info >= (3, 14)
"""It keeps tasks in lists per thread and loop instead of a set, and reads these safely itself."""

_PREFIXES = {"coroutine": "cr", "generator": "gi", "async_generator": "ag"}
_WRAPPERS = frozenset(("coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable"))
"""Objects between two steps of a chain that do not say what they wait for; the collector knows what they refer to."""


class Recorder:
    """Counts tasks by coroutine, state and place every so often."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._cpu_ns = 0
        self._readings = 0
        self._longest_ns = 0
        self._first_seen: dict[int, tuple[Any, int]] = {}
        self._stacks: dict[tuple[Any, ...], int] = {}
        self._new_stacks: list[tuple[int, list[Any]]] = []

    def start(self, every_s: float = 1.0, looked_at: int = 1000, max_share: float = 0.02) -> dict[str, Any]:
        """Start; return whether the target uses asyncio now."""
        self._looked_at = looked_at
        self._probe.spawn(self._run(every_s, max_share))
        return {"monotonic_ns": time.monotonic_ns(), "every_s": every_s, "asyncio": "asyncio.tasks" in sys.modules}

    def stop(self) -> dict[str, Any]:
        """Return how many readings there were and what they cost."""
        self._first_seen.clear()
        return {
            "monotonic_ns": time.monotonic_ns(),
            "asyncio": "asyncio.tasks" in sys.modules,
            "readings": self._readings,
            "longest_ns": self._longest_ns,
            "cost_ns": self._cpu_ns,
        }

    def _run(self, every_s: float, max_share: float) -> Iterator[float]:
        """Take one reading after the other, further apart when they would cost more than their share."""
        while True:
            began, before_ns = time.monotonic(), self._cpu_ns
            if "asyncio.tasks" in sys.modules:
                yield from self._reading()
            took = time.monotonic() - began
            yield max(every_s - took, (self._cpu_ns - before_ns) / 1e9 / max_share - took, 0.05)

    def _reading(self) -> Iterator[float]:
        """Count all tasks, a slice at a time, and send the groups."""
        at_ns, began_ns = time.monotonic_ns(), time.thread_time_ns()
        groups: dict[tuple[str, str, int | None], list[int]] = {}
        seen: dict[int, tuple[Any, int]] = {}
        references = _references()
        total = len(references)
        step = max(1, -(-total // self._looked_at))
        for index, reference in enumerate(references):
            task = reference()
            if task is not None:
                first_ns = self._first_seen.get(id(reference), (None, at_ns))[1]
                seen[id(reference)] = reference, first_ns
                key = self._group(task, closely=index % step == 0)
                del task
                group = groups.get(key)
                if group is None:
                    if len(groups) >= _MAX_GROUPS:
                        key = _OTHER, key[1], None
                    group = groups.setdefault(key, [0, 0])
                group[0] += 1
                group[1] = max(group[1], at_ns - first_ns)
            if not index % 16 and (took_ns := time.thread_time_ns() - began_ns) > _SLICE_NS:
                self._account(took_ns)
                yield _PAUSE_S
                began_ns = time.thread_time_ns()
        # The references themselves are kept, not the tasks: so an id stays one task's.
        self._first_seen = seen
        row: dict[str, Any] = {"at": at_ns, "total": total, "looked_at_each": step}
        row["groups"] = [[*key, *counts] for key, counts in groups.items()]
        if self._new_stacks:
            row["stacks"], self._new_stacks = self._new_stacks, []
        self._probe.emit(row)
        self._readings += 1
        self._account(time.thread_time_ns() - began_ns)

    def _account(self, took_ns: int) -> None:
        """Add up what was used."""
        self._cpu_ns += took_ns
        self._longest_ns = max(self._longest_ns, took_ns)

    def _group(self, task: Any, closely: bool) -> tuple[str, str, int | None]:
        """Return coroutine, state and number of the stack of a task."""
        coroutine = task.get_coro()
        name = getattr(coroutine, "__qualname__", None) or type(coroutine).__qualname__
        state = _state(task, coroutine)
        return name, state, self._stack(coroutine) if closely and state != "done" else None

    def _stack(self, coroutine: Any) -> int | None:
        """Return the number of the stack that a coroutine waits in, which is told once."""
        frames = _chain(coroutine)
        key = tuple((frame.f_code.co_filename, frame.f_code.co_name, frame.f_lineno) for frame in frames)
        number = self._stacks.get(key)
        if number is None and key and len(self._stacks) < _MAX_STACKS:
            number = self._stacks[key] = len(self._stacks)
            flat: list[Any] = []
            for frame, (file, function, line) in zip(frames, key):  # noqa: B905 - made of each other
                flat += (getattr(frame.f_code, "co_qualname", function), file, line)
            self._new_stacks.append((number, flat))
        return number


def _references() -> list[Any]:
    """Return a weak reference to each task of each loop; the same object for a task every time."""
    tasks = sys.modules["asyncio.tasks"]
    found: list[Any] = []
    for name in ("_all_tasks", "_scheduled_tasks"):
        known = getattr(tasks, name, None)
        if known is not None:
            # The set inside of a WeakSet: copied in one go, while no other thread can change it.
            found += list(known.data)
    if found or not _IN_LISTS:
        return found
    from _weakref import ref

    loops = {id(loop): loop for loop in _running_loops()}
    return [ref(task) for loop in loops.values() for task in tasks.all_tasks(loop)]


def _running_loops() -> Iterator[Any]:
    """Yield the loops that threads are running now."""
    for thread_frame in list(sys._current_frames().values()):
        frame: Any = thread_frame
        while frame is not None:
            if frame.f_code.co_name in ("run_forever", "_run_once") and "self" in frame.f_code.co_varnames:
                yield frame.f_locals["self"]
            frame = frame.f_back


def _state(task: Any, coroutine: Any) -> str:
    """Return done, running, waiting or ready."""
    if task.done():
        return "done"
    if getattr(coroutine, "cr_running", False) or getattr(coroutine, "gi_running", False):
        return "running"
    future = getattr(task, "_fut_waiter", None)
    return "waiting" if future is not None and not future.done() else "ready"


def _chain(awaited: Any) -> list[Any]:
    """Return the frames of the coroutines that wait for each other, outermost first."""
    frames: list[Any] = []
    for _ in range(2 * _MAX_DEPTH):
        if awaited is None or len(frames) >= _MAX_DEPTH:
            break
        if type(awaited).__name__ in _WRAPPERS:
            awaited = next((each for each in gc.get_referents(awaited) if _prefix(each)), None)
            continue
        prefix = _prefix(awaited)
        if not prefix:
            break
        frame = getattr(awaited, prefix + "_frame", None)
        if frame is None:
            break
        frames.append(frame)
        awaited = getattr(awaited, "gi_yieldfrom" if prefix == "gi" else prefix + "_await", None)
    return frames


def _prefix(awaited: Any) -> str | None:
    """Return what the attributes of a suspended function begin with, None: it is none."""
    return _PREFIXES.get(type(awaited).__name__)
