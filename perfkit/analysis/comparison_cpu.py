"""The only place that compares where CPU time goes in two recordings: the target as a whole, and each function."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from perfkit.analysis.changes import BLOCKS, Measured, Outcome, block_of, measured, of_parts
from perfkit.analysis.comparison import METRICS, Row, Subject, row
from perfkit.profile import Profile

Floats = NDArray[np.float64]

TOP_FUNCTIONS = 300
"""Functions that are compared, those with the most time in either: each one more raises what noise may do."""


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU time by block without perfkit's own, and its parts by function, each in cores (seconds per second).

    `functions` says what a content hash stands for; `self_cores` and `total_cores` have its time
    by block. `requests_per_s` by block, None: no load known.
    """

    cores: Floats
    functions: dict[int, Subject]
    self_cores: dict[int, Floats]
    total_cores: dict[int, Floats]
    requests_per_s: Floats | None


def cpu_rows(base: Profile, head: Profile) -> list[Row]:
    """Return CPU time per second, or per request where the load is known, and the functions whose time changed.

    A function's time is its share of the samples that were on the CPU times what the process
    used, so that waiting for a busy machine does not count as work.
    """
    before, after = cpu_time(base), cpu_time(head)
    if before is None or after is None:
        return []
    per_request = before.requests_per_s is not None and after.requests_per_s is not None
    whole = "cpu_ms_per_request" if per_request else "cpu_cores"
    rows = [row(whole, *(_whole(time, whole) for time in (before, after)))]
    scale = 1.0
    if per_request:
        # What one request costs at BASE's load: another load is not another program.
        scale = float(before.requests_per_s.mean() / max(after.requests_per_s.mean(), 1e-9))  # type: ignore[union-attr]
    return rows + _function_rows(before, after, scale)


def cpu_time(profile: Profile) -> CpuTime | None:
    """Return the CPU time of a recording by block; None without readings of /proc at its beginning and end."""
    from_ns, until_ns, cores = _process_cores(profile)
    if cores is None:
        return None
    samples = _samples(profile, from_ns, until_ns)
    functions: dict[int, Subject] = {}
    own, total = (dict[int, Floats]() for _ in range(2))
    active_ns = np.zeros(BLOCKS)
    for rows in (rows for _hash, rows in samples.groupby("function_hash")):
        first, block = rows.iloc[0], rows["block"].to_numpy(np.int64)
        function = int(first["function_hash"])
        own[function], total[function] = (
            np.bincount(block, rows[column].to_numpy(np.float64), BLOCKS).astype(np.float64)
            for column in ("self_ns", "total_ns")
        )
        active_ns += own[function]
        functions[function] = Subject(
            str(first["function"]),
            None if pd.isna(first["file"]) else str(first["file"]),
            None if rows["line"].isna().all() else int(rows["line"].min()),
        )
    probe_ns = _probe_ns(profile, from_ns, until_ns)
    busy_ns = active_ns + probe_ns
    cores = cores * np.divide(active_ns, busy_ns, out=np.ones(BLOCKS), where=busy_ns > 0)
    share = np.divide(cores, active_ns, out=np.zeros(BLOCKS), where=active_ns > 0)
    requests = profile.table("requests")["intended_ns"].to_numpy()
    rate = None
    if len(requests):
        block = block_of(requests, from_ns, until_ns)
        rate = np.bincount(block[block >= 0], minlength=BLOCKS) / ((until_ns - from_ns) / 1e9 / BLOCKS)
    return CpuTime(
        cores,
        functions,
        {function: ns * share for function, ns in own.items()},
        {function: ns * share for function, ns in total.items()},
        rate,
    )


def _process_cores(profile: Profile) -> tuple[int, int, Floats | None]:
    """Return a window and the CPU time of all processes in each block of it, in cores."""
    stats = profile.frame("process_stats").sort_values("at_ns", kind="stable")
    main = stats[stats["pid"] == profile.pids[0]] if profile.pids else stats[:0]
    if len(main) < 3:
        return 0, 0, None
    from_ns, until_ns = int(main["at_ns"].iloc[0]), int(main["at_ns"].iloc[-1])
    edges = np.linspace(from_ns, until_ns, BLOCKS + 1)
    used = np.zeros(BLOCKS)
    for _pid, rows in stats.groupby("pid"):
        spent = (rows["cpu_user_ns"] + rows["cpu_system_ns"]).to_numpy(np.float64)
        used += np.diff(np.interp(edges, rows["at_ns"].to_numpy(np.float64), spent))
    return from_ns, until_ns, used / ((until_ns - from_ns) / BLOCKS)


def _samples(profile: Profile, from_ns: int, until_ns: int) -> pd.DataFrame:
    """Return the time on the CPU of each function in each block, self and total, without what the probe does."""
    return profile.sql(
        """
        with weighed as materialized (
            select cast(floor((tick_ns - $from_ns) * $blocks::double / ($until_ns - $from_ns)) as int) as block,
                   stack_id, sum(weight_ns) as weight_ns
            from cpu_samples where active and tick_ns >= $from_ns and tick_ns < $until_ns and stack_id not in (
                select stack_id from stack_frames join frames using (frame_id) where starts_with(file, '<perfkit'))
            group by all
        ), functions as (
            select stack_id, function_hash, any_value(function) as function, any_value(file) as file,
                   min(line) as line, bool_or(s.depth = b.pos + 1) as is_leaf
            from stack_frames b join frames using (frame_id) join stacks s using (stack_id)
            where stack_id in (select stack_id from weighed) group by stack_id, function_hash
        )
        select block, function_hash, any_value(function) as function, any_value(file) as file, min(line) as line,
               coalesce(sum(weight_ns) filter (where is_leaf), 0) as self_ns, sum(weight_ns) as total_ns
        from functions join weighed using (stack_id) group by block, function_hash order by function_hash, block
        """,
        from_ns=from_ns,
        until_ns=until_ns,
        blocks=BLOCKS,
    )


def _probe_ns(profile: Profile, from_ns: int, until_ns: int) -> Floats:
    """Return the time on the CPU that perfkit's own code in the target took, by block."""
    rows = profile.sql(
        """
        select tick_ns, weight_ns from cpu_samples
        where active and tick_ns >= $from_ns and tick_ns < $until_ns and stack_id in (
            select stack_id from stack_frames join frames using (frame_id) where starts_with(file, '<perfkit'))
        """,
        from_ns=from_ns,
        until_ns=until_ns,
    )
    block = block_of(rows["tick_ns"].to_numpy(np.int64), from_ns, until_ns)
    return np.bincount(block, rows["weight_ns"].to_numpy(np.float64), BLOCKS).astype(np.float64)


def _whole(time: CpuTime, metric: str) -> Measured | None:
    """Return the CPU time of the whole target, per second or per request."""
    rate = time.requests_per_s

    def number(kept: NDArray[np.bool_]) -> float:
        if metric == "cpu_cores" or rate is None:
            return float(time.cores[kept].mean())
        return float(time.cores[kept].sum() / rate[kept].sum() * 1e3) if rate[kept].sum() else float("nan")

    return measured(number, METRICS[metric].effect)


def _function_rows(base: CpuTime, head: CpuTime, scale: float) -> list[Row]:
    """Return the functions whose time changed, those that are worse first, then by how much."""
    most: dict[int, float] = {}
    for time in (base, head):
        for function, cores in time.total_cores.items():
            most[function] = max(most.get(function, 0.0), float(cores.mean()))
    chosen = sorted(most, key=lambda function: (-most[function], function))[:TOP_FUNCTIONS]
    rows = []
    for metric in ("function_self_cores", "function_total_cores"):
        for function in chosen:
            pair = [_part(time, metric, function, factor) for time, factor in ((base, 1.0), (head, scale))]
            subject = head.functions.get(function) or base.functions[function]
            found = row(metric, *pair, among=len(chosen), subject=subject)
            if found.outcome in (Outcome.WORSE, Outcome.BETTER):
                rows.append(found)
    order = [Outcome.WORSE, Outcome.BETTER]
    return sorted(rows, key=lambda each: (order.index(each.outcome), -_size(each), str(each.subject)))


def _part(time: CpuTime, metric: str, function: int, scale: float) -> Measured | None:
    """Return the time of one function; a floor of a thousandth of a core keeps ratios finite."""
    rows = time.self_cores if metric == "function_self_cores" else time.total_cores
    parts = rows.get(function, np.zeros(BLOCKS)) * scale
    without = (parts.sum() - parts) / (BLOCKS - 1)
    return of_parts(float(parts.mean()) + 1e-3, without + 1e-3, METRICS[metric].effect)


def _size(each: Row) -> float:
    """Return by how much a number moved."""
    return abs(each.head.estimate - each.base.estimate) if each.base and each.head else 0.0
