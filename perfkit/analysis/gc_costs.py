"""The only place that turns `gc_pauses` into what collections cost: per trigger and generation, and at their worst.

Collections that the recorder's own census asked for are kept apart: the target did not make them.
"""

import json
import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfkit.analysis.survival import Place
from perfkit.profile import Profile

Ints = NDArray[np.int64]

LONG_PAUSE_MS = 20.0
"""A pause that a person or a retry budget can notice: two frames of a screen, a tenth of a tight time-out."""
_UNKNOWN = Place("unknown", None, None, None, "python")
_QUANTILES = (0.5, 0.9, 0.99)

_PAUSES = """
select start_ns, pause_ns,
    least(coalesce(cpu_ns, pause_ns), pause_ns) as cpu_ns, generation, collected, coalesce(manual, false) as manual,
    coalesce(manual and f.function = '[perfkit probe]', false) as ours, coalesce(g.stack_id, -1) as stack_id
from gc_pauses g left join stacks s using (stack_id) left join frames f on f.frame_id = s.leaf_frame_id
where pid = $pid order by start_ns
"""


@dataclass(frozen=True, slots=True)
class Pauses:
    """Every collection of one process, in the order of time; arrays of one length, times in recording time."""

    start_ns: Ints
    pause_ns: Ints
    cpu_ns: Ints
    generation: Ints
    collected: Ints
    manual: NDArray[np.bool_]
    ours: NDArray[np.bool_]
    stack_id: Ints

    def chosen(self, keep: NDArray[np.bool_]) -> "Pauses":
        """Return only some of them."""
        return Pauses(*(getattr(self, name)[keep] for name in self.__slots__))

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def work_ns(self) -> int:
        """Return the CPU time of the pauses: that they are longer on a busy machine is not their doing."""
        return int(self.cpu_ns.sum())


@dataclass(frozen=True, slots=True)
class GenerationCost:
    """What the collections of one generation and trigger cost; pauses in milliseconds, nearest rank.

    `time_ratio` is the share of the time covered that they worked. `yield_objects` is how many objects one frees
    on average.
    """

    generation: int
    manual: bool
    collections: int
    per_s: float
    time_ratio: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    collected: int

    @property
    def yield_objects(self) -> float:
        """Return how many objects a collection frees on average."""
        return self.collected / self.collections if self.collections else 0.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for collections by hand, how often, and what share of the time they take."""

    site: Place
    collections: int
    time_ratio: float
    p50_ms: float
    collected: int


@dataclass(frozen=True)
class Costs:
    """What garbage collection costs one process.

    Ratios are shares of the time covered that collections worked; `stopped_ratio` is of the time
    they lasted, waiting for a CPU and sleeping in a finalizer included. `long_ratio` counts only the
    automatic ones of `LONG_PAUSE_MS` and more, of which there were `long_pauses`: a request that arrives at random
    meets one with at least that probability. `worst_second_ratio` and
    `worst_ten_seconds_ratio` are of the window in which most time went into collections.
    `coverage` is the share of the interpreter's own count that was seen, None when nobody could ask.
    """

    pid: int
    covered_s: float
    coverage: float | None
    pauses: Pauses
    generations: tuple[GenerationCost, ...] = ()
    callers: tuple[Caller, ...] = ()
    stopped_ratio: float = 0.0
    automatic_ratio: float = 0.0
    manual_ratio: float = 0.0
    census_ratio: float = 0.0
    long_ratio: float = 0.0
    long_pauses: int = 0
    worst_second_ratio: float = 0.0
    worst_ten_seconds_ratio: float = 0.0
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Return the share of the time in collections of the target's own."""
        return self.automatic_ratio + self.manual_ratio

    @property
    def thresholds(self) -> tuple[int, ...]:
        """Return the thresholds as they were last read, empty when unknown."""
        value = self.settings.get("gc.thresholds")
        return tuple(int(each) for each in value) if isinstance(value, list) else ()

    @property
    def is_off(self) -> bool:
        """Whether automatic collections are switched off."""
        return self.settings.get("gc.enabled") is False or self.thresholds[:1] == (0,)

    def cost(self, generation: int, *, manual: bool = False) -> GenerationCost | None:
        """Return the cost of one generation, None when it was never collected."""
        return next((g for g in self.generations if (g.generation, g.manual) == (generation, manual)), None)


def pauses(profile: Profile, pid: int) -> Pauses:
    """Return every collection of a process."""
    rows = profile.sql(_PAUSES, pid=pid)
    as_ints = {
        name: rows[name].to_numpy(dtype=np.int64)
        for name in ("start_ns", "pause_ns", "cpu_ns", "generation", "collected")
    }
    flags = {name: rows[name].to_numpy(dtype=np.bool_) for name in ("manual", "ours")}
    return Pauses(**as_ints, **flags, stack_id=rows["stack_id"].to_numpy(dtype=np.int64))


def costs(profile: Profile, pid: int) -> Costs | None:
    """Return what collections cost a process; None when they were not recorded."""
    covered = profile.sql(
        "select from_ns, until_ns, expected, taken, lost from recording_quality"
        " where collector = 'gc_pauses' and pid = $pid",
        pid=pid,
    )
    if covered.empty or covered["until_ns"].iloc[0] <= covered["from_ns"].iloc[0]:
        return None
    quality = covered.iloc[0]
    seen = pauses(profile, pid)
    own = seen.chosen(~seen.ours)
    span_ns = int(quality["until_ns"] - quality["from_ns"])
    coverage = None
    if covered["expected"].notna().iloc[0]:
        coverage = float(quality["taken"] / quality["expected"]) if quality["expected"] else 1.0
    long = own.chosen((own.cpu_ns >= LONG_PAUSE_MS * 1e6) & ~own.manual)
    return Costs(
        pid=pid,
        covered_s=span_ns / 1e9,
        coverage=coverage,
        pauses=seen,
        generations=tuple(_by_generation(own, span_ns)),
        callers=tuple(_callers(profile, own.chosen(own.manual), span_ns)),
        stopped_ratio=int(own.pause_ns.sum()) / span_ns,
        automatic_ratio=own.chosen(~own.manual).work_ns / span_ns,
        manual_ratio=own.chosen(own.manual).work_ns / span_ns,
        census_ratio=seen.chosen(seen.ours).work_ns / span_ns,
        long_ratio=long.work_ns / span_ns,
        long_pauses=len(long),
        worst_second_ratio=worst_window_ratio(own.start_ns, own.pause_ns, 1_000_000_000),
        worst_ten_seconds_ratio=worst_window_ratio(own.start_ns, own.pause_ns, 10_000_000_000),
        settings=last_settings(profile, pid),
    )


def last_settings(profile: Profile, pid: int) -> dict[str, object]:
    """Return the last value of each of the collector's settings, and what else the recorder read of the kind."""
    rows = profile.sql(
        "select name, last(value order by at_ns) as value from settings where pid = $pid group by name order by name",
        pid=pid,
    )
    return {name: json.loads(value) for name, value in zip(rows["name"], rows["value"], strict=True)}


def worst_window_ratio(start_ns: Ints, pause_ns: Ints, window_ns: int) -> float:
    """Return the largest share of any window of this length that pauses take; 0 without any.

    Args:
        start_ns: n starts, ascending; pauses do not overlap.
        pause_ns: n lengths.
        window_ns: length of the window.
    """
    if not len(start_ns):
        return 0.0
    # The worst window begins with a pause or ends with one.
    ends = start_ns + pause_ns
    begins = np.concatenate([start_ns, ends - window_ns])
    return (
        float(np.max(paused_before(start_ns, pause_ns, begins + window_ns) - paused_before(start_ns, pause_ns, begins)))
        / window_ns
    )


def paused_before(start_ns: Ints, pause_ns: Ints, at_ns: Ints) -> Ints:
    """Return for each moment how much time went into pauses before it.

    Args:
        start_ns: n starts, ascending; pauses do not overlap.
        pause_ns: n lengths.
        at_ns: m moments.
    """
    if not len(start_ns):
        return np.zeros(len(at_ns), dtype=np.int64)
    sums = np.concatenate([[0], np.cumsum(pause_ns)])
    index = np.searchsorted(start_ns, at_ns, side="right")
    last = np.maximum(index - 1, 0)
    inside = np.clip(at_ns - start_ns[last], 0, pause_ns[last])
    return np.asarray(np.where(index > 0, sums[last] + inside, 0), dtype=np.int64)


def site_of(frame: Mapping[Hashable, Any]) -> Place | None:
    """Return the place that a row with function, file and line names; None where it names none.

    Args:
        frame: a row of a pandas frame, whose unknown cells are NaN or None.
    """
    function, file, line = frame["function"], frame["file"], frame["line"]
    if not isinstance(function, str):
        return None
    known = isinstance(line, Real) and not math.isnan(line)
    return Place(
        function,
        file if isinstance(file, str) else None,
        int(line) if known else None,
        None,
        str(frame.get("kind") or "python"),
    )


def _by_generation(own: Pauses, span_ns: int) -> Iterable[GenerationCost]:
    """Yield the cost of each generation and trigger that occurred."""
    for manual in (False, True):
        for generation in (0, 1, 2):
            part = own.chosen((own.generation == generation) & (own.manual == manual))
            if len(part):
                p50, p90, p99 = np.quantile(part.pause_ns, _QUANTILES, method="inverted_cdf") / 1e6
                yield GenerationCost(
                    generation,
                    manual,
                    len(part),
                    len(part) / span_ns * 1e9,
                    part.work_ns / span_ns,
                    float(p50),
                    float(p90),
                    float(p99),
                    float(part.pause_ns.max()) / 1e6,
                    int(part.collected.sum()),
                )


def _callers(profile: Profile, manual: Pauses, span_ns: int) -> Iterable[Caller]:
    """Yield who asked for collections, the costliest first: the innermost caller whose code is not installed."""
    if not len(manual):
        return
    frames = profile.sql(
        """
        select b.stack_id, f.function, f.file, f.line, f.kind from stack_frames b join frames f using (frame_id)
        where b.stack_id in (select distinct stack_id from gc_pauses where manual) order by b.stack_id, b.pos desc
        """
    )
    sites: dict[int, Place] = {}
    for stack_id, rows in frames.groupby("stack_id"):
        own = rows[rows["kind"] == "python"]
        first = (rows if own.empty or rows["kind"].iloc[0] == "library" else own).iloc[0]
        if (site := site_of(first.to_dict())) is not None:
            sites[int(str(stack_id))] = site
    by_site: dict[Place, list[int]] = {}
    for index, stack_id in enumerate(manual.stack_id.tolist()):
        by_site.setdefault(sites.get(stack_id, _UNKNOWN), []).append(index)
    found = []
    for site, indexes in by_site.items():
        took, worked = manual.pause_ns[indexes], manual.cpu_ns[indexes]
        found.append(
            Caller(
                site,
                len(indexes),
                int(worked.sum()) / span_ns,
                float(np.quantile(took, 0.5, method="inverted_cdf")) / 1e6,
                int(manual.collected[indexes].sum()),
            )
        )
    yield from sorted(found, key=lambda caller: -caller.time_ratio)
