"""How many sockets does the process have, in which states, towards whom?"""

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

from perfkit.analysis.socket_lifetimes import coverage, socket_window
from perfkit.analysis.socket_states import Spell, reading_moments, spells
from perfkit.profile import Profile
from perfkit.units import count_text, percent_text
from perfkit.views.charts import present, time_unit, time_x
from perfkit.views.display import Note
from perfkit.views.selection import chosen_pid

if TYPE_CHECKING:
    import altair as alt

MOMENTS = 300
"""Most readings that are drawn, evenly chosen: with the most series below Altair's 5,000 rows."""
_MOST_SERIES = 8
OTHERS = "other states"


def sockets_over_time(profile: Profile, *, pid: int | None = None) -> "alt.Chart | alt.LayerChart | Note":
    """Return the number of TCP sockets over time by direction and state, listening ones left out.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
    """
    import altair as alt
    import pandas as pd

    pid = chosen_pid(profile, pid)
    window = socket_window(profile, pid)
    found = spells(profile, pid, window.until_s) if window is not None else []
    if not found or window is None:
        return Note("Nothing was recorded: no collector read the sockets of this process, or it had none.")
    longest = Counter[str]()
    for spell in found:
        longest[_series(spell)] += max(1, round(spell.length_s * 1000))
    kept = [name for name, _ in longest.most_common(_MOST_SERIES)]
    moments = reading_moments(profile, pid)
    moments = [*moments[:: -(-len(moments) // MOMENTS)], window.until_s]
    counts = {name: [0] * len(moments) for name in (*kept, OTHERS)}
    for spell in found:
        series = counts[name if (name := _series(spell)) in kept else OTHERS]
        # A spell that ends with a reading is not in it any more, one that lasts is in all that follow.
        last = len(moments) if spell.open_end else bisect_left(moments, spell.until_s)
        for moment in range(bisect_left(moments, spell.from_s), last):
            series[moment] += 1
    per, time_title = time_unit(profile.duration_s)
    shown = [name for name in (*sorted(kept), OTHERS) if any(counts[name])]
    data = pd.DataFrame(
        [
            {"at": round(at_s / per, 3), "sockets": number, "what": name}
            for name in shown
            for at_s, number in zip(moments, counts[name], strict=True)
        ]
    )
    chart = (
        alt.Chart(data)
        .mark_area(interpolate="step-after")
        .encode(
            x=time_x("at", profile.duration_s),
            y=alt.Y("sockets:Q", title="sockets", stack="zero"),
            color=alt.Color("what:N", sort=shown, scale=alt.Scale(domain=shown)),
            tooltip=[
                alt.Tooltip("what:N", title="sockets"),
                alt.Tooltip("at:Q", title=time_title.split()[0], format=".4~r"),
                alt.Tooltip("sockets:Q", title="number"),
            ],
        )
    )
    return present(chart, "TCP sockets", _subtitle(profile, pid, found))


def _series(spell: Spell) -> str:
    """Return what a socket in a state is called."""
    return f"{spell.role}, {spell.state.replace('_', '-')}"


def _subtitle(profile: Profile, pid: int, found: list[Spell]) -> str:
    """Return how many there were, and how much of all was seen."""
    text = f"{count_text(len({spell.cookie for spell in found}))} connections were seen while they lived."
    seen = coverage(profile, pid)
    if seen is not None and seen[0]:
        text += f" Of all that were opened in the network namespace, {percent_text(seen[1] / seen[0])} were noticed."
    return text
