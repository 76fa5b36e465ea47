"""What does the life of each connection look like: in use, idle, closed by the peer?"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from perfkit.analysis.socket_lifetimes import Connection, connections, rows_of, socket_window
from perfkit.analysis.socket_states import reading_moments
from perfkit.profile import Profile
from perfkit.units import count_text
from perfkit.views.charts import present, time_unit, time_x
from perfkit.views.display import Note
from perfkit.views.selection import chosen_pid

if TYPE_CHECKING:
    import altair as alt

IN_USE, IDLE, PEER_CLOSED, CLOSING = "in use", "idle", "closed by the peer only", "opening or closing"
_COLORS = {IN_USE: "#2f6fb7", IDLE: "#9fb6cf", PEER_CLOSED: "#c9374a", CLOSING: "#a3862a"}
_STILL_USED_S = 1.5
"""Readings of a connection in use are this far apart, where there are enough: the collector stores one a second."""
_MOST_BARS = 4_000


def connection_timeline(
    profile: Profile, *, pid: int | None = None, role: str = "upstream", peer: str = "", top: int = 40
) -> "alt.Chart | alt.LayerChart | Note":
    """Return one row per connection with bars for the time it was in use, idle, or closed by the peer and kept.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        role: upstream, downstream, or empty for both.
        peer: only connections to this address and port; empty: all.
        top: most connections to show, evenly chosen by their birth.
    """
    import altair as alt
    import pandas as pd

    pid = chosen_pid(profile, pid)
    window = socket_window(profile, pid)
    every = [c for c in connections(profile, pid) if (not role or c.role == role) and (not peer or c.peer == peer)]
    if window is None or not every:
        return Note("Nothing was recorded: no collector read the sockets of this process, or it had none of this kind.")
    every.sort(key=lambda c: (c.born_s or 0.0, c.cookie))
    chosen = every[:: -(-len(every) // top)] if len(every) > top else every
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in rows_of(profile, "sockets", pid):
        rows.setdefault(row["cookie"], []).append(row)
    for row in rows_of(profile, "socket_events", pid):
        if row["event"] == "death" and row["cookie"] in rows:
            rows[row["cookie"]].append(row | {"state": "dead"})
    moments = reading_moments(profile, pid)
    steps = sorted(after - before for before, after in pairwise(moments))
    used_s = max(_STILL_USED_S, 1.5 * steps[len(steps) * 9 // 10]) if steps else _STILL_USED_S
    per, time_title = time_unit(profile.duration_s)
    names = {c.cookie: f"{c.local.rpartition(':')[2]} → {c.peer}" for c in chosen}
    bars = [
        {
            "from": round(from_s / per, 3),
            "until": round(until_s / per, 3),
            "what": what,
            "connection": f"{names[c.cookie]} #{c.cookie}",
            "closer": c.closer or "unknown",
        }
        for c in chosen
        for from_s, until_s, what in bars_of(c, rows.get(c.cookie, []), window.until_s, used_s)
    ][:_MOST_BARS]
    order = [f"{names[c.cookie]} #{c.cookie}" for c in chosen]
    shown = [what for what in _COLORS if any(bar["what"] == what for bar in bars)]
    chart = (
        alt.Chart(pd.DataFrame(bars))
        .mark_bar(height={"band": 0.7})
        .encode(
            x=time_x("from", profile.duration_s),
            x2="until:Q",
            y=alt.Y(
                "connection:N",
                sort=order,
                title="own port → peer",
                axis=alt.Axis(labelExpr="split(datum.label, ' #')[0]", labelLimit=260),
            ),
            color=alt.Color("what:N", scale=alt.Scale(domain=shown, range=[_COLORS[what] for what in shown])),
            tooltip=[
                alt.Tooltip("connection:N"),
                alt.Tooltip("what:N", title="state"),
                alt.Tooltip("from:Q", title=time_title.split()[0], format=".4~r"),
                alt.Tooltip("until:Q", format=".4~r"),
                alt.Tooltip("closer:N", title="closed first by"),
            ],
        )
    )
    left_out = f", {count_text(len(every) - len(chosen))} more are left out" if len(chosen) < len(every) else ""
    subtitle = f"{count_text(len(chosen))} connections{left_out}. A bar that ends early is a connection that ended."
    return present(chart, "The life of each connection", subtitle, height=max(80, 16 * len(chosen)))


def bars_of(
    connection: Connection, rows: list[dict[str, Any]], until_s: float, used_s: float = _STILL_USED_S
) -> list[tuple[float, float, str]]:
    """Return `(from, until, what)` of one connection, in seconds, without a gap; equal neighbours are one.

    Args:
        connection: the connection.
        rows: its rows of the table sockets, in time order, and its death as the last one, with the state dead.
        until_s: end of what was recorded.
        used_s: longest time between two readings of a connection in use.
    """
    end_s = until_s if connection.died_s is None else connection.died_s
    if not rows:  # it was in no reading: all that is known is that it lived
        born_s = end_s if connection.born_s is None else connection.born_s
        return [(born_s, max(end_s, born_s), IN_USE)]
    found: list[tuple[float, float, str]] = []
    start_s = rows[0]["at_ns"] / 1e9 if connection.born_s is None else connection.born_s
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        if row["state"] == "dead":
            break
        stop_s = end_s if after is None else after["at_ns"] / 1e9
        if stop_s < start_s:
            continue
        for from_s, upto_s, what in _parts(row, after, start_s, stop_s, used_s):
            if found and found[-1][2] == what:
                found[-1] = (found[-1][0], upto_s, what)
            elif upto_s > from_s or after is None:
                found.append((from_s, upto_s, what))
        start_s = stop_s
    return found


def _parts(
    row: dict[str, Any], after: dict[str, Any] | None, start_s: float, stop_s: float, used_s: float
) -> list[tuple[float, float, str]]:
    """Return what a connection did between two of its rows."""
    if row["state"] == "close_wait":
        return [(start_s, stop_s, PEER_CLOSED)]
    if row["state"] != "established":
        return [(start_s, stop_s, CLOSING)]
    if after is not None and stop_s - start_s <= used_s and _bytes(after) > _bytes(row):
        return [(start_s, stop_s, IN_USE)]
    fresh = row["last_received_ns"] is not None and min(row["last_received_ns"], row["last_sent_ns"]) < 1e9
    used_until_s = min(stop_s, start_s + (0.2 if fresh else 0.0))
    return [(start_s, used_until_s, IN_USE), (used_until_s, stop_s, IDLE)] if fresh else [(start_s, stop_s, IDLE)]


def _bytes(row: dict[str, Any]) -> int:
    """Return the data of both directions so far."""
    return (row["sent_bytes"] or 0) + (row["received_bytes"] or 0)
