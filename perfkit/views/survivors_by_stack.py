"""Who allocates what is never freed?"""

from perfkit.analysis.survival import places
from perfkit.profile import Profile
from perfkit.units import bytes_text, count_text, percent_text
from perfkit.views.display import Bar, Cell, Chain, Note, Place, PlainTable
from perfkit.views.selection import chosen_pid, chosen_warmup_s

_SURVIVORS = """
with survivors as (
    select stack_id, sum(size_bytes) filter (where freed_ns is null) as alive_bytes,
        sum(allocations) filter (where freed_ns is null) as alive,
        sum(size_bytes) as made_bytes
    from heap_survival where pid = $pid and allocated_ns > $warmup_ns and list_contains($known, stack_id)
    group by stack_id having alive_bytes > 0
)
select s.stack_id, alive_bytes::double as alive_bytes, alive::double as alive, made_bytes::double as made_bytes,
    list({'function': f.function, 'kind': f.kind} order by b.pos) as frames
from survivors s join stack_frames b using (stack_id) join frames f using (frame_id)
group by all order by alive_bytes desc, s.stack_id limit $top
"""
_ALL = """
select coalesce(sum(size_bytes), 0)::double as alive_bytes from heap_survival
where pid = $pid and allocated_ns > $warmup_ns and freed_ns is null and list_contains($known, stack_id)
"""


def survivors_by_stack(
    profile: Profile, *, pid: int | None = None, top: int = 10, warmup_s: float | None = None
) -> PlainTable | Note:
    """Return the allocation stacks whose memory was still alive at the end, the largest first.

    What was allocated during the warm-up is left out: it belongs to what the service loads once.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        top: most rows to show.
        warmup_s: start of the recording to leave out, in seconds; None or negative: found from the data.
    """
    pid = chosen_pid(profile, pid)
    warmup_s = chosen_warmup_s(profile, pid, warmup_s)
    traced = profile.sql("select count(*) as n from heap_survival where pid = $pid", pid=pid)["n"].iloc[0]
    if not traced:
        return Note("Nothing was recorded: no allocation was traced in this process.")
    only = {"pid": pid, "warmup_ns": int(warmup_s * 1e9), "known": list(place_of := places(profile))}
    data = profile.sql(_SURVIVORS, top=top, **only)
    if data.empty:
        return Note("Nothing that was allocated after the warm-up was still alive at the end.")
    total = float(profile.sql(_ALL, **only)["alive_bytes"].iloc[0])
    seconds = max(profile.duration_s - warmup_s, 1e-9)
    rows: list[list[Cell]] = []
    for _, row in data.iterrows():
        site = place_of[row["stack_id"]]
        callers = [frame["function"] for frame in row["frames"] if frame["kind"] == "python"]
        callers = callers[:-1] if site.kind == "python" else callers
        share = row["alive_bytes"] / total
        rows.append(
            [
                Place(site.function, site.file, site.line),
                Chain(tuple(callers[-3:])) if callers else "",
                Bar(bytes_text(row["alive_bytes"]), share),
                percent_text(share),
                f"{bytes_text(row['alive_bytes'] / seconds)}/s",
                count_text(row["alive"]),
                percent_text(row["alive_bytes"] / row["made_bytes"]),
            ]
        )
    headers = ("allocated in", "called by", "alive at the end", "share", "rate", "allocations", "of its own survive")
    return PlainTable(headers, rows, numbers=frozenset(headers[2:]))
