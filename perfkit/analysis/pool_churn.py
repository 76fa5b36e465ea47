"""The only place that tells from the events of pools themselves how often they make connections anew, and why.

Sockets tell it from outside, but a connection that lives for a few milliseconds is seen by none of their readings, and
where several processes talk to one peer nobody knows whose it was.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from perfkit.analysis.pools import Checkout, Pool

_FEW = 2
_SOON_NS = 50_000_000
_BINS = 10
_MOST = 0.5
_IDLE_SHARE = 0.8
_NUMBER = re.compile(r" #\d+$")
"""What pools of one name are told apart by."""


class Cause(StrEnum):
    """Why connections are made anew."""

    SET_SO = "set_so"
    FRESH_POOLS = "fresh_pools"
    SURPLUS = "surplus"
    CLOSED_IN_USE = "closed_in_use"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PoolChurn:
    """How often one pool, or many pools of one use each, made connections after the first tenth of the recording.

    `busy_ratio` is the share of the tenths after the first in which at least one was made. `number` counts those to
    which the cause applies, `kept` idle ones are allowed, `most_open` were there. `median_age_s` is that of connections
    when they were closed.
    """

    pools: tuple[str, ...]
    cause: Cause
    created: int
    created_per_s: float
    uses: int
    busy_ratio: float
    number: int
    kept: int | None
    most_open: int
    median_age_s: float | None
    set_so: str | None
    stack_id: int | None

    @property
    def per_use_ratio(self) -> float:
        """Connections made per use."""
        return self.created / max(self.uses, 1)


def is_fresh(pool: Pool) -> bool:
    """Whether a pool lived for a use or two."""
    return 0 < len(pool.created_ns) <= _FEW and 0 < len(pool.checkouts) <= _FEW


def set_so(pool: Pool) -> str | None:
    """Return the setting by which a pool closes each connection after use, None: there is none."""
    if pool.settings.get("force_close"):
        return "force_close"
    return "max_idle=0" if pool.settings.get("max_idle") == 0 else None


def kept(pool: Pool) -> int | None:
    """Return how many idle connections a pool keeps, None: all, or it is not known."""
    for name in ("max_idle", "pool_size"):
        if isinstance(number := pool.settings.get(name), int):
            return number
    return None


def closed_at_return(pool: Pool) -> int:
    """Return how many connections were closed within an instant of coming back."""
    return sum(at_return for at_return, _in_use in _ends(pool))


def pool_churn(pools: Sequence[Pool]) -> list[PoolChurn]:
    """Return the churn of the pools of one process, those of one use each taken together by their name.

    It says the library and, where a pool is of one host, which: a pool for each of many hosts is none for each use.
    """
    fresh: dict[str, list[Pool]] = defaultdict(list)
    for pool in pools:
        if is_fresh(pool):
            fresh[_NUMBER.sub("", pool.name)].append(pool)
    found = [_of(each, Cause.FRESH_POOLS, sum(len(pool.created_ns) for pool in each)) for each in fresh.values()]
    found += [_of([pool], *_cause(pool)) for pool in pools if not is_fresh(pool) and pool.created_ns]
    return sorted(found, key=lambda each: -each.created)


def _of(pools: Sequence[Pool], cause: Cause, number: int) -> PoolChurn:
    """Return the numbers of some pools."""
    from_ns, until_ns = pools[0].from_ns, pools[0].until_ns
    step_ns = max(until_ns - from_ns, 1) / _BINS
    # What is made in the first tenth may be a pool that warms up.
    made = [at - from_ns for pool in pools for at in pool.created_ns if at - from_ns >= step_ns]
    uses = [use for pool in pools for use in pool.checkouts if use.acquired_ns - from_ns >= step_ns]
    ages_s = [
        age_s
        for pool in pools
        for connection, at_ns in (*pool.closed, *((use.connection, use.ended_ns or 0) for use in _closed_in_use(pool)))
        if (age_s := pool.age_s(connection, at_ns)) is not None
    ]
    return PoolChurn(
        pools=tuple(pool.name for pool in pools),
        cause=cause,
        created=len(made),
        created_per_s=len(made) / ((until_ns - from_ns - step_ns) / 1e9) if until_ns > from_ns else 0.0,
        uses=len(uses),
        busy_ratio=len({min(int(at / step_ns), _BINS - 1) for at in made}) / (_BINS - 1),
        number=number,
        kept=kept(pools[0]),
        most_open=max((value for pool in pools for _at, value in pool.gauge("open")), default=0),
        median_age_s=median(ages_s) if ages_s else None,
        set_so=set_so(pools[0]),
        stack_id=next((use.stack_id for use in reversed(uses) if use.stack_id is not None), None),
    )


def _cause(pool: Pool) -> tuple[Cause, int]:
    """Return why a pool makes connections anew, and how many were closed for that reason."""
    if set_so(pool) is not None:
        return Cause.SET_SO, len(pool.created_ns)
    ends = _ends(pool)
    least = _MOST * len(pool.created_ns)
    in_use = sum(each for _at_return, each in ends)
    if in_use >= least:
        return Cause.CLOSED_IN_USE, in_use
    surplus, keeps = sum(each for each, _in_use in ends) - in_use, kept(pool)
    if keeps is not None and surplus >= least:
        return Cause.SURPLUS, surplus
    expired = _expired(pool)
    return (Cause.EXPIRED, expired) if expired >= least else (Cause.UNKNOWN, 0)


def _ends(pool: Pool) -> list[tuple[bool, bool]]:
    """Return for each use whether its connection was closed as soon as it came back, and whether in the use itself."""
    closed: dict[int, list[int]] = defaultdict(list)
    for connection, at_ns in pool.closed:
        if connection is not None:
            closed[connection].append(at_ns)
    found = []
    for use in pool.checkouts:
        if use.ended_ns is None or use.connection is None:
            continue
        in_use = use.how in ("closed", "collected")
        soon = any(0 <= at - use.ended_ns <= _SOON_NS for at in closed[use.connection])
        found.append((in_use or soon, in_use))
    return found


def _closed_in_use(pool: Pool) -> list[Checkout]:
    """Return the uses that ended with their connections, of which the pool has no other word."""
    return [use for use in pool.checkouts if use.how in ("closed", "collected")]


def _expired(pool: Pool) -> int:
    """Return how many connections were closed when they had been idle for the time that the pool allows."""
    allowed_s = pool.settings.get("idle_timeout_s")
    if not isinstance(allowed_s, int | float) or allowed_s <= 0:
        return 0
    last: dict[int, Checkout] = {}
    for use in pool.checkouts:
        if use.connection is not None and use.ended_ns is not None:
            last[use.connection] = use
    return sum(
        at_ns - (last[connection].ended_ns or at_ns) >= _IDLE_SHARE * allowed_s * 1e9
        for connection, at_ns in pool.closed
        if connection in last
    )
