"""Is the pool large enough, and how many connections would be?"""

import math

import numpy as np

from perfkit.analysis.pools import Pool
from perfkit.analysis.queueing import enough_servers, wait_quantile_s
from perfkit.profile import Profile
from perfkit.units import UNKNOWN, count_text, seconds_text, three_digits
from perfkit.views.display import Cell, Note, PlainTable
from perfkit.views.selection import pools_of


def pool_headroom(profile: Profile, *, pid: int | None = None, target_wait_s: float = 0.05) -> PlainTable | Note:
    """Return per pool what is offered to it, how long one waits, what the queueing model says, and the size it advises.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        target_wait_s: what 99 of 100 requests should wait at most, in seconds.
    """
    pools = [pool for pool in pools_of(profile, pid) if pool.returned]
    if not pools:
        return Note("Nothing was recorded: no connection came back to a pool in this process.")
    headers = (
        "pool", "requests", "hold, mean", "offered", "limit", "wait p99, seen", "wait p99, model", "enough for p99 of",
        "connections",
    )  # fmt: skip
    rows = [_row(pool, target_wait_s) for pool in pools]
    note = (
        "Offered is requests per second times mean hold: the connections in use if nobody had to wait. A wait that is "
        "much longer than the model's comes in bursts, or behind a pause."
    )
    return PlainTable(headers, rows, numbers=frozenset(headers[1:]), notes=(note,))


def _row(pool: Pool, target_wait_s: float) -> list[Cell]:
    """Return the cells of one pool."""
    asked = len(pool.checkouts) + len(pool.waits)
    per_s = asked / pool.window_s
    mean_s = sum(use.held_ns(pool.until_ns) for use in pool.returned) / 1e9 / len(pool.returned)
    offered = per_s * mean_s
    waits_s = [use.wait_ns / 1e9 for use in pool.checkouts if use.wait_ns is not None]
    waits_s += [wait.wait_ns / 1e9 for wait in pool.waits]
    model = wait_quantile_s(offered, pool.limit, mean_s, 0.99) if pool.limit else 0.0
    return [
        pool.name,
        f"{three_digits(per_s)}/s",
        seconds_text(mean_s),
        three_digits(offered),
        count_text(pool.limit) if pool.limit is not None else "none",
        seconds_text(float(np.quantile(waits_s, 0.99))) if waits_s else UNKNOWN,
        "without end" if math.isinf(model) else seconds_text(model),
        seconds_text(target_wait_s),
        count_text(enough_servers(offered, mean_s, target_wait_s)),
    ]
