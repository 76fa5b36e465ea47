"""The only place that joins the garbage collector with connection pools: what either does to the other."""

import json
from dataclasses import dataclass

import numpy as np
from scipy import stats

from perfkit.analysis.pools import Pool, pools_of_process
from perfkit.profile import Profile

_AFTER_NS = 1_000_000
"""What was freed by a collection is noted up to a millisecond after it."""


@dataclass(frozen=True, slots=True)
class Coupling:
    """How one pool and the collector act on each other; None: it was not recorded, or does not occur.

    `freed` uses ended because an object was freed, `freed_in_gc` of them during a collection, where
    chance would put `by_chance_ratio`; `p_chance` is the probability of so many by chance.
    `promoted_ratio` of what a use allocates lives until the oldest generation.
    """

    pool: str
    freed: int
    freed_in_gc: int
    by_chance_ratio: float
    p_chance: float
    longest_pause_s: float
    longest_lag_s: float | None
    acquire_timeout_s: float | None
    hold_p95_s: float | None
    horizon_s: float | None
    waits: int
    waits_over_gc: int

    @property
    def promoted_ratio(self) -> float | None:
        """Share of the objects of a long use that reach the oldest generation, None: unknown."""
        if self.hold_p95_s is None or not self.horizon_s:
            return None
        return min(1.0, self.hold_p95_s / self.horizon_s)


@dataclass(frozen=True, slots=True)
class Debt:
    """Connections of one pool that come back in collections, not when their users are done.

    `freed_per_s` of them come back per second, in collections that are `interval_s` apart at the first threshold
    `threshold`. `in_use` is how many the uses that were given back need on average; `limit` None: there is none.
    """

    pool: str
    freed_per_s: float
    threshold: int
    interval_s: float
    in_use: float
    limit: int | None

    def waiting(self, threshold: int, left: float = 1.0) -> float:
        """Return how many connections wait for the collector just before a collection, at least, at a threshold.

        Collections come as much later as the threshold is higher, while as many connections are left to them.

        Args:
            threshold: the first threshold.
            left: share of the collections that is left where the threshold is above what passes (`Model.left`).
        """
        return self.freed_per_s * self.interval_s * threshold / self.threshold / left

    @property
    def room(self) -> float | None:
        """Return how many connections the pool has beside those that its uses need; None: any number."""
        return None if self.limit is None else max(0.0, self.limit - self.in_use)


MIN_FREED = 3
"""Connections that a collection freed, before it is said that the collector decides."""
MAX_CHANCE = 0.01
"""Probability up to which so many falling into collections is no chance."""


def debts(profile: Profile, pid: int) -> tuple[Debt, ...]:
    """Return what the pools of a process leave to the collector; nothing where either was not recorded."""
    found = [debt(profile, pool) for pool in pools_of_process(profile, pid)]
    return tuple(each for each in found if each is not None)


def debt(profile: Profile, pool: Pool) -> Debt | None:
    """Return what a pool leaves to the collector; None: nothing, or it is not known."""
    known = coupling(profile, pool)
    thresholds = _thresholds(profile, pool.pid)
    if known is None or known.freed_in_gc < MIN_FREED or known.p_chance > MAX_CHANCE or not thresholds:
        return None
    span_ns = pool.until_ns - pool.from_ns
    collections = sum(row["pid"] == pool.pid and not row["manual"] for row in profile.table("gc_pauses").to_pylist())
    in_use = sum(each.held_ns(pool.until_ns) for each in pool.returned) / span_ns
    return Debt(
        pool.name, known.freed_in_gc / (span_ns / 1e9), thresholds[0], span_ns / 1e9 / collections, in_use, pool.limit
    )


def coupling(profile: Profile, pool: Pool) -> Coupling | None:
    """Return what a pool has to do with the collector; None when collections were not recorded.

    Source: the promotion horizon is (threshold1 + 1) times the interval of young collections,
    https://github.com/python/cpython/blob/3.13/InternalDocs/garbage_collector.md
    """
    pauses = profile.table("gc_pauses").to_pylist()
    pauses = [row for row in pauses if row["pid"] == pool.pid and not row["manual"]]
    if not pauses:
        return None
    starts = np.array([row["start_ns"] for row in pauses])
    ends = starts + np.array([row["pause_ns"] for row in pauses]) + _AFTER_NS
    freed = np.array([use.ended_ns for use in pool.checkouts if use.how == "collected" and use.ended_ns is not None])
    inside = sum(bool(((starts <= at) & (at <= ends)).any()) for at in freed)
    span_ns = pool.until_ns - pool.from_ns
    by_chance = min(1.0, float((ends - starts).sum()) / max(span_ns, 1))
    p_chance = float(stats.binomtest(inside, len(freed), by_chance, "greater").pvalue) if len(freed) else 1.0
    lags = [row["lag_ns"] for row in profile.table("loop_lag").to_pylist() if row["pid"] == pool.pid]
    long_waits = [
        (use.acquired_ns - use.wait_ns, use.acquired_ns)
        for use in pool.checkouts
        if use.wait_ns is not None and use.wait_ns > 10 * _AFTER_NS
    ]
    over = sum(bool(((starts <= until) & (ends >= begin)).any()) for begin, until in long_waits)
    timeout = pool.settings.get("acquire_timeout_s")
    return Coupling(
        pool=pool.name,
        freed=len(freed),
        freed_in_gc=inside,
        by_chance_ratio=by_chance,
        p_chance=p_chance,
        longest_pause_s=max(row["pause_ns"] for row in pauses) / 1e9,
        longest_lag_s=max(lags) / 1e9 if lags else None,
        acquire_timeout_s=float(timeout) if isinstance(timeout, int | float) and timeout else None,
        hold_p95_s=pool.hold_quantile_s(0.95),
        horizon_s=_horizon_s(profile, pool, len(starts), span_ns),
        waits=len(long_waits),
        waits_over_gc=over,
    )


def _horizon_s(profile: Profile, pool: Pool, collections: int, span_ns: int) -> float | None:
    """Return after which time an object that is still needed is in the oldest generation, in seconds."""
    thresholds = _thresholds(profile, pool.pid)
    if len(thresholds) < 2 or collections < 3:
        return None
    interval_s = span_ns / 1e9 / collections
    return float((thresholds[1] + 1) * interval_s)


def _thresholds(profile: Profile, pid: int) -> list[int]:
    """Return the collector's thresholds, the last that were noted; nothing: they are not known, or it is off."""
    settings = [
        json.loads(row["value"])
        for row in profile.table("settings").to_pylist()
        if row["pid"] == pid and row["name"] == "gc.thresholds"
    ]
    return list(settings[-1]) if settings and settings[-1] and settings[-1][0] > 0 else []
