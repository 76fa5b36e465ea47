"""Who holds what grows?"""

from perfkit.analysis.naming import short_type
from perfkit.profile import Profile
from perfkit.units import count_text, three_digits
from perfkit.views.display import Bar, Cell, Chain, Note, Place, PlainTable, Spark
from perfkit.views.selection import chosen_pid, chosen_warmup_s, evidence

_GROWTH = """
with kept as (select * from container_sizes where pid = $pid and at_ns >= $warmup_ns)
select container, last(type order by rung) as type, list(items order by rung) as items,
    last(item_type order by rung) as item_type, last(owner order by rung) as owner,
    last(items order by rung) - first(items order by rung) as grown, max(at_ns) - min(at_ns) as span_ns
from kept group by container having count(*) >= 2 and grown > 0 order by grown desc, container limit $top
"""


def growing_containers(
    profile: Profile, *, pid: int | None = None, top: int = 10, warmup_s: float | None = None
) -> PlainTable | Note:
    """Return the containers that got longer after the warm-up, with the path from a module that keeps them alive.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        top: most rows to show.
        warmup_s: start of the recording to leave out, in seconds; None or negative: found from the data.
    """
    pid = chosen_pid(profile, pid)
    warmup_s = chosen_warmup_s(profile, pid, warmup_s)
    known = profile.sql("select count(*) as n from container_sizes where pid = $pid", pid=pid)["n"].iloc[0]
    if not known:
        return Note("Nothing was recorded: no collector measured the length of containers in this process.")
    data = profile.sql(_GROWTH, pid=pid, warmup_ns=int(warmup_s * 1e9), top=top)
    if data.empty:
        return Note("No container is longer at the end than after the warm-up.")
    largest = float(data["grown"].max())
    clear = {growth.container for growth in evidence(profile, pid).containers if growth.keeps_growing}
    rows: list[list[Cell]] = [
        [
            Chain(tuple(row["owner"].split(" > "))) if isinstance(row["owner"], str) else "owner not found",
            Place(f"{short_type(row['type'])} of {row['item_type']}")
            if isinstance(row["item_type"], str)
            else Place(row["type"]),
            Spark(tuple(float(value) for value in row["items"])),
            count_text(row["items"][0]),
            count_text(row["items"][-1]),
            Bar(f"+{count_text(row['grown'])}", row["grown"] / largest),
            f"{three_digits(row['grown'] / max(row['span_ns'] / 1e9, 1e-9))}/s",
            "keeps growing" if row["container"] in clear else "not clear",
        ]
        for _, row in sorted(data.iterrows(), key=lambda item: item[1]["container"] not in clear)
    ]
    headers = ("held by", "container", "over time", "first", "last", "growth", "rate", "trend")
    return PlainTable(headers, rows, numbers=frozenset(headers[3:7]))
