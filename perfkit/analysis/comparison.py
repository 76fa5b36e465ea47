"""The only place that says which numbers of two recordings are compared, and how much of a change counts."""

from dataclasses import dataclass, replace
from typing import Literal

from perfkit.analysis.changes import Change, Effect, Measured, Outcome, change

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that is compared. `family` groups what is judged, or not judged, together.

    `part` says what a busy machine does to it: most to tails, less to levels (medians, times on
    the CPU), to counts only when it is overloaded, and nothing to sizes.
    """

    family: str
    unit: str
    effect: Effect
    doc: str
    part: Literal["tail", "level", "count", "size"] = "level"


METRICS = {
    "latency_p50": Metric(
        "latency", "ms", Effect(1.25, 1.0), "median latency; healthy runs of one proxy differ by up to a tenth"
    ),
    "latency_p99": Metric(
        "latency",
        "ms",
        Effect(1.5, 5.0),
        "99th percentile of the latency; its value is made by a few bad moments",
        "tail",
    ),
    "error_ratio": Metric(
        "latency",
        "ratio",
        Effect(1, 0.01),
        "share of requests without an answer or with a status of 500 and above",
        "count",
    ),
    "answers_per_s": Metric(
        "throughput",
        "1/s",
        Effect(1.1, 1.0, lower_is_better=False),
        "answered requests per second, errors left out",
        "count",
    ),
    "cpu_cores": Metric("cpu", "cores", Effect(1.25, 0.02), "CPU time per second, of all processes"),
    "cpu_ms_per_request": Metric("cpu", "ms", Effect(1.25, 0.02), "CPU time per request, of all processes"),
    "function_self_cores": Metric(
        "cpu", "cores", Effect(1.3, 0.03), "CPU time per second in the function itself: 3 % of a core is seen elsewhere"
    ),
    "function_total_cores": Metric(
        "cpu", "cores", Effect(1.3, 0.03), "CPU time per second in the function and all it calls"
    ),
    "gc_share": Metric("gc", "ratio", Effect(1, 0.01), "share of the time in which the collector holds all threads"),
    "gc_pause_p99": Metric(
        "gc", "ms", Effect(1.5, 5.0), "99th percentile of the collector's pauses; below 5 ms no request notices", "tail"
    ),
    "loop_lag_p99": Metric(
        "latency", "ms", Effect(1.5, 5.0), "99th percentile of how late the event loop runs what is due", "tail"
    ),
    "resident_bytes": Metric(
        "memory", "bytes", Effect(1.15, 8 * MIB), "mean resident memory of all processes; arenas come in MiB", "size"
    ),
}
"""Every number that is judged, with the smallest change that counts and why.

The sizes come from comparing recordings of the same healthy service with each other, on a
shared machine: what differs between two such runs must not be told as a change.
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a row is about when it is not the whole target: a function with its file and line, or a type."""

    name: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        """Return it as people write it."""
        place = self.file and (f"{self.file}:{self.line}" if self.line else self.file)
        return f"{self.name} ({place})" if place else self.name


@dataclass(frozen=True, slots=True)
class Row:
    """One number before and after; `change` is None where one is missing, `because` says why it is not judged."""

    metric: str
    base: Measured | None
    head: Measured | None
    change: Change | None
    outcome: Outcome
    subject: Subject | None = None
    because: str = ""

    @property
    def family(self) -> str:
        """Return the group of the number."""
        return METRICS[self.metric].family

    @property
    def unit(self) -> str:
        """Return the unit of the number."""
        return METRICS[self.metric].unit

    def not_judged(self, because: str) -> "Row":
        """Return the row with its numbers, but without a verdict."""
        return replace(self, outcome=Outcome.CANNOT_TELL, because=because)


def row(
    metric: str, base: Measured | None, head: Measured | None, *, among: int = 1, subject: Subject | None = None
) -> Row:
    """Return a number before and after with its verdict.

    Args:
        metric: a key of `METRICS`.
        base: the number before, None: not recorded, or too little of it.
        head: the number after.
        among: how many of its kind are compared at once.
        subject: what it is about, if not the whole target.
    """
    if base is None or head is None:
        lacking = " and ".join(name for name, each in (("BASE", base), ("HEAD", head)) if each is None)
        return Row(metric, base, head, None, Outcome.CANNOT_TELL, subject, f"too little data in {lacking}")
    found = change(base, head, METRICS[metric].effect, among=among)
    return Row(metric, base, head, found, found.outcome, subject)
