"""The only place that gathers what speaks for and against growth in one process.

Each part is judged on its own: types and containers rung by rung, sites by survival, the
ledger by its floor, threads and descriptors like memory. `perfkit.rules.memory_growth`
weighs them.
"""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from perfkit.analysis.ledger import Growth, Ledger, Limit, growth, ledger, memory_limit
from perfkit.analysis.shapes import MIN_POINTS, Shape, shape
from perfkit.analysis.survival import LiveHeap, SiteGrowth, growing_sites, live_heap
from perfkit.analysis.trends import Slope, discoveries, mann_kendall, persistence, theil_sen, warm_up_end
from perfkit.profile import Profile

Floats = NDArray[np.float64]

SETTLE_S = 2.0
"""Time after the tracer's first sign that is left out: its own arrival, and requests in flight filling the picture."""
MIN_RUNGS = 6
"""Rungs a type or container must have been seen at."""
_ARTIFACTS = re.compile(r"^(module )?(perfkit\.probe|perfkit_|_?memray|__perfkit)")
"""Types and owners that the measurement itself brings along."""


@dataclass(frozen=True, slots=True)
class TypeGrowth:
    """How the number of living objects of a type changes from rung to rung."""

    type: str
    objects_per_s: Slope
    bytes_per_s: float | None
    p: float
    every_rung: bool
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class ContainerGrowth:
    """How the length of one container changes from rung to rung.

    `owner` is the path from a module to it, `p` the chance of such a rise without a trend.
    """

    container: str
    type: str
    item_type: str | None
    owner: tuple[str, ...]
    limit_items: int | None
    items_per_s: Slope
    p: float
    every_rung: bool
    persistence_ratio: float
    shape: Shape
    follows_load: bool
    first: int
    last: int
    rungs: int

    @property
    def keeps_growing(self) -> bool:
        """Whether it grew at every rung, at the end at no less than half the first pace, and not with the load."""
        return self.every_rung and self.persistence_ratio >= 0.5 and not self.follows_load


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the growth of one process. Lists are empty when nothing grows *or* nothing was recorded.

    `rungs`, `readings` and `moments` say how often objects, memory and traced allocations were
    looked at after `since_s`; `window_s` is the longest of the three windows.
    """

    pid: int
    since_s: float
    window_s: float
    rungs: int
    readings: int
    moments: int
    ledger: Ledger
    heap: LiveHeap | None
    sites: tuple[SiteGrowth, ...]
    types: tuple[TypeGrowth, ...]
    containers: tuple[ContainerGrowth, ...]
    threads: Growth | None
    descriptors: Growth | None
    limit: Limit | None

    @property
    def traced(self) -> bool:
        """Whether an allocation tracer was in the process: its own memory is then part of the ledger."""
        return self.heap is not None


def gather(profile: Profile, pid: int) -> Evidence:
    """Return what a profile holds about the growth of one process after its warm-up."""
    load = Load.of(profile)
    census, sizes = _of(profile, "object_census", pid), _of(profile, "container_sizes", pid)
    readings, stats = _of(profile, "memory_ledger", pid), _of(profile, "process_stats", pid)
    tracing_s = _of(profile, "heap_usage", pid)["at_ns"].min() / 1e9
    warm_s = _warm_up_end(census)
    # A warm-up that fills the recording is no warm-up: say what the whole of it shows.
    warm_s = warm_s if warm_s < profile.duration_s / 2 else 0.0
    since_s = max(warm_s, (0.0 if np.isnan(tracing_s) else float(tracing_s)) + SETTLE_S)
    heap = live_heap(profile, pid, since_s)
    stats, readings = (frame[frame["at_ns"] >= since_s * 1e9] for frame in (stats, readings))
    census, sizes = (frame[frame["at_ns"] >= warm_s * 1e9] for frame in (census, sizes))
    moments = heap.time_s if heap is not None else np.zeros(0)
    windows = [_span(frame["at_ns"].to_numpy(np.float64) / 1e9) for frame in (census, readings)] + [_span(moments)]
    return Evidence(
        pid=pid,
        since_s=since_s,
        window_s=max(windows),
        rungs=max(census["rung"].nunique(), sizes["rung"].nunique()),
        readings=len(readings),
        moments=len(moments),
        ledger=ledger(profile, pid, since_s),
        heap=heap,
        sites=tuple(growing_sites(heap)) if heap is not None else (),
        types=tuple(growing_types(census)),
        containers=tuple(growing_containers(sizes, load)),
        threads=growth(stats, "threads"),
        descriptors=growth(stats, "descriptors"),
        limit=memory_limit(profile, pid),
    )


def growing_types(census: pd.DataFrame, rate: float = 0.05) -> list[TypeGrowth]:
    """Return the types whose number rises, most objects per second first.

    Mann-Kendall for each type, and of all the types together at most `rate` false ones.

    Args:
        census: rows of `object_census` of one process.
        rate: accepted share of false discoveries.
    """
    own = census[~census["type"].str.match(_ARTIFACTS)]
    objects = own.pivot_table(index="type", columns="rung", values="objects", aggfunc="sum", fill_value=0).sort_index()
    if objects.shape[1] < MIN_RUNGS:
        return []
    sizes = own.pivot_table(index="type", columns="rung", values="size_bytes", aggfunc="sum").reindex_like(objects)
    time = own.groupby("rung")["at_ns"].min().sort_index().to_numpy(np.float64) / 1e9
    counts, bytes_ = objects.to_numpy(np.float64), sizes.to_numpy(np.float64)
    p = np.array([mann_kendall(row, independent=True) if row[-1] > row[0] else 1.0 for row in counts])
    found = [
        TypeGrowth(
            type=str(objects.index[row]),
            objects_per_s=theil_sen(time, counts[row]),
            bytes_per_s=None if np.isnan(bytes_[row]).any() else theil_sen(time, bytes_[row]).estimate,
            p=float(p[row]),
            every_rung=bool((np.diff(counts[row]) > 0).all()),
            first=int(counts[row, 0]),
            last=int(counts[row, -1]),
        )
        for row in np.flatnonzero(discoveries(p, rate)).tolist()
    ]
    return sorted(found, key=lambda each: (-each.objects_per_s.estimate, each.type))


def growing_containers(sizes: pd.DataFrame, load: "Load | None" = None, rate: float = 0.05) -> list[ContainerGrowth]:
    """Return the containers that get longer, most items per second first.

    Containers of the measurement itself are left out, as are those seen at fewer than 6 rungs
    or not at the last one: what comes late or goes is not what memory piles up in.

    Args:
        sizes: rows of `container_sizes` of one process.
        load: what the load generator sent, to tell growth with the load from growth with its sum.
        rate: accepted share of false discoveries.
    """
    seen, p = [], []
    own = sizes[~sizes["owner"].fillna("").str.match(_ARTIFACTS)].sort_values(["container", "rung"])
    newest = own["rung"].max() if len(own) else 0
    for name, rows in own.groupby("container", sort=True):
        if len(rows) >= MIN_RUNGS and rows["rung"].iloc[-1] == newest:
            items = rows["items"].to_numpy(np.float64)
            seen.append((str(name), rows, items))
            p.append(mann_kendall(items, independent=True) if items[-1] > items[0] else 1.0)
    found = [
        _container(*seen[number], p=p[number], load=load) for number in np.flatnonzero(discoveries(p, rate)).tolist()
    ]
    return sorted(found, key=lambda each: (-each.items_per_s.estimate, each.container))


@dataclass(frozen=True, slots=True)
class Load:
    """When the load generator sent its requests, in seconds, increasing."""

    sent_s: Floats

    @classmethod
    def of(cls, profile: Profile) -> "Load | None":
        """Return the load of a profile, or None when perfkit did not send it."""
        sent = np.sort(profile.table("requests")["start_ns"].to_numpy()) / 1e9
        return cls(sent) if len(sent) else None

    def explains(self, time_s: Floats, values: Floats) -> bool:
        """Return whether values follow the requests per second rather than their sum.

        Sessions that live as long as their connection follow the rate; what every request
        leaves behind follows the sum. Decided by which straight line leaves half as much over.

        Args:
            time_s: n times, increasing, seconds.
            values: n readings.
        """
        total = np.searchsorted(self.sent_s, time_s).astype(np.float64)
        spacing = float(np.median(np.diff(time_s)))
        rate = (total - np.searchsorted(self.sent_s, time_s - spacing)) / spacing
        if np.ptp(rate) < 0.1 * rate.max(initial=0.0) or np.ptp(total) == 0:
            return False
        return _left_over(rate, values) < 0.5 * _left_over(total, values)


def _container(name: str, rows: pd.DataFrame, items: Floats, *, p: float, load: Load | None) -> ContainerGrowth:
    """Return the growth of one container."""
    time = rows["at_ns"].to_numpy(np.float64) / 1e9
    last = rows.iloc[-1]
    owner = "" if pd.isna(last["owner"]) else str(last["owner"])
    limit = last.get("limit_items")
    assert len(time) >= MIN_POINTS
    return ContainerGrowth(
        container=name,
        type=str(last["type"]).removeprefix("builtins."),
        item_type=None if pd.isna(last["item_type"]) else str(last["item_type"]),
        owner=tuple(step for step in owner.split(" > ") if step),
        limit_items=None if limit is None or pd.isna(limit) else int(limit),
        items_per_s=theil_sen(time, items),
        p=p,
        every_rung=bool((np.diff(items) > 0).all()),
        persistence_ratio=persistence(time, items)[1],
        shape=shape(time, items),
        follows_load=load is not None and load.explains(time, items),
        first=int(items[0]),
        last=int(items[-1]),
        rungs=len(items),
    )


def _warm_up_end(census: pd.DataFrame) -> float:
    """Return when the target had imported what it imports, in seconds; 0 when it is not known."""
    modules = census[census["type"].isin(["builtins.module", "module"])].sort_values("rung")
    return warm_up_end(modules["at_ns"].to_numpy(np.float64) / 1e9, modules["objects"].to_numpy(np.float64))


def _left_over(x: Floats, y: Floats) -> float:
    """Return the squared rest of a straight line through (x, y)."""
    columns = np.column_stack([np.ones_like(x), x])
    rest = y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0]
    return float(rest @ rest)


def _span(time_s: Floats) -> float:
    """Return the length of a series in seconds."""
    return float(np.ptp(time_s)) if len(time_s) else 0.0


def _of(profile: Profile, table: str, pid: int) -> pd.DataFrame:
    """Return the rows of one process, in order of time."""
    frame = profile.frame(table)
    return frame[frame["pid"] == pid].sort_values("at_ns", kind="stable")
