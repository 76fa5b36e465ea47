"""The only place that compares what requests, the event loop and the garbage collector took in two recordings."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from perfkit.analysis.changes import BLOCKS, Measured, block_of, measured, percentile
from perfkit.analysis.comparison import METRICS, Row, row
from perfkit.analysis.latency import Answers, answers
from perfkit.profile import Profile

Floats = NDArray[np.float64]

MIN_READINGS = 50
"""Readings without which a percentile is not told; a 99th percentile of fewer is the largest but nothing."""


def request_rows(base: Profile, head: Profile) -> list[Row]:
    """Return latency, errors and answers per second; no rows unless both recorded a load."""
    tables = [profile.table("requests") for profile in (base, head)]
    if not all(table.num_rows for table in tables):
        return []
    loads = [answers(table) for table in tables]
    return [
        _latency_row("latency_p50", 0.5, loads),
        _latency_row("latency_p99", 0.99, loads),
        row(
            "error_ratio", *(_of(load, "error_ratio", lambda load, kept, _: load.failed[kept].mean()) for load in loads)
        ),
        row("answers_per_s", *(_of(load, "answers_per_s", _answered) for load in loads)),
    ]


def loop_rows(base: Profile, head: Profile) -> list[Row]:
    """Return how late the event loop ran; no rows unless both have one."""
    lags = [profile.table("loop_lag") for profile in (base, head)]
    if not all(table.num_rows for table in lags):
        return []
    found = [
        _percentile(table["at_ns"].to_numpy(), table["lag_ns"].to_numpy() / 1e6, 0.99, 0, profile.manifest.duration_ns)
        for table, profile in zip(lags, (base, head), strict=True)
    ]
    return [row("loop_lag_p99", *found)]


def collector_rows(base: Profile, head: Profile) -> list[Row]:
    """Return the collector's share of the time and its pauses, perfkit's own collections left out.

    No rows unless both recorded collections; a recorded process without any has a share of 0.
    """
    if not all(
        "gc_pauses" in profile.manifest.collectors or profile.manifest.rows.get("gc_pauses") for profile in (base, head)
    ):
        return []
    shares, pauses = [], []
    for profile in (base, head):
        start_ns, pause_ns = _collections(profile)
        end = profile.manifest.duration_ns
        shares.append(_share_of_time(start_ns, pause_ns, end))
        pauses.append(_percentile(start_ns, pause_ns / 1e6, 0.99, 0, end))
    rows = [row("gc_share", *shares)]
    return rows + ([row("gc_pause_p99", *pauses)] if all(pauses) else [])


def _collections(profile: Profile) -> tuple[NDArray[np.int64], Floats]:
    """Return start and pause of each collection of the target's own, in nanoseconds."""
    frame = profile.sql(
        """
        select start_ns, pause_ns from gc_pauses where stack_id is null or stack_id not in (
            select stack_id from stack_frames join frames using (frame_id)
            where function = '[perfkit probe]' or starts_with(coalesce(file, ''), '<perfkit'))
        """
    )
    return frame["start_ns"].to_numpy(np.int64), frame["pause_ns"].to_numpy(np.float64)


def _share_of_time(start_ns: NDArray[np.int64], pause_ns: Floats, until_ns: int) -> Measured | None:
    """Return the share of the time that pauses take."""
    block = block_of(start_ns, 0, until_ns)
    spent = np.bincount(block[block >= 0], pause_ns[block >= 0], BLOCKS)
    return measured(lambda kept: float(spent[kept].mean()) * BLOCKS / until_ns, METRICS["gc_share"].effect)


def _latency_row(metric: str, share: float, loads: list[Answers]) -> Row:
    """Return a percentile of the latency."""
    return row(
        metric,
        *(
            _percentile(load.intended_ns, load.latency_ms, share, int(load.intended_ns[0]), int(load.intended_ns[-1]))
            for load in loads
        ),
    )


def _of(load: Answers, metric: str, number: Callable[[Answers, NDArray[np.bool_], float], float]) -> Measured | None:
    """Return a number of the requests; `number` takes the load, one flag per request and the share of the time."""
    if len(load.intended_ns) < MIN_READINGS:
        return None
    block = block_of(load.intended_ns, int(load.intended_ns.min()), int(load.intended_ns.max()) + 1)
    return measured(lambda kept: float(number(load, kept[block], float(kept.mean()))), METRICS[metric].effect)


def _answered(load: Answers, kept: NDArray[np.bool_], share: float) -> float:
    """Return the answers per second."""
    length_s = float(np.ptp(load.intended_ns)) / 1e9 * share
    return float((~load.failed[kept]).sum() / length_s) if length_s else float("nan")


def _percentile(at_ns: NDArray[np.int64], values: Floats, share: float, from_ns: int, until_ns: int) -> Measured | None:
    """Return a percentile of the readings that are known, None when there are too few of them."""
    block = block_of(at_ns, from_ns, until_ns + 1)
    known = ~np.isnan(values) & (block >= 0)
    return percentile(values[known], block[known], share) if known.sum() >= MIN_READINGS else None
