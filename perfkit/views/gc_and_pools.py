"""What do the garbage collector and the pools do to each other?"""

from perfkit.analysis.gc_and_pools import Coupling, coupling
from perfkit.profile import Profile
from perfkit.units import count_text, percent_text, seconds_text
from perfkit.views.display import Badge, Cell, Note, PlainTable
from perfkit.views.selection import pools_of

_LONG = 0.1
"""Share of a timeout from which on a pause is worth a word."""


def gc_and_pools(profile: Profile, *, pid: int | None = None) -> PlainTable | Note:
    """Return for each pool whether the collector closes its connections, delays its waits, or keeps what it holds.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
    """
    found = [each for pool in pools_of(profile, pid) if (each := coupling(profile, pool))]
    if not found:
        return Note("Nothing was recorded: it takes both pools and collections to see what they do to each other.")
    return PlainTable(("pool", "", "what", "seen"), [row for each in found for row in _rows(each)])


def _rows(each: Coupling) -> list[list[Cell]]:
    """Return what is to be said about one pool."""
    freed = (
        f"{count_text(each.freed)}, {count_text(each.freed_in_gc)} of them in collections, which take "
        f"{percent_text(each.by_chance_ratio)} of the time"
        if each.freed
        else "none"
    )
    depends = each.freed > 0 and each.p_chance < 0.01
    stall_s = max(each.longest_pause_s, each.longest_lag_s or 0.0)
    close = each.acquire_timeout_s is not None and stall_s > _LONG * each.acquire_timeout_s
    deadline = f" of {seconds_text(each.acquire_timeout_s)}" if each.acquire_timeout_s else ""
    promoted = each.promoted_ratio
    way = (
        f"{percent_text(promoted)}; uses take {seconds_text(each.hold_p95_s)} (p95), the way there "
        f"{seconds_text(each.horizon_s)}"
    )
    return [
        [each.pool, Badge("fail" if depends else "pass"), "connections left to the collector", freed],
        [
            "",
            Badge("undecided" if close else "pass"),
            "longest stall of the process against the deadline for a connection",
            f"{seconds_text(stall_s)}{deadline}",
        ],
        [
            "",
            Badge("pass"),
            "waits of more than 10 ms that a collection fell into",
            f"{count_text(each.waits_over_gc)} of {count_text(each.waits)}" if each.waits else "nobody waited so long",
        ],
        [
            "",
            Badge("undecided" if promoted is not None and promoted > 0.5 else "pass"),
            "share of a long use's objects that reach the oldest generation",
            way,
        ],
    ]
