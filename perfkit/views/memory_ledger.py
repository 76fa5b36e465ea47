"""What does the resident memory consist of, and which part of it grows?"""

from typing import TYPE_CHECKING

import numpy as np

from perfkit.profile import Profile
from perfkit.units import bytes_text, bytes_unit, percent_text
from perfkit.views.charts import present, time_unit, time_x
from perfkit.views.display import Note
from perfkit.views.selection import chosen_pid

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

MOMENTS = 400
"""Most readings that are drawn, evenly chosen: with at most seven parts below Altair's 5,000 rows."""
REST = "Python's small objects and the rest"
_ANONYMOUS = {
    "glibc_in_use": "malloc, in use",
    "glibc_retained": "malloc, freed but kept",
    "pymalloc_free": "Python's allocator, freed but kept",
}


def memory_ledger(profile: Profile, *, pid: int | None = None) -> "alt.Chart | alt.LayerChart | Note":
    """Return the resident memory over time, stacked by what it consists of.

    File-backed, shared and anonymous memory add up to the resident memory by the kernel's
    definition. Of the anonymous memory, what the C library and Python's allocator say of
    themselves is shown; the rest is Python's small objects, thread stacks and other mappings.
    Where the allocators claim more than there is, the subtitle says by how much.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
    """
    import altair as alt

    readings = profile.frame("memory_ledger")
    readings = readings[readings["pid"] == chosen_pid(profile, pid)].sort_values("at_ns", kind="stable")
    if readings.empty:
        return Note("Nothing was recorded: no collector read what the memory of this process consists of.")
    inside = readings[readings["glibc_in_use_bytes"].notna()]
    readings = inside if len(inside) >= 2 else readings
    if len(readings) > MOMENTS:
        readings = readings.iloc[np.unique(np.linspace(0, len(readings) - 1, MOMENTS).astype(int))]
    data, too_much = _parts(readings)
    per, time_title = time_unit(profile.duration_s)
    divisor, unit = bytes_unit([float(readings["rss_bytes"].max())])
    data["at"] = (data["at_ns"] / 1e9 / per).round(3)
    data["size"] = (data["bytes"] / divisor).round(4)
    order = data.groupby("what")["place"].min().sort_values(kind="stable").index.tolist()
    chart = (
        alt.Chart(data[["at", "size", "what", "place"]])
        .mark_area()
        .encode(
            x=time_x("at", profile.duration_s),
            y=alt.Y("size:Q", title=unit, stack="zero"),
            color=alt.Color("what:N", sort=order, scale=alt.Scale(domain=order), legend=alt.Legend(columns=1)),
            order=alt.Order("place:Q"),
            tooltip=[
                alt.Tooltip("what:N", title="part"),
                alt.Tooltip("at:Q", title=time_title.split()[0], format=".4~r"),
                alt.Tooltip("size:Q", title=unit, format=",.4~r"),
            ],
        )
    )
    return present(chart, "What the resident memory consists of", _subtitle(data, too_much))


def _parts(readings: "pd.DataFrame") -> tuple["pd.DataFrame", float]:
    """Return one row per moment and part (at_ns, what, bytes, place), and the share that is claimed twice at most."""
    import pandas as pd

    anon = readings["anon_bytes"].to_numpy(np.float64)
    known = {
        name: readings[f"{column}_bytes"].to_numpy(np.float64, na_value=0.0)
        for column, name in _ANONYMOUS.items()
        if readings[f"{column}_bytes"].notna().any()
    }
    rest = anon - sum(known.values(), np.zeros(len(anon)))
    too_much = float(np.max(np.maximum(-rest, 0) / np.maximum(anon, 1)))
    files = {
        name: readings[column].to_numpy(np.float64)
        for column, name in (("file_bytes", "files and code"), ("shmem_bytes", "shared memory"))
        if readings[column].max() > 0
    }
    parts = {REST if known else "anonymous": np.maximum(rest, 0)} | known | files
    frames = [
        pd.DataFrame({"at_ns": readings["at_ns"].to_numpy(), "what": name, "bytes": values, "place": place})
        for place, (name, values) in enumerate(parts.items())
    ]
    return pd.concat(frames, ignore_index=True), too_much


def _subtitle(data: "pd.DataFrame", too_much: float) -> str:
    """Return which part grew most, and what does not add up."""
    ends = data.sort_values("at_ns", kind="stable").groupby("what")["bytes"].agg(["first", "last"])
    grown = (ends["last"] - ends["first"]).sort_values(ascending=False, kind="stable")
    first, last = (bytes_text(float(value)) for value in ends.loc[grown.index[0], ["first", "last"]])
    text = f"Grew most: {grown.index[0]}, from {first} to {last}." if grown.iloc[0] > 0 else "No part grew."
    if too_much > 0.01:
        text += f" The allocators count up to {percent_text(too_much)} more than is resident."
    return text
