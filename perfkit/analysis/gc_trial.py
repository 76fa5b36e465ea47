"""The only place that says what an experiment with the collector's settings is judged by."""

from collections.abc import Mapping

import numpy as np

from perfkit.analysis.gc_costs import Costs
from perfkit.analysis.gc_overlap import overlap
from perfkit.analysis.switchback import Effect
from perfkit.analysis.trial import Experiment, Outcome, Windows, gauge, request_outcomes
from perfkit.analysis.trial import experiment as windows_of
from perfkit.profile import Profile

COLLECTOR = "gc_experiment"
OUTCOMES = {
    "time_ratio": Outcome("time in collections", "ratio"),
    "p99_ms": Outcome("99th percentile of the latency", "ms", harm=0.1),
    "p50_ms": Outcome("median latency", "ms"),
    "lag_p99_ms": Outcome("99th percentile of the event loop's delay", "ms"),
    "answered_per_s": Outcome("answers per second", "1/s", good=True),
    "error_ratio": Outcome("failed requests", "ratio", harm=0.0),
    "rss_bytes": Outcome("resident memory, highest", "bytes", harm=0.2),
    "descriptors": Outcome("open descriptors, most", "count", harm=0.2),
}
"""What is measured in each window."""


def experiment(profile: Profile, costs: Costs) -> Experiment | None:
    """Return what an experiment found; None when the recording holds none."""
    return windows_of(
        profile,
        costs.pid,
        COLLECTOR,
        lambda from_ns, until_ns: outcomes(profile, costs, from_ns, until_ns),
        OUTCOMES,
        ("time_ratio",),
        rank=lambda setting: setting.count(";"),
        predict=_predicted_ms,
    )


def outcomes(profile: Profile, costs: Costs, from_ns: int, until_ns: int) -> dict[str, float]:
    """Return what was measured in one window."""
    own = costs.pauses.chosen(
        (costs.pauses.start_ns >= from_ns) & (costs.pauses.start_ns < until_ns) & ~costs.pauses.ours
    )
    values = {"time_ratio": own.work_ns / (until_ns - from_ns)}
    if requests := request_outcomes(profile, from_ns, until_ns):
        values |= requests
        met = overlap(profile, costs, from_ns=from_ns, until_ns=until_ns)
        if met is not None and met.of == "requests" and met.gain_ms is not None:
            values["gain_ms"] = met.gain_ms
    for name, table, column in (
        ("lag_p99_ms", "loop_lag", "quantile_disc(lag_ns, 0.99) / 1e6"),
        ("rss_bytes", "memory_ledger", "max(rss_bytes)"),
        ("descriptors", "process_stats", "max(descriptors)"),
    ):
        found = gauge(profile, costs.pid, table, column, from_ns, until_ns)
        if found is not None:
            values[name] = found
    return values


def _predicted_ms(base: Windows, effects: Mapping[str, Effect]) -> tuple[float, float, float] | None:
    """Return the change of the 99th percentile that the time saved would explain: least, mean and most of the blocks.

    What all pauses are worth differs from block to block, and the share that was saved has an interval of its own.
    """
    gains = [values["gain_ms"] for values in base.values() if "gain_ms" in values]
    ratio = float(np.mean([values["time_ratio"] for values in base.values()])) if base else 0.0
    saved = effects.get("time_ratio")
    if not gains or saved is None or not ratio:
        return None
    most, usual, least = (min(1.0, max(0.0, -each / ratio)) for each in (saved.low, saved.estimate, saved.high))
    return -max(gains) * most, -float(np.mean(gains)) * usual, -min(gains) * least
