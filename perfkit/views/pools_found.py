"""Which connection pools does the process have, and how are they set?"""

from typing import Any

from perfkit.analysis.pools import Pool
from perfkit.profile import Profile
from perfkit.units import UNKNOWN, count_text, percent_text, seconds_text
from perfkit.views.display import Bar, Cell, Note, PlainTable
from perfkit.views.selection import pools_of

_TIMES = {"acquire_timeout_s": "waits", "idle_timeout_s": "idle for", "max_lifetime_s": "lives"}


def pools_found(profile: Profile, *, pid: int | None = None) -> PlainTable | Note:
    """Return one row per pool: its size, how full it was, and its settings as read from the live object.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
    """
    pools = pools_of(profile, pid)
    if not pools:
        return Note("Nothing was recorded: no connection pool was seen in this process.")
    headers = ("pool", "limit", "in use, mean", "peak", "uses", "in vain", "deadlines", "more settings")
    return PlainTable(headers, [_row(pool) for pool in pools], numbers=frozenset(headers[1:6]))


def _row(pool: Pool) -> list[Cell]:
    """Return the cells of one pool."""
    in_use = [value for _at, value in pool.gauge("in_use")]
    mean = sum(in_use) / len(in_use) if in_use else None
    limit = pool.limit
    share = mean / limit if mean is not None and limit else 0.0
    return [
        pool.name,
        count_text(limit) if limit is not None else "none",
        Bar(f"{mean:.1f}", share, percent_text(share) if limit else "") if mean is not None else UNKNOWN,
        count_text(max(in_use)) if in_use else UNKNOWN,
        count_text(len(pool.checkouts)),
        count_text(sum(wait.event == "timeout" for wait in pool.waits)),
        ", ".join(f"{word} {_time(pool.settings[name])}" for name, word in _TIMES.items() if name in pool.settings),
        ", ".join(
            f"{name} {value}"
            for name, value in sorted(pool.settings.items())
            if name not in _TIMES and name not in ("library", "number", "max_size") and value is not None
        ),
    ]


def _time(value: Any) -> str:
    """Return a time limit in words."""
    if value is None:
        return "without end"
    return "not at all" if value == 0 else seconds_text(float(value))
