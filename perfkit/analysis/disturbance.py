"""The only place that says how busy the machine was with other things while a recording was made.

Two runs of one healthy program on a shared machine differ more than their own noise tells: tails
are made by moments in which somebody else had the processor. Whether that happened is seen by what
runs beside the target on a schedule: the load generator, else the recorder's own readings.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from perfkit.analysis.latency import answers
from perfkit.profile import Profile

LATE_MS = 1.0
"""On a quiet machine a sleeper is woken within a tenth of a millisecond; a time slice of the scheduler takes more."""
LIMITS = {"requests": (0.01, 0.1, 0.3), "readings": (0.05, 0.4, 0.8)}
"""Shares of late ones from which on tails; medians and CPU times; anything but memory says more about the machine.

Measured: recordings of one healthy proxy, alone and beside other work on 2 cores. With 0.4 to 0.9 %
of the requests sent late, the 99th percentile of the latency was 15 to 17 ms; with 2 to 8 %, 31 to
66 ms; with 12 to 18 %, 157 to 197 ms, medians rose by up to 60 % and CPU per request fell by up to
24 %; with 50 to 69 %, medians were seconds and requests failed. Readings are few, once per second,
so their limits are coarse.
"""
STANDS_OUT = 2.0
"""What a busy machine did to medians and CPU times was less than this factor."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Which share of what had to happen at a time happened more than a millisecond late."""

    late_ratio: float
    of: Literal["requests", "readings"]

    @property
    def spoils_tails(self) -> bool:
        """Whether percentiles far out say nothing about the program."""
        return self.late_ratio > LIMITS[self.of][0]

    @property
    def spoils_levels(self) -> bool:
        """Whether medians and CPU times say nothing about the program either, unless they change a lot."""
        return self.late_ratio > LIMITS[self.of][1]

    @property
    def spoils_all(self) -> bool:
        """Whether nothing that takes time says anything about the program."""
        return self.late_ratio > LIMITS[self.of][2]

    def __str__(self) -> str:
        """Return it as people would say it."""
        what = {"requests": "requests were sent late", "readings": "readings were taken late"}[self.of]
        return f"the machine was busy: {100 * self.late_ratio:.2g} % of the {what}"


def disturbance(profile: Profile) -> Disturbance | None:
    """Return how busy the machine was, or None when nothing tells.

    Args:
        profile: `requests` with their time of dispatch, else `process_stats` read on a schedule.
    """
    requests = profile.table("requests")
    if requests.num_rows and not requests["dispatched_ns"].null_count:
        return Disturbance(float((answers(requests).lateness_ms > LATE_MS).mean()), "requests")
    stats = profile.frame("process_stats")
    times = stats[stats["pid"] == profile.pids[0]]["at_ns"].to_numpy() / 1e6 if profile.pids else np.zeros(0)
    if len(times) < 5:
        return None
    # Readings are due at multiples of the interval; one that is late is followed by a shorter gap.
    gaps = np.diff(times)
    every_ms = profile.manifest.collectors.get("process_stats", {}).get("every_s", float(np.median(gaps)) / 1e3) * 1e3
    return Disturbance(float((np.abs(gaps - every_ms) > LATE_MS).mean()), "readings")
