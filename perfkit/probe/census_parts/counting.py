"""Counts, sizes and measures the objects of one rung, a slice at a time."""

from __future__ import annotations

import gc
import sys
from collections import Counter, defaultdict
from itertools import chain, repeat

from perfkit.probe.census_parts.kinds import MIN_BYTES, MIN_ITEMS, Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SIZED = 128
"""Objects of one type with few items or none that are sized in a slice; the others are taken to be like them."""
_MAX_TYPES = 2000
_MAX_HELD_BYTES = 32 << 20
"""What we hold of bytearrays until the next rung shows whether they grow: the target may want to let go of them."""


class Count:
    """The numbers of one rung, which it does not outlive: types may come and go, and must not stay for our sake.

    `large` is `{identity: (container, length)}` of what is worth a look.
    """

    def __init__(self, untracked: dict[int, Any], look_for_untracked: bool) -> None:
        self.large: dict[int, tuple[Any, int]] = {}
        self._kinds: dict[type, Kind] = {}
        self._counts: Counter[type] = Counter()
        self._sizes: dict[type, int] = {}
        self._untracked = untracked
        self._look_for_untracked = look_for_untracked
        self._may_hold_bytes = _MAX_HELD_BYTES

    def add(self, part: list[Any]) -> None:
        """Count, size and measure the objects of one slice.

        It makes next to no objects of its own, not even numbers: a tracer of allocations that is at
        work in the target would write down each of them. So sizes are those of some.
        """
        groups: dict[type, list[Any]] = defaultdict(list)
        for each in part:
            groups[type(each)].append(each)
        each = None
        kinds, counts, sizes, large = self._kinds, self._counts, self._sizes, self.large
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
        if not self._look_for_untracked:
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

    def leave_out(self, own: list[Any]) -> None:
        """Take the probe's own objects out of the numbers again, and the list of them."""
        counts, sizes, large = self._counts, self._sizes, self.large
        for each in chain(own, (own,)):
            kind = type(each)
            if kind in counts and gc.is_tracked(each):
                counts[kind] -= 1
                if kind in sizes:
                    sizes[kind] -= sys.getsizeof(each, 0)
            large.pop(id(each), None)

    def look_at_untracked(self) -> None:
        """Measure the dicts that the collector does not track, and let go of those nobody else holds."""
        for each in list(self._untracked.values()):
            # Four references are ours: the mapping, the list, the loop, the argument.
            if sys.getrefcount(each) <= 4 or gc.is_tracked(each):
                del self._untracked[id(each)]
            else:
                self.large[id(each)] = (each, len(each))

    def objects(self) -> int:
        """Return how many objects there are."""
        return sum(self._counts.values())

    def types(self) -> list[list[Any]]:
        """Return name, number and shallow size of the objects of the most frequent types, the probe's left out."""
        return [
            [self._kinds[kind].name, count, count * self._kinds[kind].size_bytes + self._sizes.get(kind, 0)]
            for kind, count in self._counts.most_common(_MAX_TYPES)
            if not self._kinds[kind].own
        ]


def _size_bytes(objects: list[Any]) -> int:
    """Return the sum of the shallow sizes of some objects."""
    return sum(map(sys.getsizeof, objects, repeat(0)))
