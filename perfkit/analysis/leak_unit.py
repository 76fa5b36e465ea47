"""The only place that says what is left behind together: types that pile up in fixed proportions, and how often.

One leaked session is seldom one object: with it come its dict, two tuples, a lock. Types that
pile up at whole-number ratios of each other are one *leak unit*; how many units there are per
second, or per request, says what to look for in the code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from perfkit.analysis.growth import growing_types
from perfkit.analysis.heap_graph import HeapGraph, is_standard
from perfkit.analysis.trends import MIN_POINTS, Slope, theil_sen, wandering

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MIN_CORRELATION = 0.95
"""Profiles of two types must agree at least so well for the types to be of one unit."""
MOST_PER_UNIT = 1000
"""Larger ratios are two leaks of different pace, not one unit."""
MOST_UNRESOLVED = 10
"""A ratio whose interval holds several whole numbers counts as one up to here, if it is known to `UNRESOLVED_RATIO`."""
UNRESOLVED_RATIO = 0.15
DRIFT_RATIO = 0.005
"""What two types may drift apart, as a share of their growth, before they are two leaks of about the same pace."""
_SPANS = 4
MIN_RUNGS_APART = 12
"""Rungs from which on two types of the same pace can be told apart. Simulated, 60 pairs each: of those that belong
together 93 % or more are kept at 20 rungs under any churn; of independent ones of exactly the same pace 87 % are
told apart at 12 rungs and 95 % at 40."""
WHOLE_TOLERANCE = 0.05
"""A ratio so close to a whole number is one even where its 95 % interval misses it, as one in twenty does."""


@dataclass(frozen=True, slots=True)
class Part:
    """A type of a leak unit.

    `per_unit` (low, estimate, high) objects come with each unit; `whole` is the whole number in
    that interval, None when there are several or none. `own_bytes` is what they take per unit,
    without what they refer to; None where sizes were not recorded.
    """

    type: str
    per_unit: tuple[float, float, float]
    whole: int | None
    correlation: float
    own_bytes: float | None


@dataclass(frozen=True, slots=True)
class LeakUnit:
    """What piles up together.

    `parts[0]` is the type that leads: the rarest that is not built in, so that one unit is one of
    it. `per_request` is None when perfkit did not send the load.
    """

    parts: tuple[Part, ...]
    units_per_s: Slope
    per_request: Slope | None

    @property
    def type(self) -> str:
        """Return the type that leads."""
        return self.parts[0].type

    @property
    def own_bytes(self) -> float | None:
        """Return what one unit takes, without what the types refer to; None where a size is not known."""
        sizes = [part.own_bytes for part in self.parts]
        return None if None in sizes else sum(size for size in sizes if size is not None)


def leak_units(census: "pd.DataFrame", requests_s: Floats | None = None) -> list[LeakUnit]:
    """Return the types that pile up together, the units with most bytes per second first.

    Two types are of one unit when three things hold. Their numbers correlate by more than 0.95.
    The slope of one against the other (Theil-Sen, so that objects of requests in flight do not
    move it) has one whole number in its interval. And they do not drift apart: what is left of
    one after so many times the other returns to zero, where two leaks that only happen to have
    the same pace wander away from each other like any two sums of random events.

    Args:
        census: rows of `object_census` of one process after its warm-up.
        requests_s: when requests were sent, seconds, increasing; None when that is not known.

    Source: the last condition is cointegration, Engle & Granger (1987), doi:10.2307/1913236
    """
    growing = [each.type for each in growing_types(census)]
    if not growing:
        return []
    kept = census[census["type"].isin(growing)]
    objects = kept.pivot_table(index="type", columns="rung", values="objects", aggfunc="sum", fill_value=0)
    sizes = kept.pivot_table(index="type", columns="rung", values="size_bytes", aggfunc="sum").reindex_like(objects)
    time_s = census.groupby("rung")["at_ns"].min().reindex(objects.columns).to_numpy(np.float64) / 1e9
    names = [str(name) for name in objects.index]
    counts, bytes_ = objects.to_numpy(np.float64), sizes.to_numpy(np.float64)
    units = []
    for members in _clusters(counts):
        lead = min(members, key=lambda each: (*_rank(names[each]), counts[each][-1] - counts[each][0], names[each]))
        parts = [_part(names[each], counts[lead], counts[each], bytes_[each]) for each in members]
        parts.sort(key=lambda part: (part.type != names[lead], _rank(part.type), part.per_unit[1], part.type))
        units.append(
            LeakUnit(tuple(parts), theil_sen(time_s, counts[lead]), _per_request(time_s, counts[lead], requests_s))
        )
    return sorted(units, key=lambda unit: (-(unit.own_bytes or 0.0) * unit.units_per_s.estimate, unit.type))


def ratio(lead: Floats, other: Floats) -> tuple[float, float, float]:
    """Return how many of another type come with each of a type: (low, estimate, high) at 95 %.

    Args:
        lead: n counts, rung by rung; rungs at which it does not grow are left out.
        other: n counts at the same rungs.

    >>> ratio(np.array([0.0, 10, 20, 30]), np.array([5.0, 25, 45, 65]))
    (2.0, 2.0, 2.0)
    """
    rises = np.r_[True, np.diff(np.maximum.accumulate(lead)) > 0]
    if rises.sum() < MIN_POINTS:
        grown = float(other[-1] - other[0]) / max(float(lead[-1] - lead[0]), 1.0)
        return 0.0, grown, float("inf")
    return theil_sen(lead[rises], other[rises]).interval


def whole_number(interval: tuple[float, float, float]) -> int | None:
    """Return the whole number in an interval, from 1 on; None when there is none or more than one.

    >>> whole_number((2.9, 3.0, 3.2)), whole_number((2.4, 2.5, 2.6)), whole_number((29.0, 30.0, 31.5))
    (3, None, None)
    """
    low, estimate, high = interval
    nearest = round(estimate)
    alone = nearest - 1 < low and high < nearest + 1
    return nearest if alone and nearest >= 1 and _holds_whole(interval) else None


def _holds_whole(interval: tuple[float, float, float]) -> bool:
    """Whether the whole number next to an estimate can be the true one."""
    low, estimate, high = interval
    nearest = round(estimate)
    return low <= nearest <= high or abs(estimate - nearest) <= WHOLE_TOLERANCE


@dataclass(frozen=True, slots=True)
class Content:
    """What comes with one object of a group: `objects` of a type, and the bytes they take. Means over the group."""

    type: str
    objects: float
    bytes: float


def contents(graph: HeapGraph, cohort: Ints) -> list[Content]:
    """Return what each object of a group alone keeps alive, itself included, by type; most bytes first.

    The census counts only what the garbage collector tracks; texts, bytes and numbers are told
    by a snapshot of the heap alone.

    Args:
        graph: the snapshot.
        cohort: objects, such as those of a leak unit's leading type that are new.
    """
    if not len(cohort):
        return []
    n = len(graph)
    belongs, above = np.zeros(n + 1, bool), graph.idom.copy()
    belongs[cohort] = True
    # Jumps of 1, 2, 4, ... steps up the dominator tree: a chain of a million objects takes twenty rounds.
    while (above[:n] != n).any():
        belongs |= belongs[above]
        above = above[above]
    inside = np.flatnonzero(belongs[:n])
    kinds = len(graph.types)
    objects = np.bincount(graph.type_of[inside], minlength=kinds) / len(cohort)
    size_bytes = np.bincount(graph.type_of[inside], weights=graph.size_bytes[inside], minlength=kinds) / len(cohort)
    found = [
        Content(graph.types[kind], float(objects[kind]), float(size_bytes[kind]))
        for kind in np.flatnonzero(objects).tolist()
    ]
    return sorted(found, key=lambda each: (-each.bytes, each.type))


def _clusters(counts: Floats) -> list[list[int]]:
    """Return the rows that pile up together: what is related to a common row is, too."""
    group = list(range(len(counts)))
    for one in range(len(counts)):
        for other in range(one):
            if group[one] != group[other] and _are_related(counts[one], counts[other]):
                old, new = group[one], group[other]
                group = [new if each == old else each for each in group]
    return [[row for row, of in enumerate(group) if of == number] for number in dict.fromkeys(group)]


def _are_related(one: Floats, other: Floats) -> bool:
    """Whether two types come in one unit: the more frequent is a whole multiple of the rarer."""
    rare, frequent = (one, other) if one[-1] - one[0] <= other[-1] - other[0] else (other, one)
    if _correlation(rare, frequent) <= MIN_CORRELATION:
        return False
    low, estimate, high = interval = ratio(rare, frequent)
    if estimate > MOST_PER_UNIT:
        return False
    is_known = estimate <= MOST_UNRESOLVED and high - low <= 2 * UNRESOLVED_RATIO * estimate
    if whole_number(interval) is None and not (is_known and _holds_whole(interval)):
        return False
    rest = frequent - round(estimate) * rare
    if len(rest) < MIN_RUNGS_APART:
        return True
    index = np.arange(len(rest))
    drift = wandering(rest - theil_sen(index, rest).estimate * index, _SPANS)
    return drift * float(np.sqrt(len(rest))) <= DRIFT_RATIO * float(frequent[-1] - frequent[0])


def _correlation(one: Floats, other: Floats) -> float:
    """Return the correlation of two profiles, 0 where one of them is flat."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _part(name: str, lead: Floats, counts: Floats, sizes: Floats) -> Part:
    """Return what is known of a type in the unit of another."""
    per_unit = ratio(lead, counts)
    grown = float(counts[-1] - counts[0])
    each = float(sizes[-1] - sizes[0]) / grown if grown > 0 and not np.isnan(sizes[[0, -1]]).any() else None
    return Part(
        type=name,
        per_unit=per_unit,
        whole=whole_number(per_unit),
        correlation=_correlation(lead, counts),
        own_bytes=None if each is None else each * per_unit[1],
    )


def _rank(name: str) -> tuple[bool, bool]:
    """Return what comes first: types of the program and its libraries, then the standard library's, then built-in."""
    return name.startswith("builtins.") or "." not in name, is_standard(name)


def _per_request(time_s: Floats, counts: Floats, requests_s: Sequence[float] | Floats | None) -> Slope | None:
    """Return how many units each request leaves behind, None when no requests are known."""
    if requests_s is None or not len(requests_s):
        return None
    sent = np.searchsorted(np.asarray(requests_s, np.float64), time_s).astype(np.float64)
    rises = np.r_[True, np.diff(sent) > 0]
    return theil_sen(sent[rises], counts[rises]) if rises.sum() >= MIN_POINTS else None
