"""What happens to each connection: when is it lent, and does it come back?"""

from typing import TYPE_CHECKING

from perfkit.profile import Profile
from perfkit.units import count_text
from perfkit.views.charts import present, time_unit, time_x
from perfkit.views.display import Note
from perfkit.views.selection import chosen_pool

if TYPE_CHECKING:
    import altair as alt

_MAX_USES = 1500
_ORDER = ("came back", "freed by the interpreter", "still out at the end")
_COLORS = ("#5b93cf", "#c8701a", "#c9374a")
"""They read on white and on black; what did not come back is red."""
_HEIGHT = 9


def connection_lives(
    profile: Profile, *, pid: int | None = None, pool: str = "", connections: int = 40
) -> "alt.Chart | alt.LayerChart | Note":
    """Return one line per connection with its uses: those that came back and those that did not.

    Of many connections those are shown that were out longest; of many uses the longest.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        pool: name of the pool; empty: the one that was used most.
        connections: most lines to draw.
    """
    import altair as alt
    import pandas as pd

    chosen = chosen_pool(profile, pid, pool)
    if chosen is None or not chosen.checkouts:
        return Note("Nothing was recorded: no connection was taken from a pool in this process.")
    per, _title = time_unit(profile.duration_s)
    held: dict[int, int] = {}
    for use in chosen.checkouts:
        number = -1 if use.connection is None else use.connection
        held[number] = held.get(number, 0) + use.held_ns(chosen.until_ns)
    shown = sorted(sorted(held, key=lambda number: -held[number])[:connections])
    uses = [use for use in chosen.checkouts if use.connection in shown]
    uses = sorted(uses, key=lambda use: -use.held_ns(chosen.until_ns))[:_MAX_USES]
    rows = [
        {
            "connection": str(use.connection),
            "from": round(use.acquired_ns / 1e9 / per, 4),
            "until": round((use.acquired_ns + use.held_ns(chosen.until_ns)) / 1e9 / per, 4),
            "end": {None: _ORDER[2], "collected": _ORDER[1]}.get(use.how, _ORDER[0]),
        }
        for use in uses
    ]
    chart = (
        alt.Chart(pd.DataFrame(rows))
        .mark_bar(height=_HEIGHT - 2)
        .encode(
            x=time_x("from", profile.duration_s),
            x2="until:Q",
            y=alt.Y("connection:N", title="connections", sort=[str(number) for number in shown],
                    axis=alt.Axis(labels=len(shown) <= 25)),
            color=alt.Color("end:N", sort=list(_ORDER), scale=alt.Scale(domain=list(_ORDER), range=list(_COLORS))),
            tooltip=["connection:N", "from:Q", "until:Q", "end:N"],
        )
    )  # fmt: skip
    out = sum(use.how is None for use in chosen.checkouts)
    which = f"The {len(shown)} of {len(held)} connections that were out longest" if len(shown) < len(held) else "All"
    text = f"{which}; {count_text(out)} of {count_text(len(chosen.checkouts))} uses had not ended."
    return present(chart, f"Uses of connections of {chosen.name}", text, height=max(60, _HEIGHT * len(shown)))
