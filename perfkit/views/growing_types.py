"""Which types have more and more objects?"""

from perfkit.profile import Profile
from perfkit.units import bytes_text, count_text, three_digits
from perfkit.views.display import Bar, Cell, Note, Place, PlainTable, Spark
from perfkit.views.selection import chosen_pid, chosen_warmup_s, evidence

_GROWTH = """
with kept as (select * from object_census where pid = $pid and at_ns >= $warmup_ns),
rungs as (select distinct rung, at_ns from kept),
filled as (
    select t.type, r.rung, r.at_ns, coalesce(k.objects, 0) as objects, coalesce(k.size_bytes, 0) as size_bytes
    from (select distinct type from kept) t cross join rungs r left join kept k on k.type = t.type and k.rung = r.rung
)
select type, list(objects order by rung) as objects, last(size_bytes order by rung) - first(size_bytes order by rung)
    as grown_bytes, last(objects order by rung) - first(objects order by rung) as grown,
    max(at_ns) - min(at_ns) as span_ns
from filled group by type having grown > 0 order by grown desc, type limit $top
"""


def growing_types(
    profile: Profile, *, pid: int | None = None, top: int = 10, warmup_s: float | None = None
) -> PlainTable | Note:
    """Return the types whose number of objects grew most between the first and the last census after the warm-up.

    The trend is clear when a Mann-Kendall test over all counts says so, with false discoveries kept below 5 %.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        top: most rows to show.
        warmup_s: start of the recording to leave out, in seconds; None or negative: found from the data.
    """
    pid = chosen_pid(profile, pid)
    warmup_s = chosen_warmup_s(profile, pid, warmup_s)
    data = profile.sql(_GROWTH, pid=pid, warmup_ns=int(warmup_s * 1e9), top=top)
    rungs = profile.sql(
        "select count(distinct rung) as n from object_census where pid = $pid and at_ns >= $warmup_ns",
        pid=pid,
        warmup_ns=int(warmup_s * 1e9),
    )["n"].iloc[0]
    if rungs < 2:
        return Note("Nothing was recorded: it takes two counts of the objects after the warm-up to see types grow.")
    if data.empty:
        return Note("No type has more objects at the end than after the warm-up.")
    largest = float(data["grown"].max())
    clear = {growth.type for growth in evidence(profile, pid).types}
    rows: list[list[Cell]] = []
    for _, row in sorted(data.iterrows(), key=lambda item: item[1]["type"] not in clear):
        rows.append(
            [
                Place(row["type"]),
                Spark(tuple(float(value) for value in row["objects"])),
                count_text(row["objects"][0]),
                count_text(row["objects"][-1]),
                Bar(f"+{count_text(row['grown'])}", row["grown"] / largest),
                f"{three_digits(row['grown'] / max(row['span_ns'] / 1e9, 1e-9))}/s",
                bytes_text(row["grown_bytes"]),
                "keeps growing" if row["type"] in clear else "not clear",
            ]
        )
    headers = ("type", "over time", "first", "last", "growth", "rate", "own size", "trend")
    return PlainTable(headers, rows, numbers=frozenset(headers[2:7]))
