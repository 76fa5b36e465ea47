"""The only place that predicts what another setting of the collector would do, and says what it cannot predict.

The youngest generation is collected when allocations exceed deallocations by the threshold. What
adds up to that is of three kinds: objects that stay (`live`), garbage in cycles (`garbage`), and
objects that a request or a batch holds for a moment (`passing`). Live objects and garbage bring
collections about at any threshold, and cost the same per object whatever it is; those that pass bring about
none once the threshold is above all that are alive at a time, the *knee*.

Source: https://github.com/python/cpython/blob/3.13/Python/gc.c (gc_select_generation)
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from perfkit.analysis.cyclic_garbage import Garbage
from perfkit.analysis.gc_costs import Costs
from perfkit.analysis.trends import TooFewPoints, theil_sen
from perfkit.profile import Profile

STEPS = (2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
"""Thresholds to choose from: finer steps would pretend to a knowledge nobody has."""
_MARGIN = 1.5
_LEAST_OBJECTS_PER_BLOCK, _USUAL_OBJECTS_PER_BLOCK = 0.4, 0.6
_MIN_READINGS = 8
_USUAL_NS_PER_OBJECT = 120.0
"""What a full collection takes for each object, where no census says how many there are: 40-180 ns."""


class Flavour(StrEnum):
    """Which collector an interpreter has: advice for one is wrong for another."""

    GENERATIONAL = "generational"
    INCREMENTAL = "incremental"
    FREE_THREADED = "free-threaded"
    UNKNOWN = "unknown"


def flavour(python: str, *, free_threaded: bool = False) -> Flavour:
    """Return the collector of an interpreter, by its exact version.

    Source: https://docs.python.org/3/whatsnew/3.14.html and 3.15 (the incremental collector came and went)

    >>> [str(flavour(v)) for v in ("3.11.7", "3.14.2", "3.14.5", "3.16.0")]
    ['generational', 'incremental', 'generational', 'unknown']
    """
    if free_threaded:
        return Flavour.FREE_THREADED
    parts = []
    for part in python.split(".")[:3]:
        digits = "".join(c for c in part if c.isdigit())
        parts.append(int(digits) if digits else 0)
    version = tuple(parts)
    if not (3, 7) <= version < (3, 16):
        return Flavour.UNKNOWN
    if version[:2] == (3, 14) and (len(version) < 3 or version[2] <= 4):
        return Flavour.INCREMENTAL
    return Flavour.GENERATIONAL


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one setting would do: share of time in automatic collections, usual full pause, what garbage holds."""

    setting: str
    time_ratio: float
    full_per_s: float
    full_pause_ms: float
    held_bytes: float
    held_descriptors: float


@dataclass(frozen=True)
class Model:
    """What drives the collections of one process; None where the recording does not tell.

    Rates are in objects per second as the collector counts them. `working_set_objects` is what is
    alive for a moment only, at its highest. `heap_objects` is what a full collection walks, `ns_per_object`
    what it takes for each, from full collections of known size.
    """

    threshold: int
    counted_per_s: float
    garbage_per_s: float
    live_per_s: float | None
    working_set_objects: float | None
    heap_objects: float | None
    ns_per_object: float | None
    costs: Costs
    garbage: Garbage

    @property
    def passing_ratio(self) -> float:
        """Return the share of what is counted that neither stays nor is garbage."""
        if not self.counted_per_s:
            return 0.0
        return max(0.0, 1.0 - self.steady_ratio)

    @property
    def steady_ratio(self) -> float:
        """Return the share of what is counted that brings collections about at any threshold."""
        if not self.counted_per_s:
            return 0.0
        steady = self.garbage_per_s + max(self.live_per_s or 0.0, 0.0)
        return min(1.0, steady / self.counted_per_s)

    @property
    def garbage_ratio(self) -> float:
        """Return the share of what is counted that is garbage."""
        return min(1.0, self.garbage_per_s / self.counted_per_s) if self.counted_per_s else 0.0

    @property
    def knee(self) -> int | None:
        """Return the smallest step above everything that is alive for a moment; None: not known, or too large."""
        if self.working_set_objects is None:
            return None
        needed = max(_MARGIN * self.working_set_objects, self.threshold + 1)
        return next((step for step in STEPS if step >= needed), None)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Return what the recording does not tell, as sentences about what would."""
        lacking = []
        if self.working_set_objects is None:
            lacking.append("readings of the interpreter's memory blocks (`python_memory`), for the knee")
        if self.live_per_s is None:
            lacking.append("a census of the heap (`object_census`), to tell growth from passing objects")
        if self.ns_per_object is None:
            lacking.append("a full collection of a heap of known size, for the cost per object")
        if not self.garbage.looks:
            lacking.append("looks at the garbage (`cyclic_garbage`), for what it holds")
        return tuple(lacking)

    def held_bytes(self, threshold: int) -> float:
        """Return how many bytes garbage holds just before a collection at a first threshold."""
        return self._held(threshold) * self.garbage.bytes_per_object

    def held_descriptors(self, threshold: int) -> float:
        """Return how many open descriptors garbage holds just before a collection at a first threshold."""
        return self._held(threshold) * self.garbage.descriptors_per_object

    def left(self, threshold: int) -> float:
        """Return which share of the objects that count still does at a threshold: above the knee, those that stay."""
        clears = self.working_set_objects is not None and threshold >= self.working_set_objects
        return self.steady_ratio if clears else 1.0

    def raised(self, threshold: int) -> Prediction:
        """Return what a higher first threshold would do, the other two unchanged.

        Below the knee nothing is promised, because how bursts meet it is not known. Full passes come when both the
        counters and what was promoted let them: where it is the latter (a quarter of what the last one left), they stay
        as many as they are until the counters let fewer.
        """
        left = self.left(threshold)
        young, middle, full = (self._ratio(generation) for generation in (0, 1, 2))
        per_s = self._per_s(2)
        spare = max(1.0, self._most_full_per_s() / per_s) if per_s else 1.0
        rarer = left * min(1.0, spare * self.threshold / threshold)
        return Prediction(
            f"gc.set_threshold({threshold})",
            young * left + middle * left + full * rarer,
            per_s * rarer,
            self._pause_ms(2),
            self.held_bytes(threshold),
            self.held_descriptors(threshold),
        )

    def frozen(self) -> Prediction:
        """Return what freezing everything that is alive would do: full passes walk only what came since.

        They may come more often for it: one is due when what was promoted since the last is a quarter of what
        that one left, which is less now. They cannot come more often than the counters let them.
        """
        left = 1.0
        if self.heap_objects:
            left = min(1.0, max(0.02, (self.working_set_objects or 0.0) / self.heap_objects))
        per_s = self._per_s(2)
        oftener = max(1.0, min(1.0 / left, self._most_full_per_s() / per_s)) if per_s else 1.0
        return Prediction(
            "gc.freeze()",
            self._ratio(0) + self._ratio(1) + self._ratio(2) * left * oftener,
            per_s * oftener,
            self._pause_ms(2) * left,
            self.held_bytes(self.threshold),
            self.held_descriptors(self.threshold),
        )

    def _most_full_per_s(self) -> float:
        """Return how often full collections can come: once the counters of both younger generations have passed.

        A collection of the youngest raises the second counter by one, one of the middle the third; each
        generation's turn comes when its counter is above its threshold.
        """
        _first, second, third = (*self.costs.thresholds, 10, 10)[:3]
        triggers_per_s = sum(self._per_s(generation) for generation in (0, 1, 2))
        return triggers_per_s / ((second + 2) * (third + 1) + 1)

    def _held(self, threshold: int) -> float:
        """Return how many objects of garbage there are when the youngest generation is full."""
        steady = self.garbage_per_s + max(self.live_per_s or 0.0, 0.0)
        return threshold * (self.garbage_per_s / steady) if steady else 0.0

    def _ratio(self, generation: int) -> float:
        """Return the share of time in one generation's automatic collections."""
        cost = self.costs.cost(generation)
        return cost.time_ratio if cost else 0.0

    def _per_s(self, generation: int) -> float:
        """Return how often one generation is collected automatically."""
        cost = self.costs.cost(generation)
        return cost.per_s if cost else 0.0

    def _pause_ms(self, generation: int) -> float:
        """Return the usual pause of one generation."""
        cost = self.costs.cost(generation)
        return cost.p50_ms if cost else 0.0


def model(profile: Profile, costs: Costs, garbage: Garbage) -> Model | None:
    """Return what drives the collections of a process; None when its thresholds are not known or it never collects."""
    if not costs.thresholds or costs.thresholds[0] <= 0:
        return None
    automatic = sum(each.collections for each in costs.generations if not each.manual)
    heap, live_per_s, ns_per_object = _census(profile, costs)
    return Model(
        threshold=costs.thresholds[0],
        counted_per_s=automatic * (costs.thresholds[0] + 1) / costs.covered_s,
        garbage_per_s=garbage.objects_per_s,
        live_per_s=live_per_s,
        working_set_objects=_working_set(profile, costs.pid, heap),
        heap_objects=heap or _heap_by_pauses(costs),
        ns_per_object=ns_per_object,
        costs=costs,
        garbage=garbage,
    )


def _census(profile: Profile, costs: Costs) -> tuple[float | None, float | None, float | None]:
    """Return tracked objects, by how many they grow per second, and what a full collection takes for each."""
    rungs = profile.sql(
        "select rung, min(at_ns)::double / 1e9 as at_s, sum(objects)::double as objects from object_census"
        " where pid = $pid group by rung order by rung",
        pid=costs.pid,
    )
    if rungs.empty:
        return None, None, None
    objects = rungs["objects"].to_numpy(dtype=float)
    grows: float | None = None
    try:
        slope = theil_sen(rungs["at_s"].to_numpy(dtype=float), objects)
        grows = slope.estimate if slope.grows else 0.0
    except TooFewPoints:
        grows = None
    forced = costs.pauses.chosen(costs.pauses.ours & (costs.pauses.generation == 2))
    heap = float(np.median(objects))
    return heap, grows, float(np.median(forced.cpu_ns)) / heap if len(forced) and heap else None


def _heap_by_pauses(costs: Costs) -> float | None:
    """Return about how many objects full collections walk, by how long they take; None without any."""
    full = costs.pauses.chosen(costs.pauses.generation == 2)
    return float(np.median(full.cpu_ns)) / _USUAL_NS_PER_OBJECT if len(full) else None


def _working_set(profile: Profile, pid: int, heap_objects: float | None) -> float | None:
    """Return how many tracked objects are alive for a moment only, at the highest.

    Memory blocks go up and down with them; a trend is taken off. The collector counts fewer objects than there are
    blocks, in the proportion of the whole heap.
    """
    rows = profile.sql(
        "select at_ns::double / 1e9 as at_s, python_blocks::double as blocks from memory_ledger"
        " where pid = $pid and python_blocks is not null order by at_ns",
        pid=pid,
    )
    if len(rows) < _MIN_READINGS:
        return None
    at, blocks = rows["at_s"].to_numpy(dtype=float), rows["blocks"].to_numpy(dtype=float)
    level = blocks - theil_sen(at, blocks).estimate * (at - at[0])
    swing = float(np.quantile(level, 0.98) - np.quantile(level, 0.02))
    ratio = _USUAL_OBJECTS_PER_BLOCK
    if heap_objects:
        ratio = min(1.0, max(_LEAST_OBJECTS_PER_BLOCK, heap_objects / float(np.median(blocks))))
    return swing * ratio


def descriptors_held(profile: Profile, pid: int, threshold: int) -> float | None:
    """Return how many descriptors garbage would hold open at a first threshold; None when nobody looked.

    For whoever judges a pool: the number adds to the pool's own connections, and a limit of
    descriptors or of the upstream's connections may forbid the threshold.
    """
    from perfkit.analysis.cyclic_garbage import cyclic_garbage
    from perfkit.analysis.gc_costs import costs

    known = costs(profile, pid)
    if known is None:
        return None
    garbage = cyclic_garbage(profile, known)
    found = model(profile, known, garbage)
    return found.held_descriptors(threshold) if found and garbage.looks else None
