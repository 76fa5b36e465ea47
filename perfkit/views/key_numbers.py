"""The numbers that a reader asks for first."""

from perfkit.profile import Profile
from perfkit.units import bytes_text, count_text, percent_text, seconds_text, three_digits
from perfkit.views.display import Cell, Note, PlainTable
from perfkit.views.selection import chosen_pid

_REQUESTS = """
select count(*) as requests, quantile_disc(latency_ns, [0.5, 0.95, 0.99]) as q,
    count(*) filter (where error is not null or status >= 500) as failed from requests
"""
_MEMORY = """
select first(rss_bytes order by at_ns) as first_bytes, last(rss_bytes order by at_ns) as last_bytes,
    max(rss_bytes) as peak_bytes, last(cgroup_limit_bytes order by at_ns) as limit_bytes
from memory_ledger where pid = $pid
"""
_CPU = """
select max(cpu_user_ns + cpu_system_ns) - min(cpu_user_ns + cpu_system_ns) as cpu_ns,
    max(at_ns) - min(at_ns) as span_ns, max(threads) as threads, max(descriptors) as descriptors
from process_stats where pid = $pid
"""
_HEAP = """
select sum(size_bytes)::double as traced_bytes,
    coalesce(sum(size_bytes) filter (where freed_ns is null), 0)::double as alive_bytes
from heap_survival where pid = $pid
"""


def key_numbers(profile: Profile, *, pid: int | None = None) -> PlainTable | Note:
    """Return load, latency, memory and CPU of the recording, one number per row."""
    pid = chosen_pid(profile, pid)
    rows = [*_requests(profile), *_memory(profile, pid), *_heap(profile, pid), *_cpu(profile, pid)]
    if not rows:
        return Note("Nothing was recorded: there are no numbers to show.")
    rows.insert(0, ["length of the recording", seconds_text(profile.duration_s), ""])
    return PlainTable(("what", "value", "remarks"), rows, numbers=frozenset({"value"}))


def _requests(profile: Profile) -> list[list[Cell]]:
    """Return the rows about requests."""
    row = profile.sql(_REQUESTS).iloc[0]
    if not row["requests"]:
        return []
    p50, p95, p99 = (seconds_text(value / 1e9) for value in row["q"])
    rate = f"{three_digits(row['requests'] / profile.duration_s)} per second" if profile.duration_s else ""
    failed = f"{percent_text(row['failed'] / row['requests'])} failed ({count_text(row['failed'])})"
    return [
        ["requests", count_text(row["requests"]), ", ".join(part for part in (rate, failed) if part)],
        ["latency, median", p50, f"p95 {p95}, p99 {p99}; from the intended start"],
    ]


def _memory(profile: Profile, pid: int) -> list[list[Cell]]:
    """Return the rows about resident memory."""
    row = profile.sql(_MEMORY, pid=pid).iloc[0]
    if row.isna()["first_bytes"]:
        return []
    change = row["last_bytes"] - row["first_bytes"]
    sign = "+" if change > 0 else ""
    limit = "no limit set" if row.isna()["limit_bytes"] else f"limit {bytes_text(row['limit_bytes'])}"
    between = f"{bytes_text(row['first_bytes'])} at the start, {bytes_text(row['last_bytes'])} at the end"
    return [
        ["resident memory, change", f"{sign}{bytes_text(change)}", between],
        ["resident memory, highest", bytes_text(row["peak_bytes"]), limit],
    ]


def _heap(profile: Profile, pid: int) -> list[list[Cell]]:
    """Return the rows about traced allocations."""
    row = profile.sql(_HEAP, pid=pid).iloc[0]
    if row.isna()["traced_bytes"] or not row["traced_bytes"]:
        return []
    share = percent_text(row["alive_bytes"] / row["traced_bytes"])
    made = bytes_text(row["traced_bytes"])
    return [["allocated and still alive", bytes_text(row["alive_bytes"]), f"{share} of the {made} that were allocated"]]


def _cpu(profile: Profile, pid: int) -> list[list[Cell]]:
    """Return the rows about CPU time, threads and descriptors."""
    row = profile.sql(_CPU, pid=pid).iloc[0]
    if row.isna()["span_ns"] or not row["span_ns"]:
        return []
    threads = f"{count_text(row['threads'])} threads"
    descriptors = "" if row.isna()["descriptors"] else f", {count_text(row['descriptors'])} open descriptors"
    return [["CPUs in use", three_digits(row["cpu_ns"] / row["span_ns"]), f"at most {threads}{descriptors}"]]
