"""How many requests were answered, and how many failed?"""

from typing import TYPE_CHECKING

from perfkit.profile import Profile
from perfkit.units import count_text, percent_text, three_digits
from perfkit.views.charts import present, time_unit, time_x
from perfkit.views.display import Note
from perfkit.views.downsample import step_s

if TYPE_CHECKING:
    import altair as alt

OK, FAILED = "answered", "failed"
_OK_COLOR, _FAILED_COLOR = "#5b93cf", "#d2404f"  # failures are red in every theme

_COUNTS = """
select intended_ns // $step_ns as bin, coalesce(error is not null or status >= 500, false)::int as failed,
    count(*) as requests
from requests group by all order by all
"""


def throughput_over_time(profile: Profile) -> "alt.Chart | alt.LayerChart | Note":
    """Return requests per second over time, answered and failed ones on top of each other.

    A request failed when it got no answer, or one with a status of 500 or more.
    """
    import altair as alt

    width_s = step_s(profile.duration_s)
    data = profile.sql(_COUNTS, step_ns=int(width_s * 1e9))
    if data.empty:
        return Note("Nothing was recorded: perfkit did not make the load, so it saw no requests.")
    per, time_title = time_unit(profile.duration_s)
    data["at"] = (data["bin"] * width_s / per).round(3)
    # The last bin ends with the recording, and its rate is over what is left of it.
    until_s = ((data["bin"] + 1) * width_s).clip(upper=max(profile.duration_s, width_s / 4))
    data["until"] = (until_s / per).round(3)
    data["rate"] = (data["requests"] / (until_s - data["bin"] * width_s).clip(lower=width_s / 4)).round(3)
    data["what"] = data["failed"].map({0: OK, 1: FAILED})
    total, failed = int(data["requests"].sum()), int((data["requests"] * data["failed"]).sum())
    data["top"] = data.groupby("bin")["rate"].cumsum().round(3)
    data["bottom"] = (data["top"] - data["rate"]).round(3)
    chart = (
        alt.Chart(data[["at", "until", "rate", "what", "bottom", "top"]])
        .mark_rect()
        .encode(
            x=time_x("at", profile.duration_s),
            x2="until:Q",
            y=alt.Y("bottom:Q", title="requests per second", scale=alt.Scale(zero=True)),
            y2="top:Q",
            color=alt.Color("what:N", scale=alt.Scale(domain=[OK, FAILED], range=[_OK_COLOR, _FAILED_COLOR])),
            tooltip=[
                alt.Tooltip("what:N", title="outcome"),
                alt.Tooltip("at:Q", title=time_title.split()[0], format=".4~r"),
                alt.Tooltip("rate:Q", title="per second", format=",.4~r"),
            ],
        )
    )
    rate = three_digits(total / profile.duration_s) if profile.duration_s else "?"
    subtitle = f"{count_text(total)} requests, {rate} per second on average, {percent_text(failed / total)} failed."
    return present(chart, "Throughput", subtitle, height=150)
