"""Keeps the lengths of large containers from rung to rung, and decides which of them are worth a row."""

from __future__ import annotations

import time
from collections import Counter
from itertools import chain

from perfkit.probe.census_parts.containers import (
    INNER,
    all_items,
    declared_limit,
    item_type,
    limit_of_owner,
    newest_items,
)
from perfkit.probe.census_parts.kinds import OF_BYTES
from perfkit.probe.census_parts.slices import PAUSE_S, SLICE_NS
from perfkit.probe.names import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_MAX_FOLLOWED = 300
_SEARCHES = 4
_BYTES_PER_ITEM = 64
"""What weighs as much as an item where containers of bytes are ranked among others."""
_MAX_INNER_EACH = 20_000
_MAX_INNER = 200_000
"""Items of containers whose own lengths are added up, per container and rung: 50 ns each."""


class Followed:
    """What is known of large containers, by their identity.

    `lengths` are those of the rungs that were not sent yet, and the last; `ways` lead from a root to a container,
    see `Search.way`; `searched` is how often one was looked for.
    """

    def __init__(self, growing: int, largest: int) -> None:
        self.lengths: dict[int, list[int]] = {}
        self.ways: dict[int, tuple[str, list[int]]] = {}
        self.searched: Counter[int] = Counter()
        self._growing, self._largest = growing, largest
        self._first: dict[int, tuple[int, int]] = {}
        self._chosen: dict[int, None] = {}
        self._owners: dict[int, tuple[str, int | None]] = {}
        self._inner: dict[int, tuple[int, list[int | None]]] = {}
        self._bytes: set[int] = set()

    def note(self, rung: int, large: dict[int, tuple[Any, int]], inner: dict[int, int]) -> None:
        """Note the lengths of a rung and decide which containers are worth a row."""
        for number in [number for number in self.lengths if number not in large]:
            # Gone, or shorter than what we look at: another container may get its address.
            del self.lengths[number]
            del self._first[number]
            self._inner.pop(number, None)
            self._chosen.pop(number, None)
            self._owners.pop(number, None)
            self.ways.pop(number, None)
            self.searched.pop(number, None)
        for number, (_container, length) in large.items():
            self._first.setdefault(number, (rung, length))
            lengths = self.lengths.setdefault(number, [])
            lengths.append(length)
            if number in inner or number in self._inner:
                # As long as the lengths, with nothing where it was not looked at.
                sums = self._inner.setdefault(number, (inner.get(number, 0), []))[1]
                sums += [None] * (len(lengths) - 1 - len(sums))
                sums.append(inner.get(number))
        self._bytes = {number for number, (each, _length) in large.items() if type_name(type(each)) in OF_BYTES}
        by_growth = sorted(large, key=lambda number: -self.growth(number))[: self._growing]
        by_length = sorted(large, key=lambda number: -self._weight(number, large[number][1]))[: self._largest]
        for number in chain((each for each in by_growth if self.growth(each) > 0), by_length):
            if len(self._chosen) < _MAX_FOLLOWED:
                self._chosen.setdefault(number)

    def growth(self, number: int) -> int:
        """Return by how many items a container, or what is in it, has grown since it was first seen."""
        own = self._weight(number, self.lengths[number][-1] - self._first[number][1])
        first, sums = self._inner.get(number, (0, []))
        return max(own, sums[-1] - first) if sums and sums[-1] is not None else own

    def _weight(self, number: int, items: int) -> int:
        """Return a number of items, or of bytes, as items."""
        return items // _BYTES_PER_ITEM if number in self._bytes else items

    def identity(self, number: int) -> str:
        """Return what a container is called: an address is used again by others, so with its first rung."""
        return f"{number:#x}.{self._first[number][0]}"

    def rows(self, large: dict[int, tuple[Any, int]]) -> list[dict[str, Any]]:
        """Return a row per container that is followed, with those of its lengths that were not sent yet."""
        rows = []
        for number in self._chosen:
            container, _length = large[number]
            owner, limit = self._owners.get(number, (None, None))
            own_limit = declared_limit(container)
            lengths = self.lengths[number]
            _first, sums = self._inner.get(number, (0, []))
            rows.append(
                {
                    "id": self.identity(number),
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

    def grown(self) -> list[int]:
        """Return the containers that have grown and to which a way is known, the fastest first."""
        return sorted((each for each in self.ways if self.growth(each) > 0), key=lambda each: -self.growth(each))

    def is_longer(self, number: int) -> bool:
        """Whether a container has grown itself, not only what is in it."""
        return self.lengths[number][-1] > self._first[number][1]

    def without_owner(self, large: dict[int, tuple[Any, int]]) -> list[int]:
        """Return the containers that should be looked for, those that grow fastest first."""
        missing = [
            number for number in self._chosen if number not in self._owners and self.searched[number] < _SEARCHES
        ]
        missing.sort(key=lambda number: (-self.growth(number), -large[number][1]))
        return missing

    def note_owner(self, number: int, path: list[tuple[str, Any]], way: tuple[str, list[int]]) -> None:
        """Note the path by which a container was found, and with it what limits it."""
        self._owners[number] = (" > ".join(label for label, _holder in path), limit_of_owner(path))
        self.ways[number] = way


def measure_inner(large: dict[int, tuple[Any, int]], inner: dict[int, int]) -> Iterator[float]:
    """Add up the lengths of the containers in each large container: they may grow while it does not."""
    left, slice_ns = _MAX_INNER, time.thread_time_ns()
    for number, (container, length) in large.items():
        if length > min(left, _MAX_INNER_EACH) or not any(type(each) in INNER for each in newest_items(container)[:1]):
            continue
        left -= length
        inner[number] = sum([len(each) for each in all_items(container) if type(each) in INNER])
        if time.thread_time_ns() - slice_ns > SLICE_NS:
            yield PAUSE_S
            slice_ns = time.thread_time_ns()
