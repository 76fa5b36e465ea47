"""The only place that turns survival rows into sites: who allocates what is never given back.

"Allocated and not yet freed" is not a leak: a full cache, requests in flight and everything
younger than its usual lifetime look the same. What tells them apart is time: the live bytes
of a leaking site keep rising, those of a cache stop. So sites are ranked by the slope of
their live bytes, never by the bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from perfkit.analysis.shapes import Shape, shape
from perfkit.analysis.trends import Slope, persistence, theil_sen
from perfkit.profile import Profile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

POINTS = 60
"""Moments at which live bytes are evaluated: enough for every shape, few enough to be quick."""
MIN_POINTS = 9
"""Three thirds of three points: the least that can say whether growth goes on."""
CANDIDATES = 40
_AGE_GATE_MIN_S = 1.0
_ARTIFACTS = "(^|/)memray/|^<perfkit"
"""Files of the measurement itself: the probe and the allocation tracer."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line of code. `kind` is python, library, stdlib, native, interpreter or synthetic."""

    function: str
    file: str | None
    line: int | None
    module: str | None
    kind: str


@dataclass(frozen=True, slots=True)
class SiteGrowth:
    """What became of the allocations of one place in the code.

    `old_` counts only allocations that had more time than `age_gate_s` to be freed;
    `p_leak` is the chance that the next one is not freed either (Laplace's rule);
    `survival_ratio` is the Kaplan-Meier estimate of those that outlive the gate.
    `persistence_ratio` compares the growth of the last third with the first.
    """

    site: Place
    stack_ids: tuple[int, ...]
    bytes_per_s: Slope
    objects_per_s: Slope
    last_third: Slope
    persistence_ratio: float
    shape: Shape
    allocations: int
    size_bytes: int
    surviving_allocations: int
    surviving_bytes: int
    old_allocations: int
    old_survivors: int
    p_leak: float
    survival_ratio: float
    age_gate_s: float

    @property
    def keeps_growing(self) -> bool:
        """Whether the live bytes rise to the end of the recording, at no less than half the first pace."""
        return self.bytes_per_s.grows and self.last_third.grows and self.persistence_ratio >= 0.5


@dataclass(frozen=True, slots=True)
class LiveHeap:
    """Bytes and objects alive over time, one row per site (n sites by m moments), since tracing began.

    What was allocated before tracing began is not in it, and neither is its release: a full
    cache looks like growth until its content has been replaced once.
    """

    time_s: Floats
    sites: tuple[Place, ...]
    stack_ids: tuple[tuple[int, ...], ...]
    live_bytes: Floats
    live_objects: Floats
    rows: "Rows" = field(repr=False)
    calls: Mapping[int, frozenset[tuple[str, str | None]]] = field(default_factory=dict, repr=False)
    """The (function, file) pairs of the program that each stack passes through."""

    def slope(self, sites: Sequence[Place]) -> Slope | None:
        """Return the growth of several sites together, in bytes per second; None when there is nothing to tell."""
        chosen = [row for row, site in enumerate(self.sites) if site in sites]
        if not chosen or len(self.time_s) < MIN_POINTS:
            return None
        return theil_sen(self.time_s, self.live_bytes[chosen].sum(axis=0))


@dataclass(frozen=True, slots=True)
class Rows:
    """The survival rows of one process as arrays; `freed_s` is NaN for what was alive at the end."""

    site: Ints
    allocated_s: Floats
    freed_s: Floats
    allocations: Ints
    size_bytes: Ints
    end_s: float

    @property
    def lifetime_s(self) -> Floats:
        """How long each allocation lived, or was seen to live, in seconds."""
        return np.where(self.freed, self.freed_s, self.end_s) - self.allocated_s

    @property
    def freed(self) -> NDArray[np.bool_]:
        """Whether the release was seen."""
        return ~np.isnan(self.freed_s)


def places(profile: Profile) -> dict[int, Place]:
    """Return the place that each stack stands for: its innermost frame of user code.

    Else the innermost frame of a library, else the innermost of all. Stacks that pass through
    the probe or the allocation tracer are left out: the measurement is not the service. A
    comprehension, which has a frame of its own up to 3.11, goes by the name of its function.
    """
    answer = profile.sql(
        """
        with called as (
            select *, lag(function) over calls as caller, lag(file) over calls as caller_file
            from stack_frames join frames using (frame_id)
            window calls as (partition by stack_id order by pos)
        ), judged as (
            select stack_id, pos, file, line, module, kind,
                   if(function in ('<listcomp>', '<setcomp>', '<dictcomp>', '<genexpr>') and file = caller_file,
                      caller, function) as function,
                   case kind when 'python' then 2 when 'library' then 1 else 0 end as preference,
                   regexp_matches(coalesce(file, ''), $artifacts) as artifact
            from called
        )
        select stack_id, arg_max({'function': function, 'file': file, 'line': line, 'module': module, 'kind': kind},
                                 preference * 1000000 + pos) as place
        from judged group by stack_id having not bool_or(artifact) order by stack_id
        """,
        artifacts=_ARTIFACTS,
    )
    return {int(stack): Place(**place) for stack, place in zip(answer.stack_id, answer.place, strict=True)}


def live_heap(profile: Profile, pid: int, since_s: float = 0.0, points: int = POINTS) -> LiveHeap | None:
    """Return what is alive at up to `points` moments, by site; None when nothing was traced.

    Live at time t is what was allocated until t minus what was freed until t, summed for all
    stacks with the same site.

    Args:
        profile: needs `heap_survival`, `frames`, `stack_frames`.
        pid: process.
        since_s: leave out moments before this one; what was allocated until then stays counted.
        points: largest number of moments.
    """
    place_of = places(profile)
    table = profile.table("heap_survival")
    table = table.filter(pc.and_(pc.equal(table["pid"], pid), pc.is_in(table["stack_id"], pa.array(list(place_of)))))
    if not table.num_rows:
        return None
    stacks_of: dict[Place, list[int]] = {}
    for stack in sorted(pc.unique(table["stack_id"]).to_pylist()):
        stacks_of.setdefault(place_of[stack], []).append(stack)
    site_of = np.zeros(max(place_of) + 1, dtype=np.int64)
    for number, stacks in enumerate(stacks_of.values()):
        site_of[stacks] = number
    allocated_s = table["allocated_ns"].to_numpy() / 1e9
    freed_s = table["freed_ns"].to_numpy().astype(np.float64) / 1e9
    rows = Rows(
        site=site_of[table["stack_id"].to_numpy()],
        allocated_s=allocated_s,
        freed_s=freed_s,
        allocations=table["allocations"].to_numpy(),
        size_bytes=table["size_bytes"].to_numpy(),
        end_s=float(np.nanmax(np.append(freed_s, allocated_s.max()))),
    )
    time = _moments(rows, since_s, points)
    return LiveHeap(
        time_s=time,
        sites=tuple(stacks_of),
        stack_ids=tuple(map(tuple, stacks_of.values())),
        live_bytes=_live(rows, rows.size_bytes, time),
        live_objects=_live(rows, rows.allocations, time),
        rows=rows,
        calls=_calls(profile),
    )


def _calls(profile: Profile) -> dict[int, frozenset[tuple[str, str | None]]]:
    """Return the functions of the program and its libraries that each stack passes through."""
    rows = profile.sql(
        """
        select distinct stack_id, list_extract(string_split(function, '.'), -1) as function, file
        from stack_frames join frames using (frame_id) where kind in ('python', 'library')
        """
    )
    found: dict[int, set[tuple[str, str | None]]] = {}
    for stack, function, file in zip(rows.stack_id, rows.function, rows.file, strict=True):
        found.setdefault(int(stack), set()).add((str(function), file))
    return {stack: frozenset(pairs) for stack, pairs in found.items()}


def growing_sites(heap: LiveHeap) -> list[SiteGrowth]:
    """Return the sites whose live bytes grow most, steepest first; at most 40.

    Empty when the recording has fewer than 9 intervals: less cannot say whether growth goes on.
    """
    if len(heap.time_s) < MIN_POINTS:
        return []
    centred = heap.time_s - heap.time_s.mean()
    steepness = heap.live_bytes @ centred / (centred @ centred)
    steepest = [int(row) for row in np.argsort(-steepness, kind="stable")[:CANDIDATES] if steepness[row] > 0]
    gate = age_gate_s(heap.rows)
    found = [_growth(heap, row, gate) for row in steepest]
    return sorted(found, key=lambda site: -site.bytes_per_s.estimate)


def age_gate_s(rows: Rows) -> float:
    """Return how old an allocation must be before its survival means anything, in seconds.

    Three times the 99th percentile of the lifetimes of what was freed, at least one second
    and at most half of the recording.
    """
    longest = max((rows.end_s - float(rows.allocated_s.min())) / 2, 0.0)
    freed = rows.freed
    if not freed.any():
        return min(_AGE_GATE_MIN_S, longest)
    lifetimes, weights = rows.lifetime_s[freed], rows.allocations[freed]
    order = np.argsort(lifetimes)
    reached = np.searchsorted(np.cumsum(weights[order]), 0.99 * weights.sum())
    return float(min(max(3 * lifetimes[order][reached], _AGE_GATE_MIN_S), longest))


def kaplan_meier(lifetime_s: ArrayLike, freed: ArrayLike, weights: ArrayLike) -> tuple[Floats, Floats]:
    """Return (ages in seconds, share that lives longer than each age).

    Allocations still alive at the end count as "at least this old", not as immortal: without
    that, everything allocated in the last second of a recording would look like a leak.

    Args:
        lifetime_s: n lifetimes, or how long it was seen to live.
        freed: n flags, False where it was alive at the end.
        weights: n numbers of allocations.

    Source: Kaplan & Meier (1958), doi:10.1080/01621459.1958.10501452

    >>> kaplan_meier([1, 2, 2], [True, True, False], [1, 1, 2])[1].tolist()
    [0.75, 0.5]
    """
    lifetime = np.asarray(lifetime_s, dtype=np.float64)
    died, weight = np.asarray(freed, dtype=np.bool_), np.asarray(weights, dtype=np.float64)
    ages, index = np.unique(lifetime, return_inverse=True)
    deaths = np.bincount(index, weight * died, len(ages))
    leaving = np.bincount(index, weight, len(ages))
    at_risk = leaving[::-1].cumsum()[::-1]
    return ages, np.cumprod(1 - deaths / np.maximum(at_risk, 1e-300))


def _growth(heap: LiveHeap, row: int, gate: float) -> SiteGrowth:
    """Return the growth of one site."""
    time, live = heap.time_s, heap.live_bytes[row]
    rows, site = heap.rows, heap.sites[row]
    mine = rows.site == row
    allocations, freed = rows.allocations[mine], rows.freed[mine]
    lifetime = rows.lifetime_s[mine]
    # Old enough by birth, whatever became of it: judging by lifetime would count the survivors alone.
    old = rows.end_s - rows.allocated_s[mine] >= gate
    outlived = old & (~freed | (lifetime > gate))
    old_allocations, old_survivors = int(allocations[old].sum()), int(allocations[outlived].sum())
    ages, survival = kaplan_meier(lifetime, freed, allocations)
    last, ratio = persistence(time, live)
    return SiteGrowth(
        site=site,
        stack_ids=heap.stack_ids[row],
        bytes_per_s=theil_sen(time, live),
        objects_per_s=theil_sen(time, heap.live_objects[row]),
        last_third=last,
        persistence_ratio=ratio,
        shape=shape(time, live),
        allocations=int(allocations.sum()),
        size_bytes=int(rows.size_bytes[mine].sum()),
        surviving_allocations=int(allocations[~freed].sum()),
        surviving_bytes=int(rows.size_bytes[mine][~freed].sum()),
        old_allocations=old_allocations,
        old_survivors=old_survivors,
        p_leak=(old_survivors + 1) / (old_allocations + 2),
        survival_ratio=float(survival[max(int(np.searchsorted(ages, gate, side="right")) - 1, 0)]),
        age_gate_s=gate,
    )


def _moments(rows: Rows, since_s: float, points: int) -> Floats:
    """Return at most `points` ends of intervals, evenly chosen."""
    ends = np.unique(np.concatenate([rows.allocated_s, rows.freed_s[rows.freed]]))
    ends = ends[ends >= since_s]
    if len(ends) <= points:
        return ends
    return np.asarray(ends[np.linspace(0, len(ends) - 1, points).round().astype(np.int64)])


def _live(rows: Rows, amount: Ints, time: Floats) -> Floats:
    """Return the amount alive at each moment, one row per site number."""
    sites, moments = int(rows.site.max()) + 1, len(time)
    change = np.zeros((sites, moments + 1))
    np.add.at(change, (rows.site, np.searchsorted(time, rows.allocated_s)), amount)
    freed = rows.freed
    np.subtract.at(change, (rows.site[freed], np.searchsorted(time, rows.freed_s[freed])), amount[freed])
    return np.asarray(change.cumsum(axis=1)[:, :moments])
