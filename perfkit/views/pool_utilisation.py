"""How many connections are in use, and does anybody wait?"""

from typing import TYPE_CHECKING

from perfkit.profile import Profile
from perfkit.views.charts import line_legend, present, time_unit, time_x
from perfkit.views.display import Note
from perfkit.views.downsample import m4
from perfkit.views.selection import chosen_pool

if TYPE_CHECKING:
    import altair as alt

_BUCKETS = 300
_NAMES = {"in_use": "in use", "open": "open", "waiting": "waiting"}


def pool_utilisation(
    profile: Profile, *, pid: int | None = None, pool: str = ""
) -> "alt.Chart | alt.LayerChart | Note":
    """Return connections in use, open, and waited for over time, with the pool's limit.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        pool: name of the pool; empty: the one that was used most.
    """
    import altair as alt
    import pandas as pd

    chosen = chosen_pool(profile, pid, pool)
    if chosen is None or not chosen.states:
        return Note("Nothing was recorded: no connection pool was seen in this process.")
    per, _title = time_unit(profile.duration_s)
    parts = []
    for column, name in _NAMES.items():
        gauge = chosen.gauge(column)
        frame = m4(pd.DataFrame(gauge, columns=["at_ns", "count"]), "at_ns", "count", _BUCKETS)
        parts.append(frame.assign(what=name))
    data = pd.concat(parts, ignore_index=True)
    data["at"] = (data["at_ns"] / 1e9 / per).round(3)
    order = list(_NAMES.values())
    highest = int(data["count"].max()) if len(data) else 0
    lines = (
        alt.Chart(data[["at", "count", "what"]])
        .mark_line(interpolate="step-after")
        .encode(
            x=time_x("at", profile.duration_s),
            y=alt.Y("count:Q", title="connections"),
            color=alt.Color("what:N", sort=order, scale=alt.Scale(domain=order), legend=line_legend()),
            tooltip=[alt.Tooltip("what:N", title=""), alt.Tooltip("at:Q"), alt.Tooltip("count:Q")],
        )
    )
    layers = [lines]
    if chosen.limit is not None and chosen.limit <= max(2 * highest, 10):
        line = pd.DataFrame({"count": [chosen.limit], "text": [f"limit {chosen.limit}"]})
        layers.append(alt.Chart(line).mark_rule(style="limit").encode(y="count:Q"))
        layers.append(
            alt.Chart(line).mark_text(style="limit-text").encode(y="count:Q", x=alt.value("width"), text="text:N")
        )
    limit = f"its limit is {chosen.limit}" if chosen.limit is not None else "it has no limit"
    return present(alt.layer(*layers), f"Connections of {chosen.name}", f"At most {highest} open at a time; {limit}.")
