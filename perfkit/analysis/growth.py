"""The only place that gathers what speaks for and against growth in one process.

Each part is judged on its own: types and containers rung by rung, what piles up between two
snapshots of the heap, sites by survival, the ledger by its floor, threads and descriptors like
memory. `perfkit.rules.memory_growth` weighs them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from perfkit.analysis.heap_graph import HeapGraph
from perfkit.analysis.heap_growth import HeapGrowth, Pile, between
from perfkit.analysis.ledger import Growth, Ledger, Limit, growth, ledger, memory_limit
from perfkit.analysis.pools import pools_of_process
from perfkit.analysis.shapes import MIN_POINTS, Shape, shape
from perfkit.analysis.survival import LiveHeap, Place, SiteGrowth, growing_sites, live_heap, places
from perfkit.analysis.trends import Slope, discoveries, mann_kendall, persistence, theil_sen, warm_up_end
from perfkit.profile import Profile

Floats = NDArray[np.float64]

SETTLE_S = 2.0
"""Time after the tracer's first sign that is left out: its own arrival, and requests in flight filling the picture."""
MIN_RUNGS = 6
"""Rungs a type or container must have been seen at."""
MAX_P = 1e-4
"""Chance of a rise without a trend that a container may have which also gets shorter at times."""
_SIGMAS = 6.0
"""Standard deviations by which a number must have grown between two moments: there are many classes to choose from."""
_KEPT_OF_POOL = 0.25
"""Share of the connections that a pool has opened which may be out for good: Little's law has some noise."""
MIN_SNAPSHOT_S = 5.0
"""Snapshots closer to each other than this show requests in flight rather than growth."""
_INSIDE_OF_C = ("reference", "cache")
"""Steps from an object that is written in C to what it has inside: no name leads there."""
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
class CodePlace:
    """A line that deals with a container: `role` is inserts, removes, evicts, bounds or expires.

    `limit_items` is the length that a bound compares with, `ttl_s` the age at which an entry
    expires, `has_run` whether the line has run since the program began (None: not known).
    """

    role: str
    function: str
    file: str | None
    line: int | None
    limit_items: int | None = None
    ttl_s: float | None = None
    has_run: bool | None = None


@dataclass(frozen=True, slots=True)
class ContainerGrowth:
    """How one container, or several that are reached alike, gets longer.

    `owner` is the path from a root to it, `p` the chance of such a rise without a trend. `pile`
    is what two snapshots of the heap say of it, and `bytes_per_s` how fast everything behind it
    grows by them. With fewer than 6 `rungs` its length was not followed: then `backed` says
    whether the memory of the process kept growing. `code` is who changes it. `is_unlimited`: it is of
    a type that can have a limit, and says that it has none.
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
    shape: Shape | None
    follows_load: bool
    first: int
    last: int
    rungs: int
    pile: Pile | None = None
    bytes_per_s: float | None = None
    backed: bool = False
    code: tuple[CodePlace, ...] = ()
    is_unlimited: bool = False

    @property
    def keeps_growing(self) -> bool:
        """Whether it grew at every rung, at the end at no less than half the first pace, and not with the load.

        Where entries go as well as come, a trend that no random walk explains will do.
        """
        if self.follows_load:
            return False
        if self.rungs < MIN_RUNGS:
            return self.backed
        rises = self.every_rung or (self.p <= MAX_P and self.items_per_s.grows)
        return rises and self.persistence_ratio >= 0.5

    def places(self, *roles: str) -> list[CodePlace]:
        """Return who changes it in one of some ways."""
        return [place for place in self.code if place.role in roles]


@dataclass(frozen=True, slots=True)
class Added:
    """The kind of thread or descriptor that became most more numerous, and who started it, where that is known."""

    what: str
    first: int
    last: int
    start: Place | None = None


@dataclass(frozen=True, slots=True)
class FillingPool:
    """A pool that got more connections, or threads, while it was recorded, and has not reached its limit.

    Known by its events, which say that what is taken comes back; else `container` keeps what it has. `limit` is
    None where only code was seen that will limit it: `ends`. `what` it opens, in the plural.
    """

    name: str
    first: int
    last: int
    limit: int | None
    ends: CodePlace | None = None
    container: ContainerGrowth | None = None
    what: str = "connections"

    @property
    def opened(self) -> int:
        """Return how many it has more."""
        return self.last - self.first


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
    heap_growth: HeapGrowth | None = None
    snapshots_s: tuple[float, float] | None = None
    """When the two snapshots of the heap were taken."""
    threads_added: "Added | None" = None
    descriptors_added: "Added | None" = None
    filling_pool: "FillingPool | None" = None
    collector_rests: bool = False
    """Whether the garbage collector is switched off, or did not run by itself while it was recorded."""

    @property
    def between_s(self) -> float:
        """Return the time between the two snapshots, in seconds; 0 without them."""
        return self.snapshots_s[1] - self.snapshots_s[0] if self.snapshots_s is not None else 0.0

    @property
    def python_bytes_per_s(self) -> float | None:
        """Return how fast Python's objects grew between two snapshots, in bytes per second; None without them."""
        return None if self.heap_growth is None else self.heap_growth.bytes / self.between_s

    @property
    def traced(self) -> bool:
        """Whether an allocation tracer was in the process: its own memory is then part of the ledger."""
        return self.heap is not None


def gather(profile: Profile, pid: int) -> Evidence:
    """Return what a profile holds about the growth of one process after its warm-up."""
    load = Load.of(profile, pid)
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
    parts = ledger(profile, pid, since_s)
    sites = tuple(growing_sites(heap)) if heap is not None else ()
    snapshots = between(profile, pid)
    grown, taken_s = (snapshots[0], snapshots[1:]) if snapshots else (None, None)
    between_s = taken_s[1] - taken_s[0] if taken_s else 0.0
    if between_s < MIN_SNAPSHOT_S:
        grown = None
    containers = growing_containers(sizes, load)
    if grown is not None:
        containers = with_piles(containers, grown, between_s, census, sizes, load, backing=Backing(sites, parts))
    return Evidence(
        pid=pid,
        since_s=since_s,
        window_s=max([*windows, between_s]),
        rungs=max(census["rung"].nunique(), sizes["rung"].nunique()),
        readings=len(readings),
        moments=len(moments),
        ledger=parts,
        heap=heap,
        sites=sites,
        types=tuple(growing_types(census)),
        containers=tuple(with_code(containers, _code(profile, pid))),
        threads=growth(stats, "threads"),
        descriptors=growth(stats, "descriptors"),
        limit=memory_limit(profile, pid),
        heap_growth=grown,
        snapshots_s=taken_s,
        threads_added=_threads_added(profile, pid),
        descriptors_added=_descriptors_added(profile, pid),
        filling_pool=_filling_pool(profile, pid),
        collector_rests=_collector_rests(profile, pid),
    )


def _collector_rests(profile: Profile, pid: int) -> bool:
    """Return whether the garbage collector is switched off or did not run by itself; False when it is not known."""
    settings = _of(profile, "settings", pid)
    enabled = settings[settings["name"] == "gc.enabled"]["value"].tolist()
    pauses = _of_process(profile, "gc_pauses", pid)
    by_itself = int((~pauses["manual"].fillna(False).astype(bool)).sum())
    return bool(enabled) and (enabled[-1] == "false" or by_itself == 0)


def _threads_added(profile: Profile, pid: int) -> Added | None:
    """Return the threads that were added, by what they run and who started them."""
    rows = _of(profile, "python_threads", pid)
    if rows.empty:
        return None
    keys = ["name", "function", "start_stack_id"]
    most = _most_added(rows, keys, "threads")
    if most is None:
        return None
    (name, function, stack), first, last = most
    start = places(profile).get(int(stack)) if stack >= 0 else None
    return Added(f"{name} ({function})" if function else str(name), first, last, start)


def _descriptors_added(profile: Profile, pid: int) -> Added | None:
    """Return the descriptors that were added, by what they are."""
    rows = _of(profile, "descriptors", pid)
    most = _most_added(rows, ["kind", "name"], "descriptors") if len(rows) else None
    if most is None:
        return None
    (kind, name), first, last = most
    return Added(f"{kind} {name}".strip(), first, last)


def _filling_pool(profile: Profile, pid: int) -> FillingPool | None:
    """Return the pool whose events say that it opened most within its limit; None: none did, or it does not come back.

    Connections that are not given back are for `checkout_leak`.
    """
    found = []
    for pool in pools_of_process(profile, pid):
        opened = pool.gauge("open")
        if pool.limit is None or not opened or not pool.returned:
            continue
        (_, first), (_, last) = opened[0], opened[-1]
        left = pool.never_returned() or 0.0
        if first < last <= pool.limit and left <= _KEPT_OF_POOL * (last - first):
            found.append(FillingPool(pool.name, first, last, pool.limit))
    return max(found, key=lambda each: each.last - each.first, default=None)


def _most_added(rows: pd.DataFrame, keys: list[str], column: str) -> tuple[tuple[Any, ...], int, int] | None:
    """Return the group whose number grew most from the first to the last reading, and both numbers."""
    filled = rows.assign(**{key: rows[key].fillna(-1 if key.endswith("_id") else "") for key in keys})
    ends = [filled[filled["at_ns"] == at] for at in (filled["at_ns"].min(), filled["at_ns"].max())]
    first, last = (end.groupby(keys)[column].sum() for end in ends)
    more = last.sub(first, fill_value=0)
    if more.empty or more.max() <= 0:
        return None
    key = more.idxmax()
    return tuple(key), int(first.get(key, 0)), int(last.get(key, 0))


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
            items = _items(rows)
            seen.append((str(name), rows, items))
            p.append(mann_kendall(items, independent=True) if items[-1] > items[0] else 1.0)
    found = [
        _container(*seen[number], p=p[number], load=load) for number in np.flatnonzero(discoveries(p, rate)).tolist()
    ]
    return sorted(found, key=lambda each: (-each.items_per_s.estimate, each.container))


def with_piles(
    containers: Sequence[ContainerGrowth],
    grown: HeapGrowth,
    between_s: float,
    census: pd.DataFrame,
    sizes: pd.DataFrame,
    load: "Load | None" = None,
    *,
    backing: "Backing | None" = None,
) -> list[ContainerGrowth]:
    """Return the containers, and whatever else piles up between two snapshots of the heap, fastest first.

    How a pile grew in between is told by the lengths of its containers, where the census followed
    them, else by the number of objects of the type that piles up; else it is not known.

    Args:
        containers: the growing containers of the census.
        grown: what two snapshots differ in.
        between_s: seconds between the two.
        census: rows of `object_census` of one process.
        sizes: rows of `container_sizes` of the same.
        load: what the load generator sent.
        backing: what else says that growth went on.
    """
    rows_of = {str(name): rows for name, rows in sizes.sort_values(["container", "rung"]).groupby("container")}
    by_address: dict[int, list[str]] = {}
    for name in rows_of:
        by_address.setdefault(int(name.partition(".")[0], 16), []).append(name)
    rest = {each.container: each for each in containers}
    piles = []
    for pile in grown.piles:
        if any(_ARTIFACTS.match(step) for step in pile.steps[:1]):
            continue
        names = [name for address in pile.holder_ids.tolist() for name in by_address.get(address, ())]
        for name in names:
            rest.pop(name, None)
        shell, step = _shell(grown.after, pile)
        if around := by_address.get(shell, []):
            if step == "reference":
                # The list within a queue that is written in C is the queue's own affair, with places that are empty.
                pile = replace(pile, type=str(rows_of[around[0]]["type"].iloc[-1]), steps=pile.steps[:-1])  # noqa: PLW2901
            names = around
            for name in names:
                rest.pop(name, None)
        series = _lengths([rows_of[name] for name in names])
        limits = [rows_of[name]["limit_items"].iloc[-1] for name in names]
        if series is None and len(pile.holders) > 1:
            # Many short ones in a container that does not get longer: it knows their sum.
            outer = by_address.get(_around(grown.after, pile.node), [])
            series = _lengths([rows_of[name] for name in outer if rows_of[name]["inner_items"].notna().all()])
            names = outer or names
            for name in outer:
                rest.pop(name, None)
        if series is None and pile.item_type is not None:
            series = _numbers(census, pile.item_type, pile.objects)
        backed = backing is not None and backing.supports(pile, between_s)
        found = _piled(pile, between_s, series, load, limits=limits, backed=backed)
        piles.append(replace(found, container=names[0]) if names else found)
    known = [_owned(each, grown.after) for each in rest.values()]
    return sorted(piles, key=lambda each: -(each.bytes_per_s or 0.0)) + known


@dataclass(frozen=True, slots=True)
class Backing:
    """What says whether growth between two snapshots went on in between: lines that allocate, parts of the memory."""

    sites: Sequence[SiteGrowth]
    parts: Ledger

    def supports(self, pile: Pile, between_s: float) -> bool:
        """Return whether a pile is more than two moments of something that goes up and down.

        It must have grown by more than independent arrivals and departures would make it differ,
        and either a line leaves survivors at its pace to the end, or Python's blocks or the
        traced memory keep growing at half its pace or more.
        """
        if pile.item_type is not None and pile.objects < _SIGMAS * np.sqrt(pile.items_before + pile.items_after):
            return False
        objects_per_s, bytes_per_s = pile.objects / between_s, pile.bytes / between_s
        surviving = [site for site in self.sites if site.keeps_growing and site.p_leak >= 0.5]
        by_site = (
            any(site.objects_per_s.estimate >= 0.5 * objects_per_s > 0 for site in surviving)
            and sum(site.bytes_per_s.estimate for site in surviving) >= 0.3 * bytes_per_s
        )
        paces = ((self.parts.python_blocks, objects_per_s), (self.parts.traced, bytes_per_s))
        by_part = any(
            part is not None and part.keeps_growing and part.slope.estimate >= 0.5 * pace > 0 for part, pace in paces
        )
        return by_site or by_part


def _owned(container: ContainerGrowth, graph: HeapGraph) -> ContainerGrowth:
    """Return a container with the path that a snapshot knows, where the census found none."""
    if container.owner:
        return container
    address = int(container.container.partition(".")[0], 16)
    place = int(np.searchsorted(graph.object_id, address))
    if place == len(graph) or graph.object_id[place] != address or graph.is_ours[place]:
        return container
    return replace(container, owner=tuple(graph.steps(place)[:-1]))


def _piled(
    pile: Pile,
    between_s: float,
    series: tuple[Floats, Floats] | None,
    load: "Load | None",
    *,
    limits: Sequence[float | None],
    backed: bool,
) -> ContainerGrowth:
    """Return the growth of a pile, by its length over time where that is known."""
    shared: dict[str, Any] = {
        "container": f"{int(pile.holder_ids[0]):#x}",
        "type": pile.type.removeprefix("builtins."),
        "item_type": pile.item_type,
        "owner": pile.steps,
        # Several have one limit each, which says nothing about all of them.
        "limit_items": _limit(limits[0]) if len(limits) == 1 else None,
        "is_unlimited": bool(limits) and all(_has_none(limit) for limit in limits),
        "pile": pile,
        "bytes_per_s": pile.bytes / between_s,
    }
    if series is None:
        rate = pile.objects / between_s
        return ContainerGrowth(
            **shared,
            items_per_s=Slope(rate, rate, rate, 1.0, 2),
            p=1.0,
            every_rung=False,
            persistence_ratio=1.0,
            shape=None,
            follows_load=False,
            first=pile.items_before,
            last=pile.items_after,
            rungs=2,
            backed=backed,
        )
    time, items = series
    return ContainerGrowth(**shared, **_course(time, items, load), p=mann_kendall(items, independent=True))


def _shell(graph: HeapGraph, pile: Pile) -> tuple[int, str]:
    """Return (address, step) of the object written in C that a pile is the inside of, such as a queue; 0: of none."""
    parent = int(graph.parent[pile.node])
    if len(pile.holders) > 1 or parent >= len(graph) or not pile.steps:
        return 0, ""
    step = graph.step(parent, pile.node)
    return (int(graph.object_id[parent]), step) if step == pile.steps[-1] and step in _INSIDE_OF_C else (0, "")


def _around(graph: HeapGraph, node: int) -> int:
    """Return the address of what an object is kept in, 0 when it is a root."""
    parent = int(graph.parent[node])
    return int(graph.object_id[parent]) if parent < len(graph) else 0


def _items(rows: pd.DataFrame) -> Floats:
    """Return the length of a container over time; of one that holds others, the lengths of these are added."""
    items = rows["items"].to_numpy(np.float64)
    if "inner_items" in rows and rows["inner_items"].notna().all():
        return np.asarray(items + rows["inner_items"].to_numpy(np.float64))
    return items


def _lengths(parts: Sequence[pd.DataFrame]) -> tuple[Floats, Floats] | None:
    """Return (seconds, items) of containers together, at the rungs that all of them were seen at; None: too few."""
    if not parts:
        return None
    longest = max(len(rows) for rows in parts)
    # One that was noticed late would look like growth when it comes.
    whole = [rows.set_index("rung") for rows in parts if len(rows) == longest]
    together = pd.concat([pd.Series(_items(rows), rows.index) for rows in whole], axis=1).dropna()
    if len(together) < MIN_RUNGS:
        return None
    time = whole[0]["at_ns"].reindex(together.index).to_numpy(np.float64) / 1e9
    return time, together.sum(axis=1).to_numpy(np.float64)


def _numbers(census: pd.DataFrame, kind: str, objects: int) -> tuple[Floats, Floats] | None:
    """Return (seconds, objects) of a type at each rung; None where it grows by other objects than those of a pile."""
    rows = census[census["type"] == kind].sort_values("rung")
    counts = rows["objects"].to_numpy(np.float64)
    if len(counts) < MIN_RUNGS or not 0.5 * objects <= counts[-1] - counts[0] <= 1.5 * objects:
        return None
    return rows["at_ns"].to_numpy(np.float64) / 1e9, counts


def _limit(cell: float | None) -> int | None:
    """Return the limit that a container declares, None when it declares none, or that it has none."""
    return int(cell) if cell is not None and not pd.isna(cell) and cell > 0 else None


def _has_none(cell: float | None) -> bool:
    """Return whether a container says that it has no limit."""
    return cell is not None and not pd.isna(cell) and cell == 0


def with_code(containers: Sequence[ContainerGrowth], code: Mapping[str, Sequence[CodePlace]]) -> list[ContainerGrowth]:
    """Return the containers with who changes them, and the limit that their code keeps where they declare none."""
    found = []
    for each in containers:
        places = tuple(code.get(each.container.partition(".")[0], ()))
        bounds = [place for place in places if place.role == "bounds" and place.has_run is not False]
        limit = each.limit_items or max((place.limit_items for place in bounds if place.limit_items), default=None)
        found.append(replace(each, code=places, limit_items=limit) if places else each)
    return found


def _code(profile: Profile, pid: int) -> dict[str, list[CodePlace]]:
    """Return who changes each container, by its address."""
    rows = _of_process(profile, "container_code", pid)
    found: dict[str, list[CodePlace]] = {}
    fields = ("role", "function", "file", "line", "limit_items", "ttl_s", "has_run")
    # A match by the name of an attribute alone may be about another container.
    for row in rows[rows["same_class"].fillna(False)].to_dict("records"):
        cells: dict[str, Any] = {name: None if pd.isna(row[name]) else row[name] for name in fields}
        found.setdefault(str(row["container"]).partition(".")[0], []).append(CodePlace(**cells))
    return found


@dataclass(frozen=True, slots=True)
class Load:
    """What the process was asked to do: `total` work done until each of n times `time_s`, both increasing.

    `sent_s` are the requests of the load generator, empty when it sent none: then CPU time stands
    in for them, of which only large differences (`variation` of the fastest) mean anything.
    """

    sent_s: Floats
    time_s: Floats
    total: Floats
    variation: float

    @classmethod
    def requests(cls, sent_s: Floats) -> "Load":
        """Return the load of requests that were sent at some times, in seconds, increasing."""
        return cls(sent_s, sent_s, np.arange(1.0, len(sent_s) + 1), 0.1)

    @classmethod
    def of(cls, profile: Profile, pid: int | None = None) -> "Load | None":
        """Return the load of a process: requests, else its CPU time; None when neither was recorded."""
        sent = np.sort(profile.table("requests")["start_ns"].to_numpy()) / 1e9
        if len(sent):
            return cls.requests(sent)
        stats = _of(profile, "process_stats", pid) if pid is not None else pd.DataFrame()
        if len(stats) < MIN_RUNGS:
            return None
        used = (stats["cpu_user_ns"] + stats["cpu_system_ns"]).to_numpy(np.float64) / 1e9
        return cls(np.zeros(0), stats["at_ns"].to_numpy(np.float64) / 1e9, used, 0.5)

    def explains(self, time_s: Floats, values: Floats) -> bool:
        """Return whether values follow the work per second rather than its sum.

        Sessions that live as long as their connection follow the rate; what every request
        leaves behind follows the sum. Decided by which straight line leaves half as much over.

        Args:
            time_s: n times, increasing, seconds.
            values: n readings.
        """
        spacing = float(np.median(np.diff(time_s)))
        if len(self.sent_s):
            total = np.searchsorted(self.sent_s, time_s).astype(np.float64)
            before = np.searchsorted(self.sent_s, time_s - spacing).astype(np.float64)
        else:
            total, before = (np.interp(at, self.time_s, self.total) for at in (time_s, time_s - spacing))
        rate = (total - before) / spacing
        if np.ptp(rate) < self.variation * rate.max(initial=0.0) or np.ptp(total) == 0:
            return False
        return _left_over(rate, values) < 0.5 * _left_over(total, values)


def _container(name: str, rows: pd.DataFrame, items: Floats, *, p: float, load: Load | None) -> ContainerGrowth:
    """Return the growth of one container."""
    last = rows.iloc[-1]
    owner = "" if pd.isna(last["owner"]) else str(last["owner"])
    limit = last.get("limit_items")
    return ContainerGrowth(
        container=name,
        type=str(last["type"]).removeprefix("builtins."),
        item_type=None if pd.isna(last["item_type"]) else str(last["item_type"]),
        owner=tuple(step for step in owner.split(" > ") if step),
        limit_items=_limit(limit),
        is_unlimited=_has_none(limit),
        p=p,
        **_course(rows["at_ns"].to_numpy(np.float64) / 1e9, items, load),
    )


def _course(time: Floats, items: Floats, load: "Load | None") -> dict[str, Any]:
    """Return how a number of items goes over time, as fields of ContainerGrowth."""
    assert len(time) >= MIN_POINTS
    return {
        "items_per_s": theil_sen(time, items),
        "every_rung": bool((np.diff(items) > 0).all()),
        "persistence_ratio": persistence(time, items)[1],
        "shape": shape(time, items),
        "follows_load": load is not None and load.explains(time, items),
        "first": int(items[0]),
        "last": int(items[-1]),
        "rungs": len(items),
    }


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
    return _of_process(profile, table, pid).sort_values("at_ns", kind="stable")


def _of_process(profile: Profile, table: str, pid: int) -> pd.DataFrame:
    """Return the rows of one process."""
    frame = profile.frame(table)
    return frame[frame["pid"] == pid]
