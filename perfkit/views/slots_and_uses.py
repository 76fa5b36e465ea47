"""Do the pool's numbers agree with what was seen: connections taken and returned, slots and sockets?"""

from perfkit.analysis.pools import Pool
from perfkit.profile import Profile
from perfkit.units import UNKNOWN, count_text, three_digits
from perfkit.views.display import Badge, Cell, Note, PlainTable
from perfkit.views.selection import pools_of


def slots_and_uses(profile: Profile, *, pid: int | None = None) -> PlainTable | Note:
    """Return per pool the identities that hold in a pool without defects, and by how much they do not.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
    """
    pools = [pool for pool in pools_of(profile, pid) if pool.states]
    if not pools:
        return Note("Nothing was recorded: no connection pool was read in this process.")
    headers = ("pool", "", "taken", "back", "out", "in use, read", "never back (Little)", "slots", "sockets", "ghosts")
    note = (
        "Taken less back is what is out; the pool's own reading should say the same. Never back is the mean number in "
        "use that no use which ended explains: about zero where everything comes back. A ghost is a slot that nobody "
        "has and that has no connection. Undecided is a pool with a ghost, or of which more than a tenth of what is in "
        "use is never back: connections that were lost, or uses longer than the recording."
    )
    return PlainTable(headers, [_row(pool) for pool in pools], numbers=frozenset(headers[2:]), notes=(note,))


def _row(pool: Pool) -> list[Cell]:
    """Return the cells of one pool."""
    last = pool.states[-1]
    back = sum(use.how is not None for use in pool.checkouts)
    out = len(pool.checkouts) - back + pool.before - pool.before_back
    left = pool.never_returned()
    sound = not last["ghosts"] and (left is None or left < max(1.0, 0.1 * (last["in_use"] or 0)))
    return [
        pool.name,
        Badge("pass" if sound else "undecided"),
        count_text(len(pool.checkouts)),
        count_text(back),
        count_text(out),
        *(UNKNOWN if last[name] is None else count_text(last[name]) for name in ("in_use",)),
        UNKNOWN if left is None else three_digits(max(left, 0.0)),
        *(UNKNOWN if last[name] is None else count_text(last[name]) for name in ("open", "sockets", "ghosts")),
    ]
