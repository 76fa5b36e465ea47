"""When did the service stand still, and for how long?"""

from typing import TYPE_CHECKING

import numpy as np

from perfkit.profile import Profile
from perfkit.units import count_text, percent_text, seconds_text
from perfkit.views.charts import present, time_unit, time_x
from perfkit.views.display import Note
from perfkit.views.selection import chosen_pid, gc_case

if TYPE_CHECKING:
    import altair as alt

_KINDS = ("young objects", "young and middle-aged", "everything", "asked for by the program")
_MOST_DOTS = 1500


def gc_pauses_over_time(profile: Profile, *, pid: int | None = None) -> "alt.Chart | alt.LayerChart | Note":
    """Return one dot per collection over time, as high as its pause, on a logarithmic scale.

    Where there are more than can be told apart, the shortest of each stretch of time are left out.
    """
    import altair as alt
    import pandas as pd

    case = gc_case(profile, chosen_pid(profile, pid))
    if case is None:
        return Note("Nothing was recorded: it takes the collector gc_pauses to see collections.")
    pauses = case.costs.pauses
    # Collectors are stopped one after the other: what comes after the end would pile up at the edge.
    own = pauses.chosen(~pauses.ours & (pauses.start_ns <= profile.manifest.duration_ns))
    later = int((~pauses.ours).sum()) - len(own)
    if not len(own):
        return Note("The collector never ran while it was recorded.")
    per, time_title = time_unit(profile.duration_s)
    kind = np.where(own.manual, 3, own.generation)
    data = pd.DataFrame(
        {
            "at": (own.start_ns / 1e9 / per).round(3),
            "pause": (np.maximum(own.pause_ns, 1_000) / 1e6).round(4),
            "what": [_KINDS[number] for number in kind],
            "collected": own.collected,
        }
    )
    if len(data) > _MOST_DOTS:
        kept = data.groupby("what")["pause"].rank(ascending=False, method="first") <= _MOST_DOTS // len(
            set(data["what"])
        )
        data = data[kept]
    order = [name for name in _KINDS if name in set(data["what"])]
    chart = (
        alt.Chart(data)
        .mark_circle(size=34, opacity=0.65)
        .encode(
            x=time_x("at", profile.duration_s),
            y=alt.Y(
                "pause:Q",
                title="milliseconds",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(values=_ticks(data["pause"].min(), data["pause"].max())),
            ),
            color=alt.Color("what:N", sort=order, scale=alt.Scale(domain=order)),
            tooltip=[
                alt.Tooltip("what:N", title="walks"),
                alt.Tooltip("at:Q", title=time_title.split()[0], format=".4~r"),
                alt.Tooltip("pause:Q", title="ms", format=",.3~r"),
                alt.Tooltip("collected:Q", title="objects freed", format=","),
            ],
        )
    )
    longest = seconds_text(float(own.pause_ns.max()) / 1e9)
    shown = "" if len(data) == len(own) else f" The {count_text(len(data))} longest are shown."
    shown += f" {count_text(later)} more came while the recording was brought to its end." if later else ""
    subtitle = (
        f"{count_text(len(own))} collections, {percent_text(case.costs.ratio)} of the time, {longest} at most.{shown}"
    )
    return present(chart, "Pauses", subtitle, height=190)


def _ticks(low_ms: float, high_ms: float) -> list[float]:
    """Return the powers of ten that the axis needs."""
    return [10.0**power for power in range(int(np.floor(np.log10(low_ms))), int(np.ceil(np.log10(high_ms))) + 1)]
