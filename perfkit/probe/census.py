"""Counts the target's objects by type and follows the containers that grow, in slices that give the GIL back.

A rung is one census. Only `gc.get_objects()` itself cannot be cut into slices (20 ns per
object); counting, sizing and the search for owners are done some milliseconds at a time, and
the time between rungs grows when the census would take more than its share of a CPU.

Here is what is done when, and what is sent. Of `census_parts`, `counting` has the numbers of one rung and
`followed` those of the containers from rung to rung; `paths` and `roots` find what holds a container,
`kinds` and `containers` read the target's types and containers, `own` says what is the probe's.
"""

from __future__ import annotations

import gc
import sys
import time
from itertools import chain

from perfkit.probe.census_parts.containers import INNER, newest_items
from perfkit.probe.census_parts.counting import Count
from perfkit.probe.census_parts.followed import Followed, measure_inner
from perfkit.probe.census_parts.own import own_objects
from perfkit.probe.census_parts.paths import SEARCH_NS, Search, path_to
from perfkit.probe.census_parts.roots import find_roots, places_of_variables
from perfkit.probe.census_parts.slices import PAUSE_S, SLICE_NS
from perfkit.probe.names import OWN, OWN_FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import Any

_MAX_SLICE = 12_000
_RUNGS_PER_SEARCH = 5
"""A search for owners costs more than a census: one now and then, and one at the end."""
_SMALL_HEAP_OBJECTS = 200_000
_MAX_LOOKED_AT = 24
_COLLECT_NS = 100_000_000
_NS_PER_OBJECT = 150
"""What a full collection costs per object, before one was measured: 50-180 ns from 3.10 to 3.13."""


class Recorder:
    """Takes a census every so often."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._is_ending = False
        self._is_looking = self._is_counting = False
        self._untracked: dict[int, Any] = {}
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
        self._followed = Followed(growing, largest)
        self._every_s, self._owners_wanted = every_s, owners
        self._collect, self._max_share = collect, max_share
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
            paths = yield from self._paths_now(self._followed.grown()[:_MAX_LOOKED_AT])
            while paths:
                number, path = paths.pop(0)
                if not self._followed.is_longer(number):
                    # What grows is in it.
                    path += [("dict value", each) for each in newest_items(path[-1][1])[:1] if type(each) in INNER]
                wanted.append((self._followed.identity(number), path))
            if wanted:
                row["looked_at"] = len(wanted)
                module: dict[str, Any] = {"__name__": f"{OWN} code", "__builtins__": __builtins__}
                exec(compile(source, OWN_FILE, "exec"), module)  # noqa: S102
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
            path = path_to(number, *self._followed.ways[number], roots)
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
        own = own_objects(self, self._probe, self._followed.lengths, self._untracked)
        held_ns = time.thread_time_ns()
        objects = gc.get_objects()
        self._longest_ns = max(self._longest_ns, time.thread_time_ns() - held_ns)
        at_ns = time.monotonic_ns()
        total = len(objects)
        # Dicts that hold only strings, numbers and the like are not tracked: they are found as
        # what others refer to, which costs twice as much, so not at each rung.
        look_for_untracked = sys.version_info < (3, 14) and self._rungs % 3 == 0
        count = Count(self._untracked, look_for_untracked)
        size = 4096
        while objects:
            began_slice_ns = time.thread_time_ns()
            part = objects[-size:]
            del objects[-size:]
            count.add(part)
            # It may hold the last reference of an object: that goes away here, within the slice.
            part.clear()
            took_ns = max(1, time.thread_time_ns() - began_slice_ns)
            self._longest_ns = max(self._longest_ns, took_ns)
            size = max(256, min(2 * size, _MAX_SLICE, int(size * SLICE_NS / took_ns)))
            yield PAUSE_S
        count.leave_out(own)
        count.look_at_untracked()
        large = count.large
        yield 0.0
        inner: dict[int, int] = {}
        yield from measure_inner(large, inner)
        self._followed.note(self._rungs, large, inner)
        yield from self._find_owners(large, total)
        self._probe.emit(
            {
                "rung": self._rungs,
                "monotonic_ns": at_ns,
                "objects": count.objects(),
                "types": count.types(),
                "containers": self._followed.rows(large),
                "forced": forced,
                "enabled": gc.isenabled(),
                "cost_ns": time.thread_time_ns() - began_ns,
            }
        )
        self._rungs += 1
        self._rung_ns = time.thread_time_ns() - began_ns

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

    def _spare_ns(self) -> int:
        """Return what a search, or a look at the code, may take of a CPU: its share of fifteen seconds."""
        return int(self._max_share * 15e9)

    def _find_owners(self, large: dict[int, tuple[Any, int]], total: int) -> Iterator[float]:
        """Look for paths from modules to the containers that grow fastest: one search for all, forwards."""
        if self._rungs % _RUNGS_PER_SEARCH and not self._is_ending and (self._rungs or total > _SMALL_HEAP_OBJECTS):
            return
        missing = self._followed.without_owner(large)
        urgent = {number for number in missing[: self._owners_wanted] if self._followed.growth(number) > 0}
        if not missing or (not urgent and (self._rungs or total > _SMALL_HEAP_OBJECTS)):
            return
        self._followed.searched.update(missing)
        search = Search(set(missing), urgent or set(missing), min(SEARCH_NS, self._spare_ns()))
        yield from search.run()
        for number, path in search.paths():
            self._followed.note_owner(number, path, search.way(number))
        search.forget()
