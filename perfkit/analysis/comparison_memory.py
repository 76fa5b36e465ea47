"""The only place that compares what memory consists of in two recordings: resident, by path, by type, by line.

Only the resident memory is judged. The other tables say what there is more or less of; whether
that is growth without end is for `comparison_growth`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from perfkit.analysis.changes import block_of, measured
from perfkit.analysis.comparison import METRICS, Row, row
from perfkit.analysis.growth import MIN_RUNGS
from perfkit.analysis.heap_graph import HeapGraph, by_type
from perfkit.analysis.retainers import by_path
from perfkit.analysis.survival import MIN_POINTS, live_heap
from perfkit.analysis.trends import Slope, theil_sen
from perfkit.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Callable

Floats = NDArray[np.float64]

TOP = 20
"""Rows of a table that are told."""
MIN_SHARE = 0.02
"""A difference of less than this share of BASE's heap is not told (Eclipse MAT, suspects2.xml: 2 % of the baseline)."""
SAME_END = 3
"""Last steps of a path that have to be the same: the attribute, what it holds, and its type."""
CANDIDATES = 40
"""Lines or types of each recording whose rates are compared: those that grow fastest."""
_ARTIFACTS = r"^(perfkit[ ._]probe|perfkit_|perfkit >|_?memray|__perfkit)"
"""Types and paths that the measurement itself brings along."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the heap before and after: of a path, of the objects that a type holds, or of a type."""

    name: str
    objects: tuple[int, int]
    size_bytes: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast objects of a type, or bytes of a line, become more: before and after, with their intervals."""

    name: str
    file: str | None
    line: int | None
    unit: str
    base: Slope
    head: Slope

    @property
    def differs(self) -> bool:
        """Whether the intervals do not overlap."""
        return self.base.high < self.head.low or self.head.high < self.base.low


@dataclass(frozen=True, slots=True)
class HeapChange:
    """What there is more or less of. Each table is empty when one of the recordings lacks the data for it.

    `paths` and `holders` compare the last snapshots; objects count once in each, so that the rows add
    up. `holders` are bytes by the type of their immediate dominator. `types` compares the last census,
    `type_paces` and `line_paces` what the whole of the recordings says.
    """

    paths: tuple[Part, ...]
    holders: tuple[Part, ...]
    types: tuple[Part, ...]
    type_paces: tuple[Pace, ...]
    line_paces: tuple[Pace, ...]


def resident_rows(base: Profile, head: Profile) -> list[Row]:
    """Return the mean resident memory of all processes; no rows unless both recorded it."""
    found = []
    for profile in (base, head):
        readings = profile.frame("memory_ledger")
        block = block_of(readings["at_ns"].to_numpy(), 0, profile.manifest.duration_ns + 1)
        pids, sizes = readings["pid"].to_numpy(), readings["rss_bytes"].to_numpy(np.float64)
        if not len(readings):
            return []

        def number(
            kept: NDArray[np.bool_],
            block: NDArray[np.int64] = block,
            pids: NDArray[np.int64] = pids,
            sizes: Floats = sizes,
        ) -> float:
            chosen = (block >= 0) & kept[block]
            return float(sum(np.mean(sizes[chosen & (pids == pid)]) for pid in np.unique(pids[chosen])))

        found.append(measured(number, METRICS["resident_bytes"].effect))
    return [row("resident_bytes", *found)]


def heap_change(profiles: tuple[Profile, Profile], pids: tuple[int, int], since_s: tuple[float, float]) -> HeapChange:
    """Return what there is more or less of in the heaps of two processes.

    Args:
        profiles: the recordings before and after.
        pids: the process of each.
        since_s: end of the warm-up in each, in seconds.
    """
    graphs = [HeapGraph.of(profile, pid, -1) for profile, pid in zip(profiles, pids, strict=True)]
    paths: tuple[Part, ...] = ()
    holders: tuple[Part, ...] = ()
    if graphs[0] is not None and graphs[1] is not None:
        tables = [by_path(graph) for graph in graphs if graph is not None]
        paths = _parts(_paired([_mapping(table, "path", "size_bytes") for table in tables]))
        tables = [by_type(graph) for graph in graphs if graph is not None]
        holders = _parts([_mapping(table, "type", "held_bytes") for table in tables])
    censuses = [_census(profile, pid) for profile, pid in zip(profiles, pids, strict=True)]
    counted = all(len(census) for census in censuses)
    return HeapChange(
        paths,
        holders,
        _parts([_last(census) for census in censuses]) if counted else (),
        _paces("objects/s", [_type_slopes(census, since) for census, since in zip(censuses, since_s, strict=True)]),
        _paces(
            "bytes/s",
            [_line_slopes(profile, pid, since) for profile, pid, since in zip(profiles, pids, since_s, strict=True)],
        ),
    )


def _paired(sides: list[dict[str, tuple[int, int]]]) -> list[dict[str, tuple[int, int]]]:
    """Return objects and bytes by path, BASE's paths renamed where the same things are reached another way in HEAD.

    Which of several shortest paths to an object is told may differ from run to run. A path that only one
    has and that ends like exactly one that only the other has is taken for the same.
    """
    before, after = sides
    ends: list[dict[str, list[str]]] = [{}, {}]
    for found, mine, other in ((ends[0], before, after), (ends[1], after, before)):
        for name in mine.keys() - other.keys():
            steps = name.split(" > ")
            if len(steps) > SAME_END:
                found.setdefault(" > ".join(steps[-SAME_END:]), []).append(name)
    renamed = {
        old[0]: ends[1][end][0] for end, old in ends[0].items() if len(old) == 1 and len(ends[1].get(end, ())) == 1
    }
    return [{renamed.get(name, name): size for name, size in before.items()}, after]


def _mapping(table: pd.DataFrame, name: str, size: str) -> dict[str, tuple[int, int]]:
    """Return objects and bytes by name."""
    return {
        str(key): (int(objects), int(size_bytes))
        for key, objects, size_bytes in table[[name, "objects", size]].itertuples(index=False)
    }


def _parts(sides: list[dict[str, tuple[int, int]]]) -> tuple[Part, ...]:
    """Return the parts that differ by enough, the largest difference first."""
    least = max(MIN_SHARE * sum(size for _objects, size in sides[0].values()), 1)
    names = sorted(name for name in sides[0].keys() | sides[1].keys() if not re.match(_ARTIFACTS, name))
    parts = [Part(name, *zip(sides[0].get(name, (0, 0)), sides[1].get(name, (0, 0)), strict=True)) for name in names]
    differing = [part for part in parts if abs(part.size_bytes[1] - part.size_bytes[0]) >= least]
    return tuple(sorted(differing, key=lambda part: (-abs(part.size_bytes[1] - part.size_bytes[0]), part.name))[:TOP])


def _census(profile: Profile, pid: int) -> pd.DataFrame:
    """Return the census of one process without perfkit's own types."""
    census = profile.frame("object_census")
    return census[(census["pid"] == pid) & ~census["type"].str.match(_ARTIFACTS)]


def _last(census: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Return objects and bytes by type at the last rung, where the bytes are known."""
    last = census[census["rung"] == census["rung"].max()].dropna(subset=["size_bytes"])
    return _mapping(last, "type", "size_bytes")


def _type_slopes(census: pd.DataFrame, since_s: float) -> dict[tuple[str, str | None], tuple[Slope, int | None]] | None:
    """Return how fast the objects of each type become more; None with too few rungs."""
    census = census[census["at_ns"] >= since_s * 1e9]
    objects = census.pivot_table(index="type", columns="rung", values="objects", aggfunc="sum", fill_value=0)
    if objects.shape[1] < MIN_RUNGS:
        return None
    time = census.groupby("rung")["at_ns"].min().sort_index().to_numpy(np.float64) / 1e9
    counts = objects.to_numpy(np.float64)
    return {
        (str(objects.index[number]), None): (theil_sen(time, counts[number]), None) for number in _fastest(time, counts)
    }


def _line_slopes(
    profile: Profile, pid: int, since_s: float
) -> dict[tuple[str, str | None], tuple[Slope, int | None]] | None:
    """Return how fast the bytes that each function keeps become more; None without a tracer, or too short."""
    heap = live_heap(profile, pid, since_s)
    if heap is None or len(heap.time_s) < MIN_POINTS:
        return None
    # By function: lines move from one version to the next.
    keys = list(dict.fromkeys((site.function, site.file) for site in heap.sites))
    rows_of: dict[tuple[str, str | None], list[int]] = {key: [] for key in keys}
    for number, site in enumerate(heap.sites):
        rows_of[site.function, site.file].append(number)
    live = np.array([heap.live_bytes[rows].sum(axis=0) for rows in rows_of.values()])
    found = {}
    for number in _fastest(heap.time_s, live):
        rows = rows_of[keys[number]]
        most = rows[int(np.argmax(heap.live_bytes[rows, -1]))]
        found[keys[number]] = theil_sen(heap.time_s, live[number]), heap.sites[most].line
    return found


def _fastest(time: Floats, values: Floats) -> list[int]:
    """Return the rows that rise or fall most, by least squares."""
    centred = time - time.mean()
    steepness = np.abs(values @ centred)
    return [int(number) for number in np.argsort(-steepness, kind="stable")[:CANDIDATES] if steepness[number] > 0]


_Slopes = Mapping[tuple[str, str | None], tuple[Slope, int | None]]
_NONE = Slope(0.0, 0.0, 0.0, 1.0, 0)


def _paces(unit: str, sides: list["_Slopes | None"]) -> tuple[Pace, ...]:
    """Return what grows at another pace, the largest difference first."""
    before, after = sides
    if before is None or after is None:
        return ()
    paces = []
    for name, file in sorted(before.keys() | after.keys(), key=str):
        (then, old), (now, new) = (side.get((name, file), (_NONE, None)) for side in (before, after))
        paces.append(Pace(name, file, new if new is not None else old, unit, then, now))
    moved: Callable[[Pace], float] = lambda pace: abs(pace.head.estimate - pace.base.estimate)  # noqa: E731
    differing = sorted((pace for pace in paces if pace.differs and moved(pace) > 0), key=lambda pace: -moved(pace))
    return tuple(each for each in differing[:TOP] if moved(each) >= MIN_SHARE * moved(differing[0]))
