"""The only place that tells how long connections were idle before each use, and which uses found them dead."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

from perfkit.analysis.pools import Checkout, Pool

_SOON_NS = 600_000_000
"""Some pools tell of a connection that is closed only at the next reading of their gauges, every 0.5 s."""
_APART_NS = 2_000_000_000
"""A server that restarts closes all its connections at once, and sockets are read once in a while."""
_LIFE_SHARE = 0.9
_LOWEST = 0.1


@dataclass(frozen=True, slots=True)
class Reuse:
    """One use of a connection: how long it was idle before, and whether the connection ended with the use."""

    use: Checkout
    idle_s: float
    died: bool


@dataclass(frozen=True, slots=True)
class Staleness:
    """Uses of connections that were idle for at least `idle_s`, and all others: how many there were, how many died.

    `moments` counts times of death that are further apart than `idle_s`: all at once is a restart.
    `longest_alive_s` is the longest time after which one was still alive, among those that were idle for less.
    `p` is the probability that deaths fall so by chance (Fisher's exact test, one-sided).
    """

    idle_s: float
    longest_alive_s: float
    after: int
    died_after: int
    before: int
    died_before: int
    p: float
    dead: tuple[Checkout, ...]
    moments: int


def reuses(pool: Pool) -> list[Reuse]:
    """Return the uses that ended, in the order of time, of connections whose idle time before is known.

    A connection that is closed at the end of its life by the pool's own setting has not died.
    """
    lifetime = pool.settings.get("max_lifetime_s")
    closed: dict[int, list[int]] = defaultdict(list)
    for connection, at_ns in pool.closed:
        if connection is not None:
            closed[connection].append(at_ns)
    created = set(pool.created_ns)  # of those that were there before, nobody knows for how long they had been idle
    last_ns: dict[int, int] = {each: at for each, at in pool.born_ns.items() if at in created}
    by_connection: dict[int, list[Checkout]] = defaultdict(list)
    for use in pool.checkouts:
        if use.connection is not None and use.ended_ns is not None:
            by_connection[use.connection].append(use)
    found = []
    for connection, uses in by_connection.items():
        for use, following in zip(uses, [*uses[1:], None], strict=True):
            ended_ns = use.ended_ns or use.acquired_ns
            since_ns = last_ns.get(connection)
            last_ns[connection] = max(ended_ns, since_ns or 0)
            if since_ns is None:
                continue
            until_ns = ended_ns + _SOON_NS if following is None else min(ended_ns + _SOON_NS, following.acquired_ns)
            died = use.how == "closed" or any(use.acquired_ns <= at <= until_ns for at in closed[connection])
            age_s = pool.age_s(connection, ended_ns)
            if died and lifetime and age_s is not None and age_s >= _LIFE_SHARE * lifetime:
                continue
            found.append(Reuse(use, max(0, use.acquired_ns - since_ns) / 1e9, died))
    return sorted(found, key=lambda each: each.use.acquired_ns)


def staleness(found: Sequence[Reuse]) -> Staleness | None:
    """Return after which idle time connections are dead; None: none died.

    The time is the one that nine of ten of those that died had been idle for.
    """
    idle_s = np.array([each.idle_s for each in found])
    died = np.array([each.died for each in found], dtype=bool)
    if not died.any():
        return None
    limit_s = float(np.quantile(idle_s[died], _LOWEST, method="lower"))
    long = idle_s >= limit_s
    table = [
        [int((long & died).sum()), int((long & ~died).sum())],
        [int((~long & died).sum()), int((~long & ~died).sum())],
    ]
    dead = tuple(each.use for each in found if each.died and each.idle_s >= limit_s)
    alive = idle_s[~long & ~died]
    return Staleness(
        idle_s=limit_s,
        longest_alive_s=float(alive.max()) if len(alive) else 0.0,
        after=sum(table[0]),
        died_after=table[0][0],
        before=sum(table[1]),
        died_before=table[1][0],
        p=float(stats.fisher_exact(np.array(table), alternative="greater").pvalue),
        dead=dead,
        moments=1 + sum(b.acquired_ns - a.acquired_ns > limit_s * 1e9 for a, b in pairwise(dead)),
    )


@dataclass(frozen=True, slots=True)
class Dead:
    """Uses of connections that their peer had closed before they were taken, as their sockets say.

    `moments` counts times of the closes that are apart: those of a server that restarts are one. `idle_s` is the
    shortest time that one was idle before its use, `closed_after_s` the shortest after which a peer had closed it, at
    most; None: unknown.
    """

    uses: tuple[Checkout, ...]
    moments: int
    idle_s: float | None
    closed_after_s: float | None


def dead_on_arrival(pool: Pool, found: Sequence[Reuse], closed_ns: Mapping[int, int]) -> Dead:
    """Return the uses of connections that had been closed before by the peer, and that died in that use.

    Args:
        pool: the pool.
        found: its uses with the idle time before each.
        closed_ns: since when a connection is known to be closed by its peer.
    """
    idle_s = {id(each.use): each.idle_s for each in found}
    died = {id(each.use) for each in found if each.died}
    closed = {(connection, at_ns) for connection, at_ns in pool.closed}
    uses = []
    for use in pool.checkouts:
        at_ns = closed_ns.get(-1 if use.connection is None else use.connection)
        if at_ns is None or use.acquired_ns <= at_ns or use.ended_ns is None:
            continue
        ends = range(use.acquired_ns, use.ended_ns + _SOON_NS)
        if id(use) in died or use.how == "closed" or any(c == use.connection and at in ends for c, at in closed):
            uses.append(use)
    times = sorted({closed_ns[use.connection] for use in uses if use.connection is not None})
    idle = [idle_s[id(use)] for use in uses if id(use) in idle_s]
    after = [
        idle_s[id(use)] - (use.acquired_ns - closed_ns[use.connection]) / 1e9
        for use in uses
        if id(use) in idle_s and use.connection is not None
    ]
    return Dead(
        tuple(uses),
        bool(times) + sum(at - before > _APART_NS for before, at in pairwise(times)),
        min(idle, default=None),
        min(after, default=None),
    )
