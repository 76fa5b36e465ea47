"""The only place that decides what a view shows when the reader did not say: which process, from when on."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from perfkit.analysis.gc_case import Case
from perfkit.analysis.gc_case import gather as gather_gc
from perfkit.analysis.growth import Evidence, Load, gather
from perfkit.analysis.heap_graph import HeapGraph, snapshots
from perfkit.analysis.leak_unit import LeakUnit, leak_units
from perfkit.analysis.pools import Pool, pools_of_process
from perfkit.analysis.retainers import newcomers
from perfkit.profile import Profile


def chosen_pid(profile: Profile, pid: int | None) -> int:
    """Return `pid`, or the main process of the recording when it is None or 0; -1 when there is none."""
    if pid:
        return pid
    return profile.pids[0] if profile.pids else -1


def chosen_warmup_s(profile: Profile, pid: int, warmup_s: float | None) -> float:
    """Return `warmup_s`, or where the rule of memory growth saw the warm-up end when it is None or negative."""
    if warmup_s is not None and warmup_s >= 0:
        return warmup_s
    return evidence(profile, pid).since_s


@lru_cache(maxsize=4)
def evidence(profile: Profile, pid: int) -> Evidence:
    """Return what the rule of memory growth looks at, so that views and verdict tell one story."""
    return gather(profile, pid)


def pools_of(profile: Profile, pid: int | None) -> tuple[Pool, ...]:
    """Return the connection pools of a process, the most used first; of the main one when `pid` is None or 0."""
    pid = chosen_pid(profile, pid)
    return tuple(sorted(pools_of_process(profile, pid), key=lambda pool: (-len(pool.checkouts), pool.name)))


def chosen_pool(profile: Profile, pid: int | None, name: str) -> Pool | None:
    """Return the pool of that name, or the most used one; None when there is none."""
    pools = pools_of(profile, pid)
    return next((pool for pool in pools if pool.name == name), pools[0] if pools else None)


@dataclass(frozen=True)
class Leaked:
    """Objects that pile up, in the last snapshot of the heap; `are_new`: they are not in the first one."""

    graph: HeapGraph
    nodes: NDArray[np.int64]
    are_new: bool


def leaked_objects(profile: Profile, pid: int, type_name: str) -> Leaked | None:
    """Return the objects of a type that piled up between the snapshots, or all of it when there is one snapshot.

    None when there is no snapshot, or no object of that type in it.
    """
    taken = snapshots(profile, pid)
    graph = HeapGraph.of(profile, pid, -1)
    if graph is None:
        return None
    before = HeapGraph.of(profile, pid, taken[0]) if len(taken) > 1 else None
    new = newcomers(before, graph, type_name) if before is not None else graph.of_type(type_name)[:0]
    nodes = new if len(new) else graph.of_type(type_name)
    return Leaked(graph, nodes, bool(len(new))) if len(nodes) else None


def leaking_units(profile: Profile, pid: int, warmup_s: float | None) -> list[LeakUnit]:
    """Return what piles up together after the warm-up."""
    census = profile.frame("object_census")
    since_ns = chosen_warmup_s(profile, pid, warmup_s) * 1e9
    load = Load.of(profile)
    chosen = census[(census["pid"] == pid) & (census["at_ns"] >= since_ns)]
    return leak_units(chosen, load.sent_s if load is not None and len(load.sent_s) else None)


def leading_type(profile: Profile, pid: int, warmup_s: float | None) -> str | None:
    """Return the type that piles up and says most, None when none does."""
    return next((unit.type for unit in leaking_units(profile, pid, warmup_s)), None)


@lru_cache(maxsize=4)
def gc_case(profile: Profile, pid: int) -> Case | None:
    """Return what the rule of the garbage collector looks at; None when collections were not recorded."""
    return gather_gc(profile, pid)
