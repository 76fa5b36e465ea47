"""How old do connections get, how often are they used, and is the lifetime that was set kept?"""

import numpy as np

from perfkit.analysis.pools import Pool
from perfkit.profile import Profile
from perfkit.units import UNKNOWN, count_text, seconds_text, three_digits
from perfkit.views.display import Cell, Note, PlainTable
from perfkit.views.selection import pools_of


def pool_lifetimes(profile: Profile, *, pid: int | None = None) -> PlainTable | Note:
    """Return per pool how many connections were made and closed, at which age, and how old they were when lent.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
    """
    pools = pools_of(profile, pid)
    if not pools:
        return Note("Nothing was recorded: no connection pool was seen in this process.")
    headers = (
        "pool", "made", "closed", "uses per connection made", "age at close, median", "age when lent, max",
        "lifetime set", "idle time set",
    )  # fmt: skip
    notes = ("Connections that were there before the recording count as old as the recording.",)
    return PlainTable(headers, [_row(pool) for pool in pools], numbers=frozenset(headers[1:]), notes=notes)


def _row(pool: Pool) -> list[Cell]:
    """Return the cells of one pool."""
    lent_s = [age_s for use in pool.checkouts if (age_s := pool.age_s(use.connection, use.acquired_ns)) is not None]
    ages_s = [age_s for number, at_ns in pool.closed if (age_s := pool.age_s(number, at_ns)) is not None]
    made = len(pool.created_ns)
    return [
        pool.name,
        count_text(made),
        count_text(len(pool.closed)),
        three_digits(len(pool.checkouts) / made) if made else UNKNOWN,
        seconds_text(float(np.median(ages_s))) if ages_s else UNKNOWN,
        seconds_text(max(lent_s)) if lent_s else UNKNOWN,
        _setting(pool, "max_lifetime_s"),
        _setting(pool, "idle_timeout_s"),
    ]


def _setting(pool: Pool, name: str) -> str:
    """Return a setting in seconds, in words."""
    if name not in pool.settings:
        return UNKNOWN
    value = pool.settings[name]
    return "none" if value is None else seconds_text(float(value))
