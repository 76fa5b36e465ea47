"""How long did requests take, and did that change?"""

from typing import TYPE_CHECKING

from perfkit.profile import Profile
from perfkit.units import seconds_text
from perfkit.views.charts import line_legend, present, time_unit, time_x
from perfkit.views.display import Note
from perfkit.views.downsample import step_s

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_BANDS = """
select intended_ns // $step_ns as bin, unnest([50, 95, 99]) as percentile,
    unnest(quantile_disc(latency_ns, [0.5, 0.95, 0.99])) as latency_ns
from requests group by bin order by bin, percentile
"""
_WHOLE = """
select quantile_disc(latency_ns, [0.5, 0.95, 0.99]) as q, count(*) as requests from requests
"""


def latency_over_time(profile: Profile) -> "alt.Chart | alt.LayerChart | Note":
    """Return the median, 95th and 99th percentile of the latency over time, on a logarithmic scale.

    Latency counts from the moment the schedule wanted the request to start, so a stalled
    service is not excused by a load generator that waits for it (coordinated omission).
    """
    import altair as alt

    whole = profile.sql(_WHOLE)
    if not whole["requests"].iloc[0]:
        return Note("Nothing was recorded: perfkit did not make the load, so it saw no requests.")
    width_s = step_s(profile.duration_s, steps=120)
    data = profile.sql(_BANDS, step_ns=int(width_s * 1e9))
    per, time_title = time_unit(profile.duration_s)
    data["at"] = ((data["bin"] + 0.5) * width_s / per).round(3)
    data["latency"] = (data["latency_ns"].clip(lower=1_000) / 1e6).round(4)
    order = ["p50", "p95", "p99"]
    data["what"] = "p" + data["percentile"].astype(str)
    chart = (
        alt.Chart(data[["at", "latency", "what"]])
        .mark_line()
        .encode(
            x=time_x("at", profile.duration_s),
            y=alt.Y(
                "latency:Q",
                title="milliseconds",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(values=_ticks(data["latency"])),
            ),
            color=alt.Color("what:N", sort=order, scale=alt.Scale(domain=order), legend=line_legend()),
            tooltip=[
                alt.Tooltip("what:N", title="percentile"),
                alt.Tooltip("at:Q", title=time_title.split()[0], format=".4~r"),
                alt.Tooltip("latency:Q", title="ms", format=",.3~r"),
            ],
        )
    )
    p50, p95, p99 = (seconds_text(value / 1e9) for value in whole["q"].iloc[0])
    return present(chart, "Latency", f"From the intended start: p50 {p50}, p95 {p95}, p99 {p99}.", height=170)


def _ticks(values_ms: "pd.Series[float]") -> list[float]:
    """Return the powers of ten that a logarithmic axis needs, with the threes between them when there are few."""
    from math import ceil, floor, log10

    low, high = floor(log10(values_ms.min())), ceil(log10(values_ms.max()))
    steps = (1, 3) if high - low <= 3 else (1,)
    return [step * 10.0**power for power in range(low, high + 1) for step in steps]
