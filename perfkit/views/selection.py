"""The only place that decides what a view shows when the reader did not say: which process, from when on."""

from functools import lru_cache

from perfkit.analysis.gc_case import Case
from perfkit.analysis.gc_case import gather as gather_gc
from perfkit.analysis.growth import Evidence, gather
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


@lru_cache(maxsize=4)
def gc_case(profile: Profile, pid: int) -> Case | None:
    """Return what the rule of the garbage collector looks at; None when collections were not recorded."""
    return gather_gc(profile, pid)
