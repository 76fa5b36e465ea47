"""Lifetimes of the TCP connections of a process: births, deaths, use, who closed, and what that adds up to per peer.

A connection's *exchanges* are the smaller of its segments with data in either direction: for small
requests and answers the number of requests, otherwise an upper bound of it, so that churn is
never made out of large bodies. Its *turns* are the segments of a direction in which they are
so small on average that no message can have been cut into several: at least so many messages.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median, pstdev
from typing import Any

from perfkit.profile import Profile

TIME_WAIT_S = 60.0
"""How long Linux keeps the port of the side that closed first. Source: TCP_TIMEWAIT_LEN in include/net/tcp.h"""
_CUT_BYTES = 700
"""A message cut into segments of 1,448 bytes, which an Ethernet frame takes, fills them to 725 on average."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One TCP connection of the process; times in seconds into the recording.

    `born_s` None: it is older than the recording. `died_s` None: it outlived it. `exchanges` and
    the bytes are those within the recording. `idle_s` is the time from its last data to its death. A birth
    that no event told lies within `born_within_s` around `born_s`. `owner` "peer": it was in no descriptor table
    that was looked at, only its peer says that it may be of this process. `met_alive`: a reading has met it, not only
    its death.
    """

    cookie: int
    local: str
    peer: str
    role: str
    born_s: float | None
    died_s: float | None
    closer: str | None = None
    idle_s: float | None = None
    exchanges: int | None = None
    sent_bytes: int | None = None
    received_bytes: int | None = None
    turns: int | None = None
    owner: str = "descriptor"
    born_within_s: float = 0.0
    met_alive: bool = True

    @property
    def age_s(self) -> float | None:
        """Age at its death; None where birth or death was not seen."""
        return None if self.born_s is None or self.died_s is None else max(0.0, self.died_s - self.born_s)

    @property
    def service(self) -> str:
        """What it is grouped by: the peer of an upstream connection, our own end of a downstream one."""
        return self.peer if self.role == "upstream" else self.local


@dataclass(frozen=True, slots=True)
class Window:
    """What of the recording the collector covered, in seconds."""

    from_s: float
    until_s: float
    note: str | None

    @property
    def length_s(self) -> float:
        """Its length."""
        return self.until_s - self.from_s


def socket_window(profile: Profile, pid: int) -> Window | None:
    """Return when sockets of a process were recorded, None: they were not."""
    rows = profile.sql(
        "select from_ns, until_ns, note from recording_quality where collector = 'sockets' and pid = $pid", pid=pid
    )
    if rows.empty:
        return None
    row = rows.iloc[0]
    note = row["note"] if isinstance(row["note"], str) else None
    return Window(int(row["from_ns"]) / 1e9, int(row["until_ns"]) / 1e9, note)


def connections(profile: Profile, pid: int) -> list[Connection]:
    """Return the connections of a process, listening sockets left out, in the order of their cookies."""
    events: dict[int, dict[str, dict[str, Any]]] = {}
    for row in rows_of(profile, "socket_events", pid):
        if row["role"] != "listening":
            events.setdefault(row["cookie"], {})[row["event"]] = row
    first: dict[int, dict[str, Any]] = {}
    last: dict[int, dict[str, Any]] = {}
    for row in rows_of(profile, "sockets", pid):
        first.setdefault(row["cookie"], row)
        last[row["cookie"]] = row
    found = []
    for cookie, seen in sorted(events.items()):
        start = seen.get("birth") or seen.get("found")
        if start is None:
            continue
        death = seen.get("death")
        before = first.get(cookie, {}) if "found" in seen else {}
        after = death if death is not None and death["sent_bytes"] is not None else last.get(cookie, {})
        found.append(
            Connection(
                cookie,
                start["local"],
                start["peer"],
                start["role"],
                _middle_s(seen["birth"]) if "birth" in seen else None,
                None if death is None else _middle_s(death),
                None if death is None else death["closer"],
                None if death is None or death["idle_ns"] is None else death["idle_ns"] / 1e9,
                *_use(before, after),
                start["owner"],
                (start["at_ns"] - start["earliest_ns"]) / 1e9,
                start["seen_by"] == "dump",
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Churn:
    """What became of the connections to one peer.

    `born` counts those opened within the recording, without an opening burst, `ended` those of them that were closed
    within it, and `ended_inferred` of these are this process's by their peer only. `busy_ratio` is the
    share of tenths of the recording in which at least one was opened. `single` are the turns of the
    least used twentieth, `reused` counts those with two turns more than that. `by_peer` of `born` are this process's by
    their peer only. Of all closed ones that a reading met while they were open, `claimed` were in its descriptor
    table, and `unclaimed` not: closed within that moment, or another process's.
    """

    peer: str
    born: int
    born_per_s: float
    busy_ratio: float
    exchanges: int
    single: int
    reused: int
    closed_by_us: int
    closed_by_peer: int
    median_age_s: float | None
    median_bytes: float | None
    local_closes_per_s: float
    by_peer: int = 0
    claimed: int = 0
    unclaimed: int = 0
    ended: int = 0
    ended_inferred: int = 0

    @property
    def per_exchange_ratio(self) -> float:
        """Connections opened per exchange."""
        return self.born / max(self.exchanges, 1)


def churn(found: Iterable[Connection], window: Window, *, bins: int = 10) -> list[Churn]:
    """Return the churn of upstream connections per peer, the busiest first."""
    step_s = max(window.length_s, 1e-9) / bins
    answers = []
    for peer, all_of_it in _upstream(found).items():
        # Births of the first tenth may be a pool that warms up; those after it have to go on.
        born = [c for c in all_of_it if c.born_s is not None and c.born_s >= window.from_s + step_s]
        busy = {int((c.born_s - window.from_s) / step_s) for c in born if c.born_s is not None}
        ended = [c for c in born if c.died_s is not None]
        ages = [c.age_s for c in ended if c.age_s is not None]
        carried = sorted(c.turns for c in ended if c.turns is not None)
        single = carried[len(carried) // 20] if carried else 0
        sizes = [
            c.sent_bytes + c.received_bytes for c in ended if c.sent_bytes is not None and c.received_bytes is not None
        ]
        later_s = window.length_s - step_s
        counted = [c for c in all_of_it if c.died_s is None or c.died_s >= window.from_s + step_s]
        answers.append(
            Churn(
                peer,
                len(born),
                len(born) / max(later_s, 1e-9),
                len(busy) / (bins - 1),
                sum(c.exchanges or 0 for c in counted),
                single,
                sum(1 for c in counted if c.turns is not None and c.turns >= single + 2),
                sum(1 for c in ended if c.closer == "local"),
                sum(1 for c in ended if c.closer == "peer"),
                median(ages) if ages else None,
                median(sizes) if sizes else None,
                sum(1 for c in ended if c.closer == "local") / max(later_s, 1e-9),
                sum(1 for c in born if c.owner == "peer"),
                sum(1 for c in all_of_it if c.died_s is not None and c.met_alive and c.owner != "peer"),
                sum(1 for c in all_of_it if c.died_s is not None and c.met_alive and c.owner == "peer"),
                len(ended),
                sum(1 for c in ended if c.owner == "peer"),
            )
        )
    return sorted(answers, key=lambda each: (-each.born, each.peer))


@dataclass(frozen=True, slots=True)
class Cohort:
    """Connections to one peer that died together.

    `ages_s` holds the ages that are known. `spread_ratio` is their standard deviation over their
    mean, None: fewer than three are known. A birth that readings did not date is put to the death of the cohort before,
    if it can have been then. `together_ratio` is the share of the connections that were
    opened at the time of the cohort's that died with it. `replaced` counts connections opened right after.
    `closed_by_us` are those that this side closed, as far as it was seen.
    """

    peer: str
    at_s: float
    deaths: int
    ages_s: tuple[float, ...]
    spread_ratio: float | None
    idle_ratio: float | None
    together_ratio: float
    replaced: int
    closed_by_us: int = 0


def cohorts(
    found: Iterable[Connection], *, smallest: int = 5, gap_s: float = 0.5, after_s: float = 2.0
) -> list[Cohort]:
    """Return groups of upstream connections to one peer that died within `gap_s`, in time order.

    Args:
        found: connections.
        smallest: deaths that make a cohort.
        gap_s: longest time from the first death of a cohort to its last.
        after_s: how soon after it a birth counts as a replacement.
    """
    answers = []
    for peer, all_of_it in _upstream(found).items():
        dead = sorted((c for c in all_of_it if c.died_s is not None), key=_died)
        groups: list[list[Connection]] = []
        for each in dead:
            if groups and _died(each) - _died(groups[-1][0]) <= gap_s:
                groups[-1].append(each)
            else:
                groups.append([each])
        before_s: float | None = None
        for group in (group for group in groups if len(group) >= smallest):
            first_s, last_s = _died(group[0]), _died(group[-1])
            births = [born_s for c in all_of_it if (born_s := _born(c, before_s)) is not None]
            born = [born_s for c in group if (born_s := _born(c, before_s)) is not None]
            aged = [(c, _died(c) - born_s) for c in group if (born_s := _born(c, before_s)) is not None]
            ages = tuple(age_s for _, age_s in aged)
            idle = [c.idle_s / age_s for c, age_s in aged if c.idle_s is not None and age_s]
            mean = sum(ages) / len(ages) if ages else 0.0
            together = sum(1 for born_s in births if born and min(born) <= born_s <= max(born))
            answers.append(
                Cohort(
                    peer,
                    first_s,
                    len(group),
                    ages,
                    pstdev(ages) / mean if len(ages) >= 3 and mean else None,
                    median(idle) if idle else None,
                    len(ages) / max(together, 1),
                    sum(1 for c in all_of_it if _may_be_born(c, first_s - 0.1, last_s + after_s)),
                    sum(1 for c in group if c.closer == "local"),
                )
            )
            before_s = last_s
    return sorted(answers, key=lambda cohort: (cohort.at_s, cohort.peer))


def _born(each: Connection, before_s: float | None) -> float | None:
    """Return when a connection was born; when an earlier cohort died, if that is as likely as anything else."""
    if each.born_s is None or before_s is None or each.born_within_s == 0.0:
        return each.born_s
    return before_s if abs(each.born_s - before_s) <= each.born_within_s / 2 else each.born_s


def _may_be_born(each: Connection, from_s: float, until_s: float) -> bool:
    """Whether a birth can lie in an interval."""
    if each.born_s is None:
        return False
    return each.born_s - each.born_within_s / 2 <= until_s and each.born_s + each.born_within_s / 2 >= from_s


def _upstream(found: Iterable[Connection]) -> dict[str, list[Connection]]:
    """Return the upstream connections by peer."""
    by_peer: dict[str, list[Connection]] = {}
    for each in found:
        if each.role == "upstream":
            by_peer.setdefault(each.peer, []).append(each)
    return by_peer


def coverage(profile: Profile, pid: int) -> tuple[int, int] | None:
    """Return `(opened, seen)`: connections of the whole namespace by the kernel's count, and by the recording's.

    None: there are not two readings of the counters.
    """
    rows = rows_of(profile, "socket_counters", pid)
    if len(rows) < 2:
        return None
    first, last = rows[0], rows[-1]
    opened = sum(int(last[name]) - int(first[name]) for name in ("active_opens", "passive_opens"))
    return opened, min(opened, int(last["seen_born"]) - int(first["seen_born"]))


def port_range(profile: Profile, pid: int) -> int:
    """Return how many ports there are for connections to one peer; Linux's default where it is not known."""
    import json

    rows = profile.sql(
        "select value from settings where pid = $pid and name = 'net.ipv4.ip_local_port_range' limit 1", pid=pid
    )
    first, last = (32_768, 60_999) if rows.empty else json.loads(rows["value"].iloc[0])
    return int(last) - int(first) + 1


def rows_of(profile: Profile, table: str, pid: int) -> list[dict[str, Any]]:
    """Return the rows of one process, in the table's order; they are shared, so nobody may change them."""
    return _by_process(profile, table).get(pid, [])


@lru_cache(maxsize=8)
def _by_process(profile: Profile, table: str) -> dict[int, list[dict[str, Any]]]:
    """Return the rows of a table by process: every rule asks for the same ones."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in profile.table(table).to_pylist():
        found.setdefault(row["pid"], []).append(row)
    return found


def _middle_s(event: dict[str, Any]) -> float:
    """Return the middle of the interval in which something happened."""
    return float(event["at_ns"] + event["earliest_ns"]) / 2e9


def _died(each: Connection) -> float:
    """Return when a connection died that did."""
    assert each.died_s is not None
    return each.died_s


def _grown(before: dict[str, Any], after: dict[str, Any], name: str) -> int | None:
    """Return how much a counter has risen; None where it is not known."""
    if after.get(name) is None:
        return None
    return max(0, int(after[name]) - int(before.get(name) or 0))


def _use(before: dict[str, Any], after: dict[str, Any]) -> tuple[int | None, int | None, int | None, int | None]:
    """Return the exchanges, bytes sent, bytes received and turns of a connection; None: not known."""
    sent, received, out, into = (
        _grown(before, after, name) for name in ("sent_bytes", "received_bytes", "segments_out", "segments_in")
    )
    if sent is None or received is None or out is None or into is None:
        return None, sent, received, None
    whole = [count for size, count in ((sent, out), (received, into)) if size < _CUT_BYTES * max(count, 1)]
    return min(out, into), sent, received, min(whole, default=None)


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the value below which a share of the values lies; None: there are none.

    >>> quantile([1, 2, 3, 4], 0.5)
    3
    """
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else None
