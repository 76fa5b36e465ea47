"""Which allocation sites hold the memory that is alive, and which of them keep growing?"""

from typing import TYPE_CHECKING

from perfkit.profile import Profile
from perfkit.views.charts import present, time_unit
from perfkit.views.display import Note
from perfkit.views.selection import chosen_pid
from perfkit.views.units import bytes_text, bytes_unit

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_LIVE = """
with site as (
    select s.stack_id,
        coalesce(
            arg_max(f.function || ' (' || f.file || ':' || f.line || ')', b.pos) filter (where f.kind = 'python'),
            arg_max(f.function, b.pos)
        ) as name
    from (select distinct stack_id from heap_survival where pid = $pid) s
    join stack_frames b using (stack_id) join frames f using (frame_id)
    group by s.stack_id
),
steps as (select distinct allocated_ns as at_ns from heap_survival where pid = $pid),
ranked as (
    select name, row_number() over (
        order by sum(size_bytes) filter (where freed_ns is null) desc nulls last, sum(size_bytes) desc, name) as place
    from heap_survival join site using (stack_id) where pid = $pid group by name
)
select steps.at_ns, case when r.place <= $top then r.name else 'everything else' end as what,
    min(r.place)::bigint as place, sum(h.size_bytes)::bigint as bytes
from steps
join heap_survival h on h.pid = $pid and h.allocated_ns <= steps.at_ns
    and (h.freed_ns is null or h.freed_ns > steps.at_ns)
join site using (stack_id) join ranked r using (name)
group by all order by steps.at_ns, place
"""


def heap_over_time(profile: Profile, *, pid: int | None = None, top: int = 5) -> "alt.Chart | alt.LayerChart | Note":
    """Return the bytes that are alive over time, stacked by the line of the program that allocated them.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        top: number of allocation sites with a colour of their own.
    """
    import altair as alt

    data = profile.sql(_LIVE, pid=chosen_pid(profile, pid), top=top)
    if data.empty:
        return Note("Nothing was recorded: no allocation was traced in this process.")
    data = _complete(data)
    per, time_title = time_unit(profile.duration_s)
    divisor, unit = bytes_unit([float(data.groupby("at_ns")["bytes"].sum().max())])
    data["at"] = (data["at_ns"] / 1e9 / per).round(3)
    data["size"] = (data["bytes"] / divisor).round(4)
    order = data.groupby("what")["place"].min().sort_values(kind="stable").index.tolist()
    leader = data[data["what"] == order[0]]["bytes"]
    chart = (
        alt.Chart(data[["at", "size", "what", "place"]])
        .mark_area()
        .encode(
            x=alt.X("at:Q", title=time_title, scale=alt.Scale(nice=False)),
            y=alt.Y("size:Q", title=unit, stack="zero"),
            color=alt.Color("what:N", sort=order, scale=alt.Scale(domain=order), legend=alt.Legend(columns=1)),
            order=alt.Order("place:Q"),
            tooltip=[
                alt.Tooltip("what:N", title="allocated by"),
                alt.Tooltip("at:Q", title=time_title.split()[0], format=".4~r"),
                alt.Tooltip("size:Q", title=unit, format=",.4~r"),
            ],
        )
    )
    subtitle = f"{order[0]}: {bytes_text(leader.iloc[0])} at the start, {bytes_text(leader.iloc[-1])} at the end."
    return present(chart, "Living memory by the line that allocated it", subtitle)


def _complete(data: "pd.DataFrame") -> "pd.DataFrame":
    """Return the rows with a zero where a site had nothing alive, which stacked areas need."""
    places = data.groupby("what")["place"].min()
    table = data.pivot_table(index="at_ns", columns="what", values="bytes", aggfunc="sum", fill_value=0)
    long = table.reset_index().melt("at_ns", var_name="what", value_name="bytes")
    long["place"] = long["what"].map(places)
    return long.sort_values(["at_ns", "place"], kind="stable", ignore_index=True)
