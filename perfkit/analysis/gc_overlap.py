"""The only place that says what collections mean for requests: which overlapped a pause, and what it cost them."""

from dataclasses import dataclass

import numpy as np

from perfkit.analysis.gc_costs import Costs, Pauses, paused_before
from perfkit.profile import Profile


@dataclass(frozen=True, slots=True)
class Overlap:
    """What pauses meant for requests, or, where none were recorded, for the event loop's callbacks.

    `of` says which: requests or callbacks. `p99_ms` is of all, `p99_clear_ms` of those that met no
    pause, `p99_without_ms` of all after the time of the pauses they met was taken off: what is
    left if collections vanished and nothing else changed. None without any.
    """

    of: str
    total: int
    overlapped: int
    p50_ms: float | None
    p99_ms: float | None
    p99_clear_ms: float | None
    p99_without_ms: float | None

    @property
    def gain_ms(self) -> float | None:
        """Return by how much the 99th percentile would fall without collections."""
        if self.p99_ms is None or self.p99_without_ms is None:
            return None
        return self.p99_ms - self.p99_without_ms

    @property
    def overlapped_ratio(self) -> float:
        """Return the share that met a pause."""
        return self.overlapped / self.total if self.total else 0.0


def overlap(profile: Profile, costs: Costs, *, from_ns: int = 0, until_ns: int | None = None) -> Overlap | None:
    """Return what the target's own collections meant for requests; None when neither they nor a loop were seen.

    Args:
        profile: the recording.
        costs: its collections.
        from_ns: start of the part to look at.
        until_ns: its end; None: the end of the recording.
    """
    until_ns = profile.manifest.duration_ns if until_ns is None else until_ns
    span = {"from_ns": from_ns, "until_ns": until_ns}
    rows = profile.sql(
        "select start_ns as at_ns, latency_ns - (start_ns - intended_ns) as length_ns, latency_ns from requests"
        " where intended_ns between $from_ns and $until_ns and coalesce(error, '') not in"
        " ('aborted', 'unfinished', 'exhausted', 'connect', 'reset', 'protocol') order by 1",
        **span,
    )
    of = "requests"
    if rows.empty:
        of = "callbacks"
        rows = profile.sql(
            "select at_ns, lag_ns as length_ns, lag_ns as latency_ns from loop_lag"
            " where pid = $pid and at_ns between $from_ns and $until_ns order by 1",
            pid=costs.pid,
            **span,
        )
    if rows.empty:
        return None
    own = costs.pauses.chosen(~costs.pauses.ours)
    at, length, latency = (rows[name].to_numpy(dtype=np.int64) for name in ("at_ns", "length_ns", "latency_ns"))
    return _overlap(of, own, at, length, latency)


def _overlap(
    of: str,
    own: Pauses,
    at_ns: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    length_ns: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    latency_ns: "np.ndarray[tuple[int], np.dtype[np.int64]]",
) -> Overlap:
    """Return the overlap of intervals with pauses."""
    ends = at_ns + np.maximum(length_ns, 0)
    paused = paused_before(own.start_ns, own.pause_ns, ends) - paused_before(own.start_ns, own.pause_ns, at_ns)
    clear = paused == 0
    return Overlap(
        of=of,
        total=len(at_ns),
        overlapped=int((~clear).sum()),
        p50_ms=_quantile_ms(latency_ns, 0.5),
        p99_ms=_quantile_ms(latency_ns, 0.99),
        p99_clear_ms=_quantile_ms(latency_ns[clear], 0.99),
        p99_without_ms=_quantile_ms(latency_ns - paused, 0.99),
    )


def _quantile_ms(values_ns: "np.ndarray[tuple[int], np.dtype[np.int64]]", q: float) -> float | None:
    """Return a percentile by nearest rank, in milliseconds; None of nothing."""
    return float(np.quantile(values_ns, q, method="inverted_cdf")) / 1e6 if len(values_ns) else None
