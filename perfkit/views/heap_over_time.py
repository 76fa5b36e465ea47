"""Which allocation sites hold the memory that is alive, and which of them keep growing?"""

from typing import TYPE_CHECKING

from perfkit.analysis.survival import LiveHeap, Place, live_heap
from perfkit.profile import Profile
from perfkit.units import bytes_text, bytes_unit
from perfkit.views.charts import present, time_unit, time_x
from perfkit.views.display import Note
from perfkit.views.selection import chosen_pid

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

MOMENTS = 200
REST = "everything else"


def heap_over_time(profile: Profile, *, pid: int | None = None, top: int = 5) -> "alt.Chart | alt.LayerChart | Note":
    """Return the bytes that are alive over time, stacked by the line of the program that allocated them.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        top: number of allocation sites with a colour of their own.
    """
    import altair as alt

    heap = live_heap(profile, chosen_pid(profile, pid), points=MOMENTS)
    if heap is None:
        return Note("Nothing was recorded: no allocation was traced in this process.")
    data = _largest(heap, top)
    per, time_title = time_unit(profile.duration_s)
    divisor, unit = bytes_unit([float(heap.live_bytes.sum(axis=0).max())])
    data["at"] = (data["at"] / per).round(3)
    data["size"] = (data["bytes"] / divisor).round(4)
    order = data.groupby("what")["place"].min().sort_values(kind="stable").index.tolist()
    leader = data[data["what"] == order[0]]["bytes"]
    chart = (
        alt.Chart(data[["at", "size", "what", "place"]])
        .mark_area()
        .encode(
            x=time_x("at", profile.duration_s),
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


def _largest(heap: LiveHeap, top: int) -> "pd.DataFrame":
    """Return one row per moment and site (columns at, what, bytes, place): the largest at the end, and the rest."""
    import numpy as np
    import pandas as pd

    order = sorted(range(len(heap.sites)), key=lambda site: (-heap.live_bytes[site][-1], _name(heap.sites[site]), site))
    curves = [(_name(heap.sites[site]), heap.live_bytes[site]) for site in order[:top]]
    if order[top:]:
        curves.append((REST, np.sum([heap.live_bytes[site] for site in order[top:]], axis=0)))
    frames = [
        pd.DataFrame({"at": heap.time_s, "what": name, "bytes": curve, "place": place})
        for place, (name, curve) in enumerate(curves)
    ]
    return pd.concat(frames, ignore_index=True)


def _name(site: Place) -> str:
    """Return a site as people write it."""
    if site.file is None:
        return site.function
    return f"{site.function} ({site.file}:{site.line})" if site.line else f"{site.function} ({site.file})"
