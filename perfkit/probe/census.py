"""Counts the target's objects by type and follows the containers that grow, in slices that give the GIL back.

A rung is one census. Only `gc.get_objects()` itself cannot be cut into slices (20 ns per
object); counting, sizing and the search for owners are done some milliseconds at a time, and
the time between rungs grows when the census would take more than its share of a CPU.
"""

from __future__ import annotations

import gc
import sys
import time
from _thread import get_ident
from collections import Counter, OrderedDict, defaultdict, deque
from functools import partial
from io import BytesIO, StringIO
from itertools import chain, islice, repeat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any

_SLICE_NS = 4_000_000
_PAUSE_S = 0.006
_MAX_SLICE = 12_000
_SIZED = 128
"""Objects of one type with few items or none that are sized in a slice; the others are taken to be like them."""
_OWN = "perfkit probe"
_MIN_ITEMS = 32
_MAX_TYPES = 2000
_MAX_FOLLOWED = 300
_MAX_VISITED = 300_000
_SEARCH_NS = 1_500_000_000
_AWAITS = 20
"""Coroutines that wait for each other and are looked at, from a task inwards."""
_SEARCHES = 4
_RUNGS_PER_SEARCH = 5
"""A search for owners costs more than a census: one now and then, and one at the end."""
_SMALL_HEAP_OBJECTS = 200_000
_LARGE_ITEMS = 4096
_TRIES = 20
_NEWEST = 24
_MAX_LOOKED_AT = 24
_COLLECT_NS = 100_000_000
_NS_PER_OBJECT = 150
"""What a full collection costs per object, before one was measured: 50-180 ns from 3.10 to 3.13."""

_WHAT = ("", "size", "len", "length", "entries", "items", "keys", "count", "elements", "objects", "cache_size")
_NAMES = frozenset({"limit", "capacity", "bound", "cache_size", "size_limit", "item_limit", "entry_limit"}).union(
    prefix + what for prefix in ("max", "max_", "maximum_") for what in _WHAT
)
"""How limits of a container are called. Not max_age, max_bytes, max_retries: those count something else."""

_ATOMS = frozenset(map(id, (str, bytes, int, float, bool, complex, type(None), range, type(...))))
_LENGTHS: dict[type, Callable[[Any], int]] = {
    dict: dict.__len__, list: list.__len__, set: set.__len__, deque: deque.__len__, OrderedDict: OrderedDict.__len__,
    bytearray: bytearray.__len__,
}  # fmt: skip
_OTHER_LENGTHS = {"array.array": "__len__", "_queue.SimpleQueue": "qsize"}
"""Methods of types that need not be loaded."""
_OF_BYTES = frozenset({"builtins.bytearray", "_io.BytesIO", "_io.StringIO"})
_MIN_BYTES = 16_384
_MAX_HELD_BYTES = 32 << 20
"""What we hold of bytearrays until the next rung shows whether they grow: the target may want to let go of them."""
_BYTES_PER_ITEM = 64
"""What weighs as much as an item where containers of bytes are ranked among others."""
_INNER = frozenset({dict, list, set, deque, OrderedDict})
_MAX_INNER_EACH = 20_000
_MAX_INNER = 200_000
"""Items of containers whose own lengths are added up, per container and rung: 50 ns each."""

_FUNCTION = type(lambda: None)
_GENERATOR = type(_ for _ in ())
_MODULE = type(gc)
_MEMBER = type(_FUNCTION.__dict__["__globals__"])
_namespace_of: Any = _MODULE.__dict__["__dict__"].__get__  # type: ignore[index]
_PLAIN = frozenset(
    (dict, list, tuple, set, frozenset, deque, OrderedDict, defaultdict, Counter, _GENERATOR, type([].append))
)
"""Types without code of their own, which the probe's objects are made of as well as anybody's."""


def type_name(kind: type) -> str:
    """Return module.qualname of a type, whatever its metaclass overrides."""
    try:
        module = type.__dict__["__module__"].__get__(kind)
        return f"{module}.{type.__dict__['__qualname__'].__get__(kind)}"
    except AttributeError:
        return _name(kind)


def _name(kind: type) -> str:
    """Return the name of a type, whatever its metaclass overrides."""
    return str(type.__dict__["__name__"].__get__(kind))


def _is_a(thing: Any, kinds: type | tuple[type, ...]) -> bool:
    """Whether an object is of one of these types: `isinstance` would also ask its `__class__`, which may be code."""
    return issubclass(type(thing), kinds)


def _position(file: Any) -> int:
    """Return where a file in memory will be written next; 0 when it is closed."""
    try:
        return int((BytesIO if _is_a(file, BytesIO) else StringIO).tell(file))
    except ValueError:
        return 0


def _size_bytes(objects: list[Any]) -> int:
    """Return the sum of the shallow sizes of some objects."""
    return sum(map(sys.getsizeof, objects, repeat(0)))


class Kind:
    """What the census needs to know of a type."""

    __slots__ = ("is_module", "is_sized", "least", "length", "name", "own", "size_bytes")

    def __init__(self, example: Any) -> None:
        kind = type(example)
        self.name = type_name(kind)
        self.own = self.name.startswith(_OWN)
        self.is_module = issubclass(kind, _MODULE)
        mro = type.__dict__["__mro__"].__get__(kind)
        self.length = next((_LENGTHS[base] for base in mro if base in _LENGTHS), None)
        if self.name == "functools._lru_cache_wrapper":
            self.length = lambda cached: cached.cache_info().currsize
        for base in mro if self.length is None else ():
            if base is BytesIO or base is StringIO:
                # Not the length of a view of its buffer: while there is one, nobody can write.
                self.length = _position
            elif method := _OTHER_LENGTHS.get(type_name(base)):
                self.length = base.__dict__[method]
        self.least = _MIN_BYTES if self.name in _OF_BYTES else _MIN_ITEMS
        # Sizes differ within a type only where it says so itself; its own Python code is not run.
        spaces = [type.__dict__["__dict__"].__get__(base) for base in mro]
        sizer = next(space["__sizeof__"] for space in spaces if "__sizeof__" in space)
        self.is_sized = sizer is not object.__dict__["__sizeof__"] and type(sizer).__name__ == "method_descriptor"
        varies = self.is_sized or type.__dict__["__itemsize__"].__get__(kind)
        self.is_sized = self.is_sized or bool(varies and self.name.startswith("builtins."))
        try:
            self.size_bytes = 0 if self.is_sized else object.__sizeof__(example) + 16
        except Exception:  # noqa: BLE001 - a type may claim anything about itself
            self.size_bytes = 0


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
                yield _PAUSE_S
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
                    path += [("dict value", each) for each in _newest(path[-1][1])[:1] if type(each) in _INNER]
                wanted.append((self._identity(number), path))
            if wanted:
                row["looked_at"] = len(wanted)
                module: dict[str, Any] = {"__name__": f"{_OWN} code", "__builtins__": __builtins__}
                exec(compile(source, "<perfkit probe>", "exec"), module)  # noqa: S102
                yield _PAUSE_S
                look, steps = module["look"](wanted, budget_ns, _places_of_variables())
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
        roots = list(chain.from_iterable(_roots())) if numbers else []
        for number in numbers:
            path = _path(number, *self._ways[number], roots)
            if path is None:
                # A function that led there has returned.
                lost.add(number)
            else:
                found.append((number, path))
            yield _PAUSE_S
        roots.clear()
        if lost:
            search = Search(lost, lost, min(_SEARCH_NS, self._spare_ns()))
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
            yield _PAUSE_S
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
            size = max(256, min(2 * size, _MAX_SLICE, int(size * _SLICE_NS / took_ns)))
            yield _PAUSE_S
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
                    if len(each) >= _MIN_ITEMS and not gc.is_tracked(each):
                        self._untracked[id(each)] = each
                elif type(each) is bytearray and len(each) >= _MIN_BYTES:
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
                if not type_name(each).startswith(_OWN):
                    continue
            elif kind not in _PLAIN and _name(kind) != "cell" and not type_name(kind).startswith(_OWN):
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
            if length > min(left, _MAX_INNER_EACH) or not any(type(each) in _INNER for each in _newest(container)[:1]):
                continue
            left -= length
            values = dict.values(container) if _is_a(container, dict) else container
            inner[number] = sum([len(each) for each in _unchanged(partial(list, values)) if type(each) in _INNER])
            if time.thread_time_ns() - slice_ns > _SLICE_NS:
                yield _PAUSE_S
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
        self._bytes = {number for number, (each, _length) in large.items() if type_name(type(each)) in _OF_BYTES}
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
            own_limit = _limit(container)
            lengths = self._history[number]
            _first, sums = self._inner.get(number, (0, []))
            rows.append(
                {
                    "id": self._identity(number),
                    "type": type_name(type(container)),
                    "lengths": lengths[:],
                    "inner": sums[:],
                    "item_type": _item_type(container),
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
        search = Search(set(missing), urgent or set(missing), min(_SEARCH_NS, self._spare_ns()))
        yield from search.run()
        for number, path in search.paths():
            self._owners[number] = (" > ".join(label for label, _holder in path), _limit_of_owner(path))
            self._ways[number] = search.way(number)
        search.forget()


class Search:
    """A breadth-first search from modules, running frames and tasks to given objects."""

    def __init__(self, wanted: set[int], urgent: set[int], budget_ns: int = _SEARCH_NS) -> None:
        self._budget_ns = budget_ns
        self._wanted = set(wanted)
        self._urgent = set(urgent)
        self._parents: dict[int, int] = {}
        self._roots: dict[int, tuple[str, Any]] = {}
        self._found: list[int] = []
        self._is_dead_end: dict[int, bool] = {}

    def run(self) -> Iterator[float]:
        """Search, a slice at a time, until the urgent ones are found or the time is up."""
        began_ns = time.thread_time_ns()
        groups = _roots()
        for label, root in chain.from_iterable(groups):
            # All roots are known before the first is entered: paths begin at the nearest one.
            self._roots.setdefault(id(root), (label, root))
        for group in groups:
            level: list[Any] = []
            for _label, root in group:
                if id(root) not in self._parents:
                    self._parents[id(root)] = 0
                    level.append(root)
                    self._check(id(root))
            while level and self._urgent and len(self._parents) < _MAX_VISITED:
                following: list[Any] = []
                slice_ns = time.thread_time_ns()
                for count, holder in enumerate(level):
                    self._expand(holder, following)
                    if not count % 64 and time.thread_time_ns() - slice_ns > _SLICE_NS:
                        yield _PAUSE_S
                        slice_ns = time.thread_time_ns()
                        if slice_ns - began_ns > self._budget_ns or len(self._parents) >= _MAX_VISITED:
                            return
                level = following
            if not self._urgent:
                return

    def _expand(self, holder: Any, following: list[Any]) -> None:
        """Visit what one object refers to."""
        number = id(holder)
        parents, roots = self._parents, self._roots
        for each in _referents(holder):
            if id(type(each)) in _ATOMS:
                continue
            child = id(each)
            if child in parents or child in roots:
                continue
            parents[child] = number
            if child in self._wanted:
                self._check(child)
            kind = type(each)
            dead_end = self._is_dead_end.get(id(kind))
            if dead_end is None:
                dead_end = issubclass(kind, _MODULE) or type_name(kind).startswith(_OWN)
                self._is_dead_end[id(kind)] = dead_end
            if not dead_end:
                following.append(each)

    def _check(self, number: int) -> None:
        """Note an object that was looked for."""
        if number in self._wanted:
            self._wanted.discard(number)
            self._urgent.discard(number)
            self._found.append(number)

    def paths(self) -> Iterator[tuple[int, list[tuple[str, Any]]]]:
        """Yield `(identity, [(label, object), ...])` of what was found and is still there."""
        for number in self._found:
            label, steps = self.way(number)
            if path := _path(number, label, steps, list(self._roots.values())):
                yield number, path

    def way(self, number: int) -> tuple[str, list[int]]:
        """Return the label of the root from which an object was found, and the identities from there to it."""
        steps = [number]
        while parent := self._parents.get(steps[-1]):
            steps.append(parent)
        label, _root = self._roots.get(steps.pop(), ("", None))
        return label, steps[::-1]

    def forget(self) -> None:
        """Let go of everything."""
        self._parents.clear()
        self._roots.clear()


def _path(number: int, label: str, steps: list[int], roots: list[tuple[str, Any]]) -> list[tuple[str, Any]] | None:
    """Return `[(label, object), ...]` from a root of that label to an object, if that is still the way to it."""
    for root in roots:
        # Frames and tasks may be called the same.
        if root[0] != label:
            continue
        path = [root]
        for each in steps:
            holder = path[-1][1]
            held = _held(holder, each)
            if held is None:
                break
            path.append((_label(holder, held, path), held))
        else:
            if id(path[-1][1]) == number:
                return [step for step in path if step[0]]
    return None


def _held(holder: Any, number: int) -> Any:
    """Return the object of that identity that another refers to; None if it does no more."""
    referents = _referents(holder)
    # In 3.11 and 3.12 an instance has a dictionary of its own from when it is first asked for it, as `_label` does.
    attributes = [each for each in referents if type(each) is dict and type(holder) is not dict]
    found = (each for each in (*referents, *(value for one in attributes for _name, value in _items(one))))
    return next((each for each in found if id(each) == number), None)


def _is_ours(namespace: dict[str, Any]) -> bool:
    """Whether a module's namespace is one of the probe's."""
    name = namespace.get("__name__")
    return type(name) is str and name.startswith(_OWN)


def _roots() -> list[list[tuple[str, Any]]]:
    """Return where paths begin: the program's modules, frames and tasks, libraries, the standard library."""
    program: list[tuple[str, Any]] = []
    libraries: list[tuple[str, Any]] = []
    standard: list[tuple[str, Any]] = []
    names = sys.stdlib_module_names
    for name, module in _unchanged(lambda: list(sys.modules.items())):
        if not _is_a(module, _MODULE):
            continue
        namespace = _namespace_of(module)
        file = namespace.get("__file__")
        place = f"module {name}", namespace
        if name != "__main__" and name.partition(".")[0] in names:
            standard.append(place)
        elif type(file) is str and ("site-packages" in file or "dist-packages" in file):
            libraries.append(place)
        else:
            program.append(place)
    return [program, [*_frames(), *_tasks()], libraries, standard]


def _frames() -> Iterator[tuple[str, Any]]:
    """Yield the local variables of functions that are being run, by any thread but ours."""
    for thread, frame in list(sys._current_frames().items()):
        each: Any = frame if thread != get_ident() else None
        while each is not None:
            code = each.f_code
            # At module level the locals are the module's namespace, which is a root already.
            if code.co_flags & 1:
                yield f"frame {each.f_globals.get('__name__', '?')}.{code.co_name}", _variables(each)
            each = each.f_back


def _variables(frame: Any) -> dict[str, Any]:
    """Return a copy of the local variables of a function that is being run, or suspended.

    Up to 3.12 the frame keeps the snapshot that it makes for whoever asks, and with it the values, until
    it returns; so that is emptied again, unless the target has it in its own hands, from `locals()`.
    """
    values = frame.f_locals
    copy = dict(values)
    # Held by the frame, by us, and by the call that counts.
    if type(values) is dict and frame.f_code.co_flags & 1 and sys.getrefcount(values) <= 3:
        values.clear()
    return copy


def _places_of_variables() -> dict[int, list[tuple[int, str]]]:
    """Return `{id of an object: [(id of code, name), ...]}`: which running or suspended functions call it what."""
    found: dict[int, list[tuple[int, str]]] = {}
    frames: list[Any] = []
    threads = sys._current_frames()
    threads.pop(get_ident(), None)  # a frame that holds itself, as ours would, is left to the collector
    while threads:
        each: Any = threads.popitem()[1]
        while each is not None:
            frames.append(each)
            each = each.f_back
    for _label, task in _tasks():
        waiting = task
        for _step in range(_AWAITS):
            if (each := getattr(waiting, "cr_frame", None)) is not None:
                frames.append(each)
            waiting = getattr(waiting, "cr_await", None)
    for each in frames:
        if each.f_code.co_flags & 1:
            for name, value in _variables(each).items():
                found.setdefault(id(value), []).append((id(each.f_code), name))
    return found


def _tasks() -> Iterator[tuple[str, Any]]:
    """Yield asyncio's tasks that are not done."""
    tasks = sys.modules.get("asyncio.tasks")
    for name in ("_scheduled_tasks", "_all_tasks"):
        known = getattr(tasks, name, None)
        if known is None:
            continue
        try:
            alive = list(known)
        except RuntimeError:  # it changed while we looked
            continue
        for task in alive:
            coroutine = task.get_coro()
            yield f"task {getattr(coroutine, '__qualname__', '?')}", coroutine
        return


def _referents(holder: Any) -> list[Any]:
    """Return what an object refers to; of a large container, its oldest and newest items only."""
    kind = type(holder)
    if kind is dict and len(holder) > _LARGE_ITEMS:
        return _unchanged(lambda: [*islice(holder.values(), 64), *islice(reversed(holder.values()), 64)])
    if kind in (list, deque) and len(holder) > _LARGE_ITEMS:
        return _unchanged(lambda: [*islice(holder, 64), *islice(reversed(holder), 64)])
    if kind is set and len(holder) > _LARGE_ITEMS:
        return _unchanged(lambda: list(islice(holder, 64)))
    return gc.get_referents(holder)


def _unchanged(read: Callable[[], list[Any]]) -> list[Any]:
    """Return what is read of a container of the target in one go; nothing where it changes every time.

    A thread of the target may change it as soon as it gets the GIL, which also happens when making the list starts a
    collection that calls somebody back.
    """
    for _try in range(_TRIES):
        try:
            return read()
        except RuntimeError:
            continue
    return []


def _items(of: Any) -> list[tuple[Any, Any]]:
    """Return the items of a dict, or of a class; of a large dict, the oldest and newest only."""
    if not _is_a(of, dict):  # of a class: what its namespace looks like from outside
        return _unchanged(lambda: list(of.items()))
    if dict.__len__(of) > _LARGE_ITEMS:
        return _unchanged(lambda: [*islice(dict.items(of), 64), *islice(reversed(dict.items(of)), 64)])
    return _unchanged(lambda: list(dict.items(of)))


def _label(holder: Any, held: Any, path: list[tuple[str, Any]]) -> str:
    """Return what a step of a path is called; nothing for steps that say nothing."""
    kind = type(holder)
    if _is_a(holder, dict):
        key = next((key for key, value in _items(holder) if value is held), None)
        is_namespace = len(path) == 1 or not path[-1][0]
        if is_namespace and type(key) is str:
            return key if len(path) == 1 else f".{key}"
        # Keys of data may be secrets; names of settings are not.
        if type(key) is str and key.isidentifier() and len(key) < 40 and dict.__len__(holder) <= 16:
            return f"[{key!r}]"
        return "dict value" if key is not None else "dict key"
    name = _name(kind)
    if name == "cell":
        return _closure_variable(holder, path)
    if _name(type(held)) in ("cell", "frame"):
        return ""
    if _is_a(holder, (list, tuple, set, frozenset, deque)):
        return f"{name} item"
    if name == "function":
        if held is holder.__closure__ or held is holder.__dict__:
            return ""
        return "defaults"
    if name == "_lru_cache_wrapper":
        return "cache"
    if name in ("method", "builtin_function_or_method"):
        return "__self__"
    if name in ("coroutine", "generator", "async_generator", "frame"):
        return _local_variable(holder, held)
    if _is_a(holder, type):
        return "" if type(held) is dict else f"<{type_name(type(held))}>"
    # An instance: its dictionary is a step of its own up to 3.10, and none at all later.
    try:
        attributes = object.__getattribute__(holder, "__dict__")
    except (AttributeError, TypeError):
        attributes = {}
    if attributes is held:
        return ""
    key = next((key for key, value in _items(attributes) if value is held), None)
    if key is None:
        key = _slot(holder, held)
    return f".{key}" if key else f"<{type_name(type(held))}>"


def _closure_variable(cell: Any, path: list[tuple[str, Any]]) -> str:
    """Return the name of the variable in a cell, which the function knows that a path came from."""
    cells, function = (path[-2][1], path[-3][1]) if len(path) > 2 else ((), None)
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    if type(cells) is not tuple or len(cells) != len(names):
        return "closure"
    return next((str(name) for name, each in zip(names, cells, strict=True) if each is cell), "closure")


def _local_variable(holder: Any, held: Any) -> str:
    """Return the name of the local variable of a suspended function that holds an object."""
    frame = next(
        (getattr(holder, name) for name in ("cr_frame", "gi_frame", "ag_frame") if hasattr(holder, name)), holder
    )
    if frame is None:
        return "local"
    return next((name for name, value in _variables(frame).items() if value is held), "local")


def _slot(holder: Any, held: Any) -> str | None:
    """Return the slot of an instance that holds an object."""
    for base in type.__dict__["__mro__"].__get__(type(holder)):
        for name, descriptor in _items(type.__dict__["__dict__"].__get__(base)):
            if type(descriptor) is _MEMBER:
                try:
                    if descriptor.__get__(holder) is held:
                        return str(name)
                except AttributeError:
                    continue
    return None


def _item_type(container: Any) -> str | None:
    """Return the most frequent type among the newest items; of items that are containers, what is in them."""
    newest = _newest(container)
    if not newest:
        return None
    kind, _count = Counter(map(type, newest)).most_common(1)[0]
    if kind in (list, tuple, dict, set, deque):
        inner = [each for item in newest if type(item) is kind for each in _newest(item)]
        below = Counter(type(each) for each in inner if type_name(type(each)).partition(".")[0] != "builtins")
        if below:
            return type_name(below.most_common(1)[0][0])
    return type_name(kind)


def _newest(container: Any) -> list[Any]:
    """Return some of the items that were put in last."""
    if _is_a(container, dict):
        return _unchanged(lambda: list(islice(reversed(dict.values(container)), _NEWEST)))
    if _is_a(container, list):
        return list.__getitem__(container, slice(-_NEWEST, None))
    if _is_a(container, deque):
        return _unchanged(lambda: list(islice(deque.__reversed__(container), _NEWEST)))
    for kind in (set, frozenset):
        if _is_a(container, kind):
            return _unchanged(lambda: list(islice(kind.__iter__(container), _NEWEST)))  # noqa: B023
    if _is_a(container, tuple):
        return list(tuple.__getitem__(container, slice(-_NEWEST, None)))
    return []


def _limit(container: Any) -> int | None:
    """Return how many items a container says that it will hold at most; 0: it says that it has no limit."""
    kind, most = type(container), None
    if _is_a(container, deque):
        most = deque.maxlen.__get__(container)
    elif _name(kind) == "_lru_cache_wrapper":
        most = container.cache_info().maxsize
    else:
        return _limit_of(container)
    # A subclass of deque may have one of its own.
    return 0 if most is None and (kind is deque or not _is_a(container, deque)) else most


def _limit_of_owner(path: list[tuple[str, Any]]) -> int | None:
    """Return the limit that the object which holds a container declares."""
    for _step, holder in path[-2:-4:-1]:
        if type(holder) is dict:
            continue
        if _name(type(holder)) == "_lru_cache_wrapper":
            return _limit(holder) or None
        if limit := _limit_of(holder):
            return limit
    return None


def _limit_of(holder: Any) -> int | None:
    """Return the value of an attribute that is named like a limit."""
    try:
        attributes = object.__getattribute__(holder, "__dict__")
    except (AttributeError, TypeError):
        return None
    for name, value in _items(attributes):
        if (
            type(name) is str
            and type(value) is int
            and value > 0
            and name.rpartition("__")[2].strip("_").lower() in _NAMES
        ):
            return value
    return None
