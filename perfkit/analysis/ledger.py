"""The only place that says which kind of memory grew, and how much there is left to grow into."""

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from perfkit.analysis.shapes import MIN_POINTS, Shape, shape
from perfkit.analysis.trends import Slope, floor, mann_kendall, persistence, theil_sen
from perfkit.profile import Profile

MIN_READINGS = 8
"""Eight readings that only rise have a chance of 1 in 40,000 without a trend: enough even among 300 types."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How the floor of one reading grows.

    `p_rising` is the chance of such a rise when the lowest readings of the blocks are
    independent; `noise_bytes` the median distance of the readings from the line.
    """

    slope: Slope
    p_rising: float
    last_third: Slope
    persistence_ratio: float
    shape: Shape
    noise_bytes: float
    first: float
    last: float
    window_s: float

    @property
    def keeps_growing(self) -> bool:
        """Whether it rises to the end, at no less than half the first pace."""
        return self.slope.grows and self.last_third.estimate > 0 and self.persistence_ratio >= 0.5


@dataclass(frozen=True, slots=True)
class Ledger:
    """The growth of each part of the resident memory; None where it was not recorded or not often enough.

    `anon + file + shmem = rss` by definition of the kernel. `traced` is what the allocation
    tracer saw; what anonymous memory grew beyond that is `unexplained_bytes_per_s`: memory that
    was allocated natively, is kept by an allocator, or belongs to the tracer itself.
    """

    rss: Growth | None = None
    anon: Growth | None = None
    file: Growth | None = None
    shmem: Growth | None = None
    traced: Growth | None = None
    glibc_in_use: Growth | None = None
    glibc_retained: Growth | None = None
    pymalloc_free: Growth | None = None
    cgroup_cache: Growth | None = None
    python_blocks: Growth | None = None

    @property
    def unexplained_bytes_per_s(self) -> float | None:
        """Return the growth of anonymous memory that the tracer did not see, in bytes per second."""
        if self.anon is None or self.traced is None:
            return None
        return self.anon.slope.estimate - self.traced.slope.estimate

    def summary(self) -> dict[str, dict[str, object]]:
        """Return the growth of each recorded part in plain numbers, for a finding's evidence."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: {
                "per_s": [round(value, 1) for value in part.slope.interval],
                "shape": part.shape.name,
                "first": part.first,
                "last": part.last,
            }
            for name, part in parts.items()
            if part is not None
        }


@dataclass(frozen=True, slots=True)
class Limit:
    """The memory the process may use before it is killed, and what counts against it now.

    `grouped`: it is the limit of a control group, which page cache counts against too.
    """

    limit_bytes: float
    used_bytes: float
    source: str
    grouped: bool

    @property
    def left_bytes(self) -> float:
        """Return how much the process can still grow."""
        return max(self.limit_bytes - self.used_bytes, 0.0)


_COLUMNS = {
    "rss": "rss_bytes",
    "anon": "anon_bytes",
    "file": "file_bytes",
    "shmem": "shmem_bytes",
    "glibc_in_use": "glibc_in_use_bytes",
    "glibc_retained": "glibc_retained_bytes",
    "pymalloc_free": "pymalloc_free_bytes",
    "cgroup_cache": "cgroup_inactive_file_bytes",
    "python_blocks": "python_blocks",
}


def ledger(profile: Profile, pid: int, since_s: float = 0.0) -> Ledger:
    """Return what grew in one process after `since_s` seconds.

    Each growth is that of the floor (the lowest reading of each twentieth of the window).

    Args:
        profile: needs `memory_ledger`, and `heap_usage` for the traced heap.
        pid: process.
        since_s: end of the warm-up; the tracer's own arrival must lie before it.
    """
    readings = _of(profile, "memory_ledger", pid, since_s)
    usage = _of(profile, "heap_usage", pid, since_s)
    parts = {name: growth(readings, column) for name, column in _COLUMNS.items()}
    return Ledger(**parts, traced=growth(usage, "traced_bytes"))


def growth(readings: pd.DataFrame, column: str) -> Growth | None:
    """Return how the floor of a column grows, or None when there are fewer than 8 readings of it.

    Args:
        readings: rows with `at_ns`, increasing, and the column.
        column: its name.
    """
    known = readings[["at_ns", column]].dropna()
    if len(known) < MIN_READINGS:
        return None
    time, values = floor(known["at_ns"].to_numpy(np.float64) / 1e9, known[column].to_numpy(np.float64))
    if len(time) < max(MIN_READINGS, MIN_POINTS):
        return None
    slope = theil_sen(time, values)
    off = values - slope.estimate * time
    last, ratio = persistence(time, values)
    return Growth(
        slope=slope,
        p_rising=mann_kendall(values, independent=True),
        last_third=last,
        persistence_ratio=ratio,
        shape=shape(time, values),
        noise_bytes=float(np.median(np.abs(off - np.median(off)))),
        first=float(values[0]),
        last=float(values[-1]),
        window_s=float(time[-1] - time[0]),
    )


def memory_limit(profile: Profile, pid: int) -> Limit | None:
    """Return the tighter of the control group's limit and the host's memory; None when neither is known.

    Against a control group count its bytes without the page cache that the kernel can drop;
    against the host the resident memory of the process.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    readings = _of(profile, "memory_ledger", pid, 0.0)
    if readings.empty:
        return None
    last = readings.iloc[-1]
    limits = []
    if pd.notna(last.cgroup_limit_bytes):
        cache = 0 if pd.isna(last.cgroup_inactive_file_bytes) else last.cgroup_inactive_file_bytes
        used = last.rss_bytes if pd.isna(last.cgroup_bytes) else last.cgroup_bytes - cache
        limits.append(Limit(float(last.cgroup_limit_bytes), float(used), "limit of the control group", grouped=True))
    if memory := profile.manifest.host.get("memory_bytes"):
        limits.append(Limit(float(memory), float(last.rss_bytes), "memory of the host", grouped=False))
    return min(limits, key=lambda limit: limit.left_bytes, default=None)


def _of(profile: Profile, table: str, pid: int, since_s: float) -> pd.DataFrame:
    """Return the rows of one process from a moment on, in order."""
    frame = profile.frame(table)
    return frame[(frame["pid"] == pid) & (frame["at_ns"] >= since_s * 1e9)].sort_values("at_ns")
