"""Counts the target's objects by type and follows the containers that grow, in slices that give the GIL back.

A rung is one census. Only `gc.get_objects()` itself cannot be cut into slices (20 ns per
object); counting, sizing and the search for owners are done some milliseconds at a time, and
the time between rungs grows when the census would take more than its share of a CPU.

Of `census_parts`, `paths` and `roots` find what holds a container, `kinds` and `containers` read the target's
types and containers.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter, OrderedDict, defaultdict, deque
from functools import partial
from itertools import chain, repeat

from perfkit.probe.census_parts.containers import (
    INNER,
    declared_limit,
    item_type,
    limit_of_owner,
    newest_items,
    unchanged,
)
from perfkit.probe.census_parts.kinds import MIN_BYTES, MIN_ITEMS, OF_BYTES, OWN, Kind, is_a, short_name, type_name
from perfkit.probe.census_parts.paths import SEARCH_NS, Search, path_to
from perfkit.probe.census_parts.roots import find_roots, places_of_variables
from perfkit.probe.census_parts.slices import PAUSE_S, SLICE_NS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import Any

_MAX_SLICE = 12_000
_SIZED = 128
"""Objects of one type with few items or none that are sized in a slice; the others are taken to be like them."""
_MAX_TYPES = 2000
_MAX_FOLLOWED = 300
_SEARCHES = 4
_RUNGS_PER_SEARCH = 5
"""A search for owners costs more than a census: one now and then, and one at the end."""
_SMALL_HEAP_OBJECTS = 200_000
_MAX_LOOKED_AT = 24
_COLLECT_NS = 100_000_000
_NS_PER_OBJECT = 150
"""What a full collection costs per object, before one was measured: 50-180 ns from 3.10 to 3.13."""
_MAX_HELD_BYTES = 32 << 20
"""What we hold of bytearrays until the next rung shows whether they grow: the target may want to let go of them."""
_BYTES_PER_ITEM = 64
"""What weighs as much as an item where containers of bytes are ranked among others."""
_MAX_INNER_EACH = 20_000
_MAX_INNER = 200_000
"""Items of containers whose own lengths are added up, per container and rung: 50 ns each."""
_FUNCTION = type(lambda: None)
_GENERATOR = type(_ for _ in ())
_PLAIN = frozenset(
    (dict, list, tuple, set, frozenset, deque, OrderedDict, defaultdict, Counter, _GENERATOR, type([].append))
)
"""Types without code of their own, which the probe's objects are made of as well as anybody's."""


class Recorder:
    """Takes a census every so often."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._kinds: dict[type, Kind] = {}
        self._history: dict[int, list[int]] = {}
        self._first: dict[int, tuple[int, int]] = {}
        self._followed: dict[int, None] = {}
        self._owners: dict[int, tuple[str, int | None]] = {}
        self._ways: dict[int, tuple[str, list[int]]] = {}
        self._inner: dict[int, tuple[int, list[int | None]]] = {}
        self._bytes: set[int] = set()
        self._is_ending = False
        self._is_looking = self._is_counting = False
        self._searched: Counter[int] = Counter()
        self._untracked: dict[int, Any] = {}
        self._may_hold_bytes = 0
        self._longest_ns = 0
        self._rungs = self._rung_ns = 0
        self._collect_ns = 0
        self._collected_at = 0.0

    def start(
        self,
        every_s: float = 5.0,
        growing: int = 50,
        largest: int = 20,
        owners: int = 5,
        collect: bool = True,
        max_share: float = 0.1,
    ) -> dict[str, Any]:
        """Start; see the collector `object_census` for the settings."""
        self._every_s, self._growing, self._largest = every_s, growing, largest
        self._owners_wanted, self._collect, self._max_share = owners, collect, max_share
        self._cpu_ns = time.thread_time_ns()
        self._probe.spawn(self._run())
        return {"monotonic_ns": time.monotonic_ns()}

    def stop(self) -> dict[str, Any]:
        """Return how many rungs there were and what they cost."""
        self._untracked.clear()
        return {
            "rungs": self._rungs,
            "monotonic_ns": time.monotonic_ns(),
            "cost_ns": time.thread_time_ns() - self._cpu_ns,
            "longest_hold_ns": self._longest_ns,
        }

    def call(self, source: str | None = None, budget_s: float = 1.0) -> dict[str, Any]:
        """Take a last rung and look in the code for what deals with the growing containers; say whether it is done.

        Args:
            source: `container_code` of this folder with what it imports; None to ask about a look that was begun.
            budget_s: CPU seconds that it may take.
        """
        if source is not None:
            self._is_ending = self._is_looking = True
            self._probe.spawn(self._look_at_code(source, min(int(budget_s * 1e9), self._spare_ns())))
        return {"is_done": not self._is_looking}

    def _look_at_code(self, source: str, budget_ns: int) -> Iterator[float]:
        """Send a row with what the code says of each container that has grown and has an owner."""
        began_ns = time.thread_time_ns()
        row: dict[str, Any] = {"code": [], "looked_at": 0, "note": None}
        wanted: list[tuple[str, list[tuple[str, Any]]]] = []
        try:
            while self._is_counting:
                yield PAUSE_S
            # Once more, now that nothing traces the allocations of a search: it finds the owners still missing.
            if self._rung_ns <= self._spare_ns():
                yield from self._rung()
            began_ns = time.thread_time_ns()
            growing = sorted(
                (each for each in self._ways if self._growth(each) > 0), key=lambda each: -self._growth(each)
            )
            paths = yield from self._paths_now(growing[:_MAX_LOOKED_AT])
            while paths:
                number, path = paths.pop(0)
                if self._history[number][-1] <= self._first[number][1]:
                    # What grows is in it.
                    path += [("dict value", each) for each in newest_items(path[-1][1])[:1] if type(each) in INNER]
                wanted.append((self._identity(number), path))
            if wanted:
                row["looked_at"] = len(wanted)
                module: dict[str, Any] = {"__name__": f"{OWN} code", "__builtins__": __builtins__}
                exec(compile(source, "<perfkit probe>", "exec"), module)  # noqa: S102
                yield PAUSE_S
                look, steps = module["look"](wanted, budget_ns, places_of_variables())
                yield from steps
                row["code"], row["note"] = look.rows, look.note
        except Exception as error:  # noqa: BLE001 - the census itself must not be lost for it
            row["note"] = f"the code was not read: {type(error).__name__}: {error}"
        finally:
            wanted.clear()
            self._is_looking = False
        self._probe.emit({**row, "cost_ns": time.thread_time_ns() - began_ns})

    def _paths_now(self, numbers: list[int]) -> Generator[float, None, list[tuple[int, list[tuple[str, Any]]]]]:
        """Return the ways to some containers, those that were known or, where these have ended, others."""
        found, lost = [], set()
        roots = list(chain.from_iterable(find_roots())) if numbers else []
        for number in numbers:
            path = path_to(number, *self._ways[number], roots)
            if path is None:
                # A function that led there has returned.
                lost.add(number)
            else:
                found.append((number, path))
            yield PAUSE_S
        roots.clear()
        if lost:
            search = Search(lost, lost, min(SEARCH_NS, self._spare_ns()))
            yield from search.run()
            found += search.paths()
            search.forget()
        return found

    def _run(self) -> Iterator[float]:
        """Take one rung after the other."""
        while not self._is_ending:
            began, cost_ns = time.monotonic(), time.thread_time_ns()
            self._is_counting = True
            try:
                yield from self._rung()
            finally:
                self._is_counting = False
            spent_s = (time.thread_time_ns() - cost_ns) / 1e9
            took_s = time.monotonic() - began
            yield max(self._every_s - took_s, spent_s / self._max_share - took_s, 0.05)

    def _rung(self) -> Iterator[float]:
        """Take one census and send it."""
        began_ns = time.thread_time_ns()
        forced = self._collect_garbage()
        if forced:
            yield PAUSE_S
        # Before there is a list of everything, which a generator's frame would lead to.
        own = self._own_objects()
        held_ns = time.thread_time_ns()
        objects = gc.get_objects()
        self._longest_ns = max(self._longest_ns, time.thread_time_ns() - held_ns)
        at_ns = time.monotonic_ns()
        total = len(objects)
        counts: Counter[type] = Counter()
        sizes: dict[type, int] = {}
        large: dict[int, tuple[Any, int]] = {}
        # Dicts that hold only strings, numbers and the like are not tracked: they are found as
        # what others refer to, which costs twice as much, so not at each rung.
        look_for_untracked = sys.version_info < (3, 14) and self._rungs % 3 == 0
        self._may_hold_bytes = _MAX_HELD_BYTES
        size = 4096
        while objects:
            began_slice_ns = time.thread_time_ns()
            part = objects[-size:]
            del objects[-size:]
            self._count(part, counts, sizes, large, look_for_untracked)
            # It may hold the last reference of an object: that goes away here, within the slice.
            part.clear()
            took_ns = max(1, time.thread_time_ns() - began_slice_ns)
            self._longest_ns = max(self._longest_ns, took_ns)
            size = max(256, min(2 * size, _MAX_SLICE, int(size * SLICE_NS / took_ns)))
            yield PAUSE_S
        self._leave_out_own(own, counts, sizes, large)
        self._look_at_untracked(large)
        yield 0.0
        inner: dict[int, int] = {}
        yield from self._measure_inner(large, inner)
        self._follow(large, inner)
        yield from self._find_owners(large, total)
        rows = self._rows(large)
        types = [
            [self._kinds[kind].name, count, count * self._kinds[kind].size_bytes + sizes.get(kind, 0)]
            for kind, count in counts.most_common(_MAX_TYPES)
            if not self._kinds[kind].own
        ]
        self._probe.emit(
            {
                "rung": self._rungs,
                "monotonic_ns": at_ns,
                "objects": sum(counts.values()),
                "types": types,
                "containers": rows,
                "forced": forced,
                "enabled": gc.isenabled(),
                "cost_ns": time.thread_time_ns() - began_ns,
            }
        )
        self._rungs += 1
        self._rung_ns = time.thread_time_ns() - began_ns
        # Not kept: types may come and go, and must not stay for our sake.
        counts.clear()
        sizes.clear()
        self._kinds.clear()

    def _collect_garbage(self) -> dict[str, int] | None:
        """Run a full collection if it is cheap, so that what is counted is alive; return what it did.

        Never in a target that has switched the collector off: that would hide what it does.
        """
        if not self._collect or not gc.isenabled():
            return None
        if not self._collect_ns:
            self._collect_ns = len(gc.get_objects()) * _NS_PER_OBJECT
        is_small = self._collect_ns <= self._every_s * 1e9 * 0.01
        is_due = time.monotonic() - self._collected_at >= 10.0
        if self._collect_ns > _COLLECT_NS or not (is_small or is_due):
            return None
        began_ns = time.monotonic_ns()
        freed = gc.collect()
        self._collect_ns = max(1, time.monotonic_ns() - began_ns)
        self._longest_ns = max(self._longest_ns, self._collect_ns)
        self._collected_at = time.monotonic()
        return {"freed": freed, "took_ns": self._collect_ns}

    def _look_at_untracked(self, large: dict[int, tuple[Any, int]]) -> None:
        """Measure the dicts that the collector does not track, and let go of those nobody else holds."""
        for each in list(self._untracked.values()):
            # Four references are ours: the mapping, the list, the loop, the argument.
            if sys.getrefcount(each) <= 4 or gc.is_tracked(each):
                del self._untracked[id(each)]
            else:
                large[id(each)] = (each, len(each))

    def _count(
        self,
        part: list[Any],
        counts: Counter[type],
        sizes: dict[type, int],
        large: dict[int, tuple[Any, int]],
        look_for_untracked: bool,
    ) -> None:
        """Count, size and measure the objects of one slice.

        It makes next to no objects of its own, not even numbers: a tracer of allocations that is at
        work in the target would write down each of them. So sizes are those of some.
        """
        groups: dict[type, list[Any]] = defaultdict(list)
        for each in part:
            groups[type(each)].append(each)
        each = None
        kinds = self._kinds
        for type_, objects in groups.items():
            kind = kinds.get(type_)
            if kind is None:
                kind = kinds[type_] = Kind(objects[0])
            counts[type_] += len(objects)
            if (length := kind.length) is not None and not kind.own:
                long = [each for each in objects if length(each) >= kind.least]
                large.update([(id(each), (each, length(each))) for each in long])
                if kind.is_sized and long:
                    sizes[type_] = sizes.get(type_, 0) + _size_bytes(long)
                    objects = [each for each in objects if length(each) < kind.least]  # noqa: PLW2901
            if kind.is_sized and objects:
                some = objects[:: max(1, len(objects) // _SIZED)]
                sizes[type_] = sizes.get(type_, 0) + _size_bytes(some) * len(objects) // len(some)
        each = None
        if not look_for_untracked:
            return
        for type_, objects in groups.items():
            # Never of a module: up to 3.13 _asyncio's shows objects of its free list, which are
            # freed a second time when a list that holds them goes away, and the target crashes.
            for each in () if kinds[type_].is_module else gc.get_referents(*objects):
                if type(each) is dict:
                    if len(each) >= MIN_ITEMS and not gc.is_tracked(each):
                        self._untracked[id(each)] = each
                elif type(each) is bytearray and len(each) >= MIN_BYTES:
                    is_new = id(each) not in self._untracked
                    if is_new and len(each) <= self._may_hold_bytes:
                        self._may_hold_bytes -= len(each)
                        self._untracked[id(each)] = each

    def _leave_out_own(
        self, own: list[Any], counts: Counter[type], sizes: dict[type, int], large: dict[int, tuple[Any, int]]
    ) -> None:
        """Take the probe's own objects out of the numbers again."""
        for each in own:
            kind = type(each)
            if kind in counts and gc.is_tracked(each):
                counts[kind] -= 1
                if kind in sizes:
                    sizes[kind] -= sys.getsizeof(each, 0)
            large.pop(id(each), None)

    def _own_objects(self) -> list[Any]:
        """Return the probe's own objects: its instances and functions, and the plain containers that these hold.

        Not what suspended steps of other recorders have in hand, such as a walk over all objects:
        from there on everything is the target's.
        """
        # Frames are not tracked while they run; what ours hold between two rungs is in `self`.
        found: dict[int, Any] = {}
        waiting: list[Any] = [self, self._probe, globals()]
        while waiting:
            each = waiting.pop()
            kind = type(each)
            if id(each) in found or each is __builtins__:
                continue
            if kind is dict and "__name__" in each and not _is_ours(each):
                continue
            if kind is _FUNCTION:
                if not _is_ours(each.__globals__):
                    continue
            elif issubclass(kind, type):
                if not type_name(each).startswith(OWN):
                    continue
            elif kind not in _PLAIN and short_name(kind) != "cell" and not type_name(kind).startswith(OWN):
                continue
            found[id(each)] = each
            if each is self._history:
                found.update((id(lengths), lengths) for lengths in self._history.values())
            elif each is not self._untracked and kind is not _GENERATOR:
                waiting += gc.get_referents(each)
        return list(found.values())

    def _measure_inner(self, large: dict[int, tuple[Any, int]], inner: dict[int, int]) -> Iterator[float]:
        """Add up the lengths of the containers in each large container: they may grow while it does not."""
        left, slice_ns = _MAX_INNER, time.thread_time_ns()
        for number, (container, length) in large.items():
            if length > min(left, _MAX_INNER_EACH) or not any(
                type(each) in INNER for each in newest_items(container)[:1]
            ):
                continue
            left -= length
            values = dict.values(container) if is_a(container, dict) else container
            inner[number] = sum([len(each) for each in unchanged(partial(list, values)) if type(each) in INNER])
            if time.thread_time_ns() - slice_ns > SLICE_NS:
                yield PAUSE_S
                slice_ns = time.thread_time_ns()

    def _follow(self, large: dict[int, tuple[Any, int]], inner: dict[int, int]) -> None:
        """Note the lengths of this rung and decide which containers are worth a row."""
        rung = self._rungs
        for number in [number for number in self._history if number not in large]:
            # Gone, or shorter than what we look at: another container may get its address.
            del self._history[number]
            del self._first[number]
            self._inner.pop(number, None)
            self._followed.pop(number, None)
            self._owners.pop(number, None)
            self._ways.pop(number, None)
            self._searched.pop(number, None)
        for number, (_container, length) in large.items():
            self._first.setdefault(number, (rung, length))
            lengths = self._history.setdefault(number, [])
            lengths.append(length)
            if number in inner or number in self._inner:
                # As long as the lengths, with nothing where it was not looked at.
                sums = self._inner.setdefault(number, (inner.get(number, 0), []))[1]
                sums += [None] * (len(lengths) - 1 - len(sums))
                sums.append(inner.get(number))
        self._bytes = {number for number, (each, _length) in large.items() if type_name(type(each)) in OF_BYTES}
        by_growth = sorted(large, key=lambda number: -self._growth(number))[: self._growing]
        by_length = sorted(large, key=lambda number: -self._weight(number, large[number][1]))[: self._largest]
        for number in chain((each for each in by_growth if self._growth(each) > 0), by_length):
            if len(self._followed) < _MAX_FOLLOWED:
                self._followed.setdefault(number)

    def _growth(self, number: int) -> int:
        """Return by how many items a container, or what is in it, has grown since it was first seen."""
        own = self._weight(number, self._history[number][-1] - self._first[number][1])
        first, sums = self._inner.get(number, (0, []))
        return max(own, sums[-1] - first) if sums and sums[-1] is not None else own

    def _weight(self, number: int, items: int) -> int:
        """Return a number of items, or of bytes, as items."""
        return items // _BYTES_PER_ITEM if number in self._bytes else items

    def _identity(self, number: int) -> str:
        """Return what a container is called: an address is used again by others, so with its first rung."""
        return f"{number:#x}.{self._first[number][0]}"

    def _rows(self, large: dict[int, tuple[Any, int]]) -> list[dict[str, Any]]:
        """Return a row per container that is followed, with those of its lengths that were not sent yet."""
        rows = []
        for number in self._followed:
            container, _length = large[number]
            owner, limit = self._owners.get(number, (None, None))
            own_limit = declared_limit(container)
            lengths = self._history[number]
            _first, sums = self._inner.get(number, (0, []))
            rows.append(
                {
                    "id": self._identity(number),
                    "type": type_name(type(container)),
                    "lengths": lengths[:],
                    "inner": sums[:],
                    "item_type": item_type(container),
                    "owner": owner,
                    "limit": own_limit or limit or own_limit,
                }
            )
            lengths[:-1] = []
            sums[:-1] = []
        return rows

    def _spare_ns(self) -> int:
        """Return what a search, or a look at the code, may take of a CPU: its share of fifteen seconds."""
        return int(self._max_share * 15e9)

    def _find_owners(self, large: dict[int, tuple[Any, int]], total: int) -> Iterator[float]:
        """Look for paths from modules to the containers that grow fastest: one search for all, forwards."""
        if self._rungs % _RUNGS_PER_SEARCH and not self._is_ending and (self._rungs or total > _SMALL_HEAP_OBJECTS):
            return
        missing = [
            number for number in self._followed if number not in self._owners and self._searched[number] < _SEARCHES
        ]
        missing.sort(key=lambda number: (-self._growth(number), -large[number][1]))
        urgent = {number for number in missing[: self._owners_wanted] if self._growth(number) > 0}
        if not missing or (not urgent and (self._rungs or total > _SMALL_HEAP_OBJECTS)):
            return
        self._searched.update(missing)
        search = Search(set(missing), urgent or set(missing), min(SEARCH_NS, self._spare_ns()))
        yield from search.run()
        for number, path in search.paths():
            self._owners[number] = (" > ".join(label for label, _holder in path), limit_of_owner(path))
            self._ways[number] = search.way(number)
        search.forget()


def _is_ours(namespace: dict[str, Any]) -> bool:
    """Whether a module's namespace is one of the probe's."""
    name = namespace.get("__name__")
    return type(name) is str and name.startswith(OWN)


def _size_bytes(objects: list[Any]) -> int:
    """Return the sum of the shallow sizes of some objects."""
    return sum(map(sys.getsizeof, objects, repeat(0)))
