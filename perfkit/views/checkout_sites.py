"""Which lines take connections, for how long, and which of them do not give them back?"""

import numpy as np

from perfkit.analysis.abandonment import abandoned
from perfkit.analysis.pools import Checkout, Pool, by_site
from perfkit.analysis.survival import Place as Line
from perfkit.profile import Profile
from perfkit.units import count_text, percent_text, seconds_text
from perfkit.views.display import Badge, Bar, Cell, Note, Place, PlainTable
from perfkit.views.selection import pools_of


def checkout_sites(profile: Profile, *, pid: int | None = None, top: int = 12) -> PlainTable | Note:
    """Return one row per line that takes connections: the ones that leave some behind first, then by time held.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        top: most rows to show.
    """
    sites = [
        (pool, place, uses)
        for pool in pools_of(profile, pid)
        for place, uses in by_site(profile, pool.checkouts).items()
    ]
    if not sites:
        return Note("Nothing was recorded: no connection was taken from a pool in this process.")
    rows = [_row(pool, place, uses) for pool, place, uses in sites]
    rows.sort(key=lambda row: (-row[0], -row[1]))
    most = max(held for _left, held, _cells in rows) or 1.0
    headers = (
        "taken at",
        "pool",
        "",
        "uses",
        "left behind",
        "left to the GC",
        "hold, median",
        "p99",
        "wait, p99",
        "time",
    )
    notes = tuple(
        f"{pool.name}: lines were noted of {percent_text(pool.lines_known_ratio)} of its "
        f"{count_text(len(pool.checkouts))} acquisitions, at most about 300 "
        "per second; counts and times per line are of this sample."
        for pool in pools_of(profile, pid)
        if pool.is_sampled
    )
    cells = [[*row, Bar(seconds_text(held), held / most)] for _left, held, row in rows[:top]]
    return PlainTable(headers, cells, numbers=frozenset(headers[3:]), notes=notes)


def _row(pool: Pool, place: Line, uses: list[Checkout]) -> tuple[int, float, list[Cell]]:
    """Return how many a line leaves behind, the time it holds connections in seconds, and its cells."""
    kept = abandoned(uses, pool.until_ns)
    held_s = [use.held_ns(pool.until_ns) / 1e9 for use in uses]
    waits_s = [use.wait_ns / 1e9 for use in uses if use.wait_ns is not None]
    left, freed = len(kept.strong), sum(use.how == "collected" for use in uses)
    badge = Badge("fail" if left > 1 or freed > 2 else "undecided" if left or kept.weak else "pass")
    back = [use.held_ns(pool.until_ns) / 1e9 for use in uses if use.how is not None]
    median, p99 = (float(value) for value in np.quantile(back, [0.5, 0.99])) if back else (None, None)
    return (
        left,
        sum(held_s),
        [
            Place(place.function, place.file, place.line),
            pool.name,
            badge,
            count_text(len(uses)),
            count_text(left),
            count_text(freed),
            seconds_text(median),
            seconds_text(p99),
            seconds_text(float(np.quantile(waits_s, 0.99)) if waits_s else None),
        ],
    )
