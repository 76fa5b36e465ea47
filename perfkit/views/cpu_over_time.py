"""Which threads used the CPU, and when?"""

from typing import TYPE_CHECKING

from perfkit.profile import Profile
from perfkit.units import three_digits
from perfkit.views.charts import present, time_unit, time_x
from perfkit.views.display import Note
from perfkit.views.downsample import step_s
from perfkit.views.selection import chosen_pid

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_THREADS = """
with busy as (
    select tick_ns // $step_ns as bin, coalesce(t.name, 'thread ' || t.thread_id) as what, weight_ns
    from cpu_samples join threads t using (thread_id) where t.pid = $pid and active
),
ranked as (
    select what, row_number() over (order by sum(weight_ns) desc, what) as place from busy group by what
)
select bin, case when place <= 5 then what else 'other threads' end as what, min(place)::bigint as place,
    sum(weight_ns)::bigint as busy_ns
from busy join ranked using (what) group by all order by bin, place
"""
_PROCESS = """
select at_ns, cpu_user_ns + cpu_system_ns as cpu_ns from process_stats where pid = $pid order by at_ns
"""


def cpu_over_time(profile: Profile, *, pid: int | None = None) -> "alt.Chart | alt.LayerChart | Note":
    """Return the CPUs in use over time, by thread as the sampler saw it, or of the process as the kernel counted."""
    import altair as alt

    pid = chosen_pid(profile, pid)
    width_s = step_s(profile.duration_s, steps=120)
    per, time_title = time_unit(profile.duration_s)
    kernel = profile.sql(_PROCESS, pid=pid)
    data = _by_thread(profile.sql(_THREADS, pid=pid, step_ns=int(width_s * 1e9)), width_s, per)
    if data.empty:
        data = _by_process(kernel, per)
    if data.empty:
        return Note("Nothing was recorded: no collector read the CPU time of this process.")
    order = data.groupby("what")["place"].min().sort_values(kind="stable").index.tolist()
    chart = (
        alt.Chart(data[["at", "cpus", "what", "place"]])
        .mark_area(interpolate="step-after")
        .encode(
            x=time_x("at", profile.duration_s),
            y=alt.Y("cpus:Q", title="CPUs in use", stack="zero"),
            color=alt.Color("what:N", sort=order, scale=alt.Scale(domain=order)),
            order=alt.Order("place:Q"),
            tooltip=[
                alt.Tooltip("what:N", title="thread"),
                alt.Tooltip("at:Q", title=time_title.split()[0], format=".4~r"),
                alt.Tooltip("cpus:Q", title="CPUs", format=".3~r"),
            ],
        )
    )
    return present(chart, "CPU", _subtitle(kernel), height=150)


def _by_thread(samples: "pd.DataFrame", width_s: float, per: float) -> "pd.DataFrame":
    """Return the share of each bin that each thread was running, with zeros where it was not."""
    if samples.empty:
        return samples
    places = samples.groupby("what")["place"].min()
    table = samples.pivot_table(index="bin", columns="what", values="busy_ns", aggfunc="sum", fill_value=0)
    last = int(table.index.max())
    table = table.reindex(range(int(table.index.min()), last + 1), fill_value=0)
    table.loc[last + 1] = table.loc[last]  # a step needs the end of the last bin
    data = table.rename_axis("bin").reset_index().melt("bin", var_name="what", value_name="busy_ns")
    data["place"] = data["what"].map(places)
    data["at"] = (data["bin"] * width_s / per).round(3)
    data["cpus"] = (data["busy_ns"] / 1e9 / width_s).round(4)
    return data.sort_values(["bin", "place"], kind="stable", ignore_index=True)


def _by_process(kernel: "pd.DataFrame", per: float) -> "pd.DataFrame":
    """Return the CPU time between two readings over the time between them."""
    steps = kernel.diff().rename(columns={"at_ns": "step_ns", "cpu_ns": "used_ns"})
    data = kernel.join(steps)
    data = data[data["step_ns"] > 0]
    return data.assign(
        at=((data["at_ns"] - data["step_ns"]) / 1e9 / per).round(3),
        cpus=(data["used_ns"] / data["step_ns"]).round(4),
        what="process",
        place=1,
    )


def _subtitle(kernel: "pd.DataFrame") -> str:
    """Return the kernel's own count in words."""
    if len(kernel) < 2:
        return "As the sampler saw it; the kernel's own count was not recorded."
    used = kernel["cpu_ns"].iloc[-1] - kernel["cpu_ns"].iloc[0]
    span = kernel["at_ns"].iloc[-1] - kernel["at_ns"].iloc[0]
    return f"The kernel counted {three_digits(used / max(span, 1))} CPUs in use on average."
