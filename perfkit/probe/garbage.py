"""Finds garbage before the collector does, frees nothing, and says what it is, how large, and whose code made it.

The newest objects of a young generation are looked at the way the collector does: references
between them are taken off their reference counts. Objects that no other object and no frame
refers to are garbage, whatever else goes on: nobody can reach them to change that. Works on
all versions, also while the collector is switched off. For some milliseconds it holds references to what it looks at;
an object whose last other reference goes away just then is freed by this thread.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter
from itertools import compress
from operator import eq, sub

from perfkit.probe.names import OWN, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_FEWEST = 100
_ROUNDS = 20
_MAX_KINDS = 40
_MAX_SIZED = 4000
_LARGE_HEAP = 400_000
_FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()
_GC_HEADER_BYTES = 16


async def _coroutine() -> None:
    """Only there for its type."""


def _codes() -> dict[int, Any]:
    """Return how to read the code of functions, frames and the like, by the id of their type: in C, never by name."""
    waiting = _coroutine()
    waiting.close()
    pairs = (
        (type(_codes), "__code__"),
        (type(sys._getframe()), "f_code"),
        (type(number for number in range(0)), "gi_code"),
        (type(waiting), "cr_code"),
    )
    return {id(kind): type.__dict__["__dict__"].__get__(kind)[name].__get__ for kind, name in pairs}


_FUNCTION = type(_codes)
_CODES = _codes()


class Recorder:
    """Looks for garbage every so often."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._places: dict[int, tuple[type, str, list[Any] | None, Any]] = {}
        self._cpu_ns = 0
        self._longest_ns = 0
        self._looks = 0
        self._offset = _references_of_ours()

    def start(self, every_s: float = 1.0, newest: int = 2000, max_share: float = 0.005) -> dict[str, Any]:
        """Start; return the limit of descriptors, and why there is nothing to look at, if there is not."""
        self._every_s, self._newest, self._max_share = every_s, newest, max_share
        problem = "reference counts mean something else in a free-threaded interpreter" if _FREE_THREADED else None
        if problem is None:
            self._probe.spawn(self._run())
        return {"monotonic_ns": time.monotonic_ns(), "descriptor_limit": _descriptor_limit(), "problem": problem}

    def stop(self) -> dict[str, Any]:
        """Return what it cost."""
        self._places.clear()
        return {
            "monotonic_ns": time.monotonic_ns(),
            "looks": self._looks,
            "cost_ns": self._cpu_ns,
            "longest_ns": self._longest_ns,
        }

    def _run(self) -> Iterator[float]:
        """Look at the youngest generation, every fourth time at the middle one."""
        while True:
            began_ns, began = time.thread_time_ns(), time.monotonic()
            # Most of the garbage is there just before the next collection, but that moment is not ours to choose.
            if gc.get_count()[0] < _LARGE_HEAP:
                self._look(1 if self._looks % 4 == 3 else 0)
            spent_ns = time.thread_time_ns() - began_ns
            self._cpu_ns += spent_ns
            self._longest_ns = max(self._longest_ns, time.monotonic_ns() - int(began * 1e9))
            yield max(self._every_s, spent_ns / 1e9 / self._max_share)

    def _look(self, generation: int) -> None:
        """Look once, and send what there is."""
        young = gc.get_objects(generation)
        del young[: -self._newest]
        examined = len(young)
        if examined < _FEWEST:
            self._looks += generation  # so that an empty middle generation is not asked again at once
            return
        at_ns = time.monotonic_ns()
        garbage = self._unreachable(young)
        self._looks += 1
        row = {"at": at_ns, "generation": generation, "examined": examined, "kinds": self._described(garbage)}
        # Ours were the only references from outside; none is left behind that would keep it from being collected.
        garbage.clear()
        self._places.clear()
        self._probe.emit(row)

    def _unreachable(self, objects: list[Any]) -> list[Any]:
        """Return those that only one another refer to.

        Each step is one call into the interpreter, in which no other thread can run. An object whose count
        changed between two of them is in use. What those in use lead to is taken out at once; what then is left
        has to prove, in a last round without any change, that nothing else refers to it.
        """
        count = sys.getrefcount
        for round_ in range(_ROUNDS):
            before = list(map(count, objects))
            inner = Counter(map(id, gc.get_referents(*objects)))
            after = list(map(count, objects))
            found = list(map(inner.__getitem__, map(id, objects)))
            outside = map(sub, before, found)
            alone = [left == self._offset and same for left, same in zip(outside, map(eq, before, after))]  # noqa: B905
            if all(alone):  # also when none is left
                return objects
            if not round_:
                in_use = _reached(objects, alone)
                alone = [id(each) not in in_use for each in objects]
            # In place: a second list would hold references, too.
            objects[:] = compress(objects, alone)
        objects.clear()
        return objects

    def _described(self, garbage: list[Any]) -> list[list[Any]]:
        """Return `[type, place or None, objects, size_bytes, descriptors]` of each kind, the largest first."""
        sums: dict[tuple[int, int], list[Any]] = {}
        payload, left = _Payload(garbage, self._offset), _MAX_SIZED
        for each in garbage:
            kind = type(each)
            known = self._places.get(id(kind))
            if known is None:
                known = self._places[id(kind)] = (kind, type_name(kind), _constructor(kind), _descriptor_base(kind))
            _, name, place, base = known
            code = _CODES[id(kind)](each) if id(kind) in _CODES else None
            row = sums.get((id(kind), id(code)))
            if row is None:
                row = sums[id(kind), id(code)] = [name, place if code is None else _place(code), 0, 0, 0]
            row[2] += 1
            row[4] += base is not None and _is_open(each, base)
            if left:
                left -= 1
                row[3] += _size_of(each) + _GC_HEADER_BYTES + payload.size_of(each)
        rows = [row for row in sums.values() if not row[0].startswith(OWN)]
        rows.sort(key=lambda row: (-row[3], row[0]))
        return rows[:_MAX_KINDS]


def _reached(objects: list[Any], alone: list[bool]) -> set[int]:
    """Return the ids of the objects that are in use, and of those they lead to."""
    left = {id(each) for each, is_alone in zip(objects, alone) if is_alone}  # noqa: B905
    reached = set(map(id, objects)) - left
    frontier = [each for each in objects if id(each) in reached]
    while frontier:
        found = {id(each): each for each in gc.get_referents(*frontier) if id(each) in left}
        left.difference_update(found)
        reached.update(found)
        frontier = list(found.values())
    return reached


class _Payload:
    """What garbage holds that the collector does not track: buffers, texts, numbers nobody else has."""

    def __init__(self, garbage: list[Any], offset: int) -> None:
        self._seen: set[int] = set()
        self._holders = Counter(
            id(each) for each in (gc.get_referents(*garbage) if garbage else ()) if not gc.is_tracked(each)
        )
        self._offset = offset

    def size_of(self, holder: Any, depth: int = 2) -> int:
        """Return the bytes that only garbage holds through `holder`, each counted once."""
        total = 0
        held = gc.get_referents(holder)
        counts = list(map(sys.getrefcount, held))
        here = Counter(map(id, held))
        for each, references in zip(held, counts):  # noqa: B905 - the probe runs on 3.10 too
            number = id(each)
            if number in self._seen or gc.is_tracked(each):
                continue
            # Every reference to it from the list here is ours.
            if references - self._offset - (here[number] - 1) > max(self._holders.get(number, 1), here[number]):
                continue
            self._seen.add(number)
            total += _size_of(each)
            if depth and type(each) in (dict, tuple):
                total += self.size_of(each, depth - 1)
        return total


def _references_of_ours() -> int:
    """Return how many references an object in a list of ours has beside those of others."""
    return next(map(sys.getrefcount, [object()]))


def _constructor(kind: type) -> list[Any] | None:
    """Return function, file and line of what makes instances of a class; None for types that are not of Python."""
    first: list[Any] | None = None
    for base in type.__dict__["__mro__"].__get__(kind):
        names = type.__dict__["__dict__"].__get__(base)
        for name in ("__init__", "__new__"):
            code = _code_in(names.get(name))
            if code is not None:
                return _place(code, base)
        for value in names.values():
            code = _code_in(value)
            if first is None and code is not None:
                first = [type_name(base).rpartition(".")[2], code.co_filename, code.co_firstlineno]
    return first


def _code_in(value: Any) -> Any:
    """Return the code of what a class defines, if it is a function from a file; nothing of the target's is asked."""
    if type(value) in (staticmethod, classmethod):
        value = value.__func__
    if type(value) is not _FUNCTION:
        return None
    code = value.__code__
    return None if code.co_filename.startswith("<") else code


def _place(code: Any, owner: type | None = None) -> list[Any]:
    """Return function, file and line of a piece of code."""
    name = getattr(code, "co_qualname", None)
    if name is None:
        name = code.co_name if owner is None else f"{type.__dict__['__qualname__'].__get__(owner)}.{code.co_name}"
    return [name, code.co_filename, code.co_firstlineno]


def _size_of(each: Any) -> int:
    """Return the size of an object as its type tells it; no Python code of the target is run."""
    for base in type.__dict__["__mro__"].__get__(type(each)):
        sizer = type.__dict__["__dict__"].__get__(base).get("__sizeof__")
        if sizer is not None:
            if type(sizer).__name__ != "method_descriptor":
                sizer = object.__dict__["__sizeof__"]
            try:
                return int(sizer(each))
            except Exception:  # noqa: BLE001 - a type may claim anything about itself
                return 0
    return 0


def _descriptor_base(kind: type) -> Any:
    """Return the type in C whose objects own a descriptor, which a class derives from; None: it does not."""
    for base in type.__dict__["__mro__"].__get__(kind):
        if type_name(base) in ("_socket.socket", "_io.FileIO"):
            return base
    return None


def _is_open(each: Any, base: Any) -> bool:
    """Whether a socket or a file is open; asked of the type in C, whatever a class overrides."""
    try:
        return int(base.fileno(each)) >= 0
    except ValueError:  # closed
        return False


def _descriptor_limit() -> int | None:
    """Return how many descriptors the process may have open."""
    with open("/proc/self/limits", encoding="ascii") as file:  # noqa: PTH123 - pathlib may take the target 5 ms
        for line in file:
            if line.startswith("Max open files"):
                limit = line.split()[3]
                return int(limit) if limit.isdigit() else None
    return None
