"""The only place that decides what a view shows when the reader did not say: which process, from when on."""

from functools import lru_cache

from perfkit.analysis.growth import Evidence, gather
from perfkit.analysis.pools import Pool, recorded_pools
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
    pools = [pool for process in recorded_pools(profile) if process.pid == pid for pool in process.pools]
    return tuple(sorted(pools, key=lambda pool: (-len(pool.checkouts), pool.name)))


def chosen_pool(profile: Profile, pid: int | None, name: str) -> Pool | None:
    """Return the pool of that name, or the most used one; None when there is none."""
    pools = pools_of(profile, pid)
    return next((pool for pool in pools if pool.name == name), pools[0] if pools else None)
