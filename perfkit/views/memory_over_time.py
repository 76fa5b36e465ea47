"""Does the memory grow, and which part of it?"""

from typing import TYPE_CHECKING

from perfkit.profile import Profile
from perfkit.units import bytes_text, bytes_unit, seconds_text
from perfkit.views.charts import line_legend, present, time_unit, time_x
from perfkit.views.display import Note
from perfkit.views.downsample import m4
from perfkit.views.selection import chosen_pid, chosen_warmup_s, evidence

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_BUCKETS = 400
"""Three curves of at most four readings per bucket: below the 5,000 rows that Altair draws."""
RESIDENT, ANONYMOUS, TRACED = "resident (RSS)", "anonymous", "traced by memray"


def memory_over_time(
    profile: Profile, *, pid: int | None = None, warmup_s: float | None = None, limit_mib: float = 0.0
) -> "alt.Chart | alt.LayerChart | Note":
    """Return resident, anonymous and traced memory over time, with the memory limit when there is one.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        warmup_s: start of the recording that is shaded because the analysis leaves it out, in seconds; None or
            negative: found from the data.
        limit_mib: memory that the process may use, in MiB; 0: the limit that was recorded.
    """
    import altair as alt
    import pandas as pd

    pid = chosen_pid(profile, pid)
    parts = [
        _series(profile, "memory_ledger", "rss_bytes", RESIDENT, pid),
        _series(profile, "memory_ledger", "anon_bytes", ANONYMOUS, pid),
        _series(profile, "heap_usage", "traced_bytes", TRACED, pid),
    ]
    if parts[0].empty:
        parts[0] = _series(profile, "heap_usage", "rss_bytes", RESIDENT, pid)
    parts = [part for part in parts if not part.empty]
    if not parts:
        return Note("Nothing was recorded: no collector read the memory of this process.")
    data = pd.concat(parts, ignore_index=True)
    limit = int(limit_mib * (1 << 20)) if limit_mib > 0 else _limit_bytes(profile, pid)
    highest = float(data["bytes"].max())
    shows_limit = limit is not None and limit <= 2 * highest
    divisor, unit = bytes_unit([limit if limit is not None and shows_limit else highest])
    per, time_title = time_unit(profile.duration_s)
    data["at"] = (data["at_ns"] / 1e9 / per).round(3)
    data["size"] = (data["bytes"] / divisor).round(3)
    order = [name for name in (RESIDENT, ANONYMOUS, TRACED) if name in set(data["what"])]
    x = time_x("at", profile.duration_s)
    y = alt.Y("size:Q", title=unit)
    lines = (
        alt.Chart(data[["at", "size", "what"]])
        .mark_line()
        .encode(
            x=x,
            y=y,
            color=alt.Color("what:N", sort=order, scale=alt.Scale(domain=order), legend=line_legend()),
            tooltip=[
                alt.Tooltip("what:N", title="memory"),
                alt.Tooltip("at:Q", title=time_title.split()[0], format=".4~r"),
                alt.Tooltip("size:Q", title=unit, format=",.4~r"),
            ],
        )
    )
    layers: list[alt.Chart] = []
    warmup_s = chosen_warmup_s(profile, pid, warmup_s)
    if warmup_s > 0:
        shade = pd.DataFrame({"from": [0.0], "until": [warmup_s / per]})
        layers.append(
            alt.Chart(shade).mark_rect(style="warmup").encode(x=time_x("from", profile.duration_s), x2="until:Q")
        )
    layers.append(lines)
    if limit is not None and shows_limit:
        line = pd.DataFrame({"size": [limit / divisor], "text": [f"limit {bytes_text(limit)}"]})
        layers.append(alt.Chart(line).mark_rule(style="limit").encode(y="size:Q"))
        layers.append(
            alt.Chart(line).mark_text(style="limit-text").encode(y="size:Q", x=alt.value("width"), text="text:N")
        )
    return present(
        alt.layer(*layers),
        "Memory of the process",
        _subtitle(parts[0], limit) + _reached(profile, pid, parts[0], limit),
    )


def _series(profile: Profile, table: str, column: str, name: str, pid: int) -> "pd.DataFrame":
    """Return one curve with the columns at_ns, bytes and what."""
    frame = profile.sql(
        f"select at_ns, {column} as bytes from {table} where pid = $pid and {column} is not null order by at_ns",  # noqa: S608
        pid=pid,
    )
    return m4(frame, "at_ns", "bytes", _BUCKETS).assign(what=name)


def _limit_bytes(profile: Profile, pid: int) -> int | None:
    """Return the last memory limit of the process's control group, None when there is none."""
    rows = profile.sql(
        "select cgroup_limit_bytes as bytes from memory_ledger"
        " where pid = $pid and cgroup_limit_bytes is not null order by at_ns desc limit 1",
        pid=pid,
    )
    return None if rows.empty else int(rows["bytes"].iloc[0])


def _subtitle(resident: "pd.DataFrame", limit: int | None) -> str:
    """Return what the curve says in words."""
    first, last = resident["bytes"].iloc[0], resident["bytes"].iloc[-1]
    ends = "No limit was set." if limit is None else f"The limit is {bytes_text(limit)}."
    return f"{resident['what'].iloc[0]}: {bytes_text(first)} at the start, {bytes_text(last)} at the end. {ends}"


def _reached(profile: Profile, pid: int, resident: "pd.DataFrame", limit: int | None) -> str:
    """Return when a limit is reached if the memory goes on growing as it does at the end, in words."""
    grown = evidence(profile, pid).ledger.rss
    if limit is None or grown is None or not grown.keeps_growing:
        return ""
    left = limit - float(resident["bytes"].iloc[-1])
    return f" At this rate it is reached in {seconds_text(left / grown.slope.estimate)}." if left > 0 else ""
