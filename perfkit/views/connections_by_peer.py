"""With whom does the process speak, and how are the connections used?"""

from collections import Counter
from statistics import median

from perfkit.analysis.socket_lifetimes import Connection, connections, socket_window
from perfkit.profile import Profile
from perfkit.units import UNKNOWN, bytes_text, count_text, seconds_text, three_digits
from perfkit.views.display import Bar, Cell, Note, PlainTable
from perfkit.views.selection import chosen_pid


def connections_by_peer(profile: Profile, *, pid: int | None = None, top: int = 15) -> PlainTable | Note:
    """Return one row per peer (of accepted connections: per own port): how many, how long, how used, who closes.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        top: most rows to show.
    """
    pid = chosen_pid(profile, pid)
    window = socket_window(profile, pid)
    groups: dict[tuple[str, str], list[Connection]] = {}
    for each in connections(profile, pid):
        groups.setdefault((each.role, each.service), []).append(each)
    if window is None or not groups:
        return Note("Nothing was recorded: no collector read the sockets of this process, or it had none.")
    ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    rows = [_row(role, service, found, window.length_s, len(ranked[0][1])) for (role, service), found in ranked[:top]]
    notes = [f"{len(ranked) - top} more are left out."] if len(ranked) > top else []
    if window.note:
        notes.append(window.note)
    headers = (
        "direction", "peer or own port", "connections", "opened", "median age", "exchanges", "data", "closed by",
    )  # fmt: skip
    return PlainTable(headers, rows, numbers=frozenset(headers[2:7]), notes=notes)


def _row(role: str, service: str, found: list[Connection], window_s: float, most: int) -> list[Cell]:
    """Return the cells of one peer."""
    born = sum(1 for c in found if c.born_s is not None)
    ages = [c.age_s for c in found if c.age_s is not None]
    exchanges = [c.exchanges for c in found if c.exchanges is not None]
    sizes = [
        c.sent_bytes + c.received_bytes for c in found if c.sent_bytes is not None and c.received_bytes is not None
    ]
    closers = Counter(c.closer or "unknown" for c in found if c.died_s is not None)
    who = {"local": "us", "peer": "peer", "unknown": "unknown"}
    return [
        role,
        service,
        Bar(count_text(len(found)), len(found) / most),
        f"{three_digits(born / window_s)}/s" if window_s else UNKNOWN,
        seconds_text(median(ages)) if ages else "none ended",
        three_digits(median(exchanges)) if exchanges else UNKNOWN,
        bytes_text(median(sizes)) if sizes else UNKNOWN,
        ", ".join(f"{who[name]} {count_text(number)}" for name, number in closers.most_common()) or "nobody",
    ]
