"""How long sockets stayed in a state: spells of CLOSE_WAIT, and data that nobody reads."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from perfkit.analysis.socket_lifetimes import rows_of
from perfkit.profile import Profile


@dataclass(frozen=True, slots=True)
class Spell:
    """A socket in one state without a break; times in seconds into the recording.

    `open_start`: it was in it before the recording. `open_end`: it was in it to the end. `sent` says
    whether the process still sent data on it. `lowest_unread_bytes` is what lay unread all the time.
    `silent_s` is the time since any data at the end of it. `reply_after_s` is how long after the last
    data sent the last data came, None: unknown or nothing was ever sent.
    """

    cookie: int
    service: str
    role: str
    state: str
    from_s: float
    until_s: float
    open_start: bool
    open_end: bool
    sent: bool
    received: bool
    sends: int
    lowest_unread_bytes: int
    highest_unread_bytes: int
    rows: int
    waited_rows: int
    silent_s: float | None
    reply_after_s: float | None
    segments_out: int | None

    @property
    def length_s(self) -> float:
        """How long it was seen to last."""
        return self.until_s - self.from_s


def spells(profile: Profile, pid: int, until_s: float, *, unread: bool = False, waited_s: float = 0.05) -> list[Spell]:
    """Return the spells of every socket of a process; listening ones and those that it has not accepted are left out.

    Args:
        profile: what was recorded.
        pid: the process.
        until_s: end of what was recorded of its sockets.
        unread: also begin a new spell when data begins or ends to lie unread.
        waited_s: data unread for so long counts in `waited_rows`.
    """
    ends = {
        row["cookie"]: row["at_ns"] / 1e9 for row in rows_of(profile, "socket_events", pid) if row["event"] == "death"
    }
    older = {row["cookie"] for row in rows_of(profile, "socket_events", pid) if row["event"] == "found"}
    by_socket: dict[int, list[dict[str, Any]]] = {}
    for row in rows_of(profile, "sockets", pid):
        if row["role"] != "listening" and row["inode"]:
            by_socket.setdefault(row["cookie"], []).append(row)
    answers = []
    for cookie, rows in by_socket.items():
        groups: list[list[dict[str, Any]]] = []
        for row in rows:
            if groups and _same(groups[-1][-1], row, unread=unread):
                groups[-1].append(row)
            else:
                groups.append([row])
        for number, group in enumerate(groups):
            following = groups[number + 1][0]["at_ns"] / 1e9 if number + 1 < len(groups) else None
            stop_s = following if following is not None else min(ends.get(cookie, until_s), until_s)
            answers.append(
                _spell(
                    group,
                    stop_s,
                    open_start=number == 0 and cookie in older,
                    open_end=following is None and cookie not in ends,
                    waited_s=waited_s,
                )
            )
    return answers


def _spell(group: list[dict[str, Any]], stop_s: float, *, open_start: bool, open_end: bool, waited_s: float) -> Spell:
    """Return the spell that some rows in a row make."""
    first, last = group[0], group[-1]
    silent_s = reply_after_s = None
    if last["last_received_ns"] is not None:
        silent_s = min(last["last_received_ns"], last["last_sent_ns"]) / 1e9 + stop_s - last["at_ns"] / 1e9
        if last["sent_bytes"]:
            reply_after_s = (last["last_sent_ns"] - last["last_received_ns"]) / 1e9
    return Spell(
        first["cookie"],
        first["peer"] if first["role"] == "upstream" else first["local"],
        first["role"],
        first["state"],
        first["at_ns"] / 1e9,
        max(stop_s, first["at_ns"] / 1e9),
        open_start,
        open_end,
        (last["sent_bytes"] or 0) > (first["sent_bytes"] or 0),
        (last["received_bytes"] or 0) > (first["received_bytes"] or 0),
        sum(1 for before, row in pairwise(group) if (row["sent_bytes"] or 0) > (before["sent_bytes"] or 0)),
        min(row["recv_q_bytes"] for row in group),
        max(row["recv_q_bytes"] for row in group),
        len(group),
        sum(1 for row in group if (row["last_received_ns"] or 0) >= waited_s * 1e9),
        silent_s,
        reply_after_s,
        last["segments_out"],
    )


def _same(before: dict[str, Any], row: dict[str, Any], *, unread: bool) -> bool:
    """Whether two rows belong to one spell."""
    return before["state"] == row["state"] and (not unread or bool(before["recv_q_bytes"]) == bool(row["recv_q_bytes"]))


def reading_moments(profile: Profile, pid: int) -> list[float]:
    """Return when sockets were read, in seconds, as far as rows tell: a reading without any change leaves none."""
    times = {row["at_ns"] for table in ("sockets", "socket_counters") for row in rows_of(profile, table, pid)}
    return [at_ns / 1e9 for at_ns in sorted(times)]


def most_at_once(found: list[Spell], longer_than_s: float) -> tuple[int, float]:
    """Return `(most spells at one time that had lasted so long by then, when)`; `(0, 0.0)` when there are none."""
    steps = sorted(
        step
        for each in found
        if each.length_s >= longer_than_s
        for step in ((each.from_s + longer_than_s, 1), (each.until_s, -1))
    )
    now, most, when = 0, 0, 0.0
    # At one moment, one that ends and one that begins were there together.
    for at_s, change in sorted(steps, key=lambda step: (step[0], -step[1])):
        now += change
        if now > most:
            most, when = now, at_s
    return most, when
