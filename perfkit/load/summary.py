"""The only place that sums up a run inside the generator, and says whether it kept its schedule."""

from array import array
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from math import ceil
from typing import Any

from perfkit.load.options import LoadOptions
from perfkit.load.rows import ABORTED, ERRORS, EXHAUSTED, UNFINISHED, Request

_PERCENTILES = (50, 90, 95, 99, 99.9)
KEPT_RATIO = 0.99
"""The schedule counts as kept when at least this share was dispatched in time, and as many were sent."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What the generator did besides the requests themselves."""

    began_ns: int
    horizon_ns: int
    dispatched: int
    unsent: int
    connections: int
    most_in_flight: int
    cpu_s: float


class Tally:
    """Adds up finished requests; `summary` gives the numbers of the run."""

    def __init__(self) -> None:
        self._latencies_ns = array("q")
        self._own_ns = array("q")
        self._waits_ns = array("q")
        self._starts_ns = array("q")
        self._statuses: Counter[int] = Counter()
        self._errors: Counter[str] = Counter()

    def add(self, request: Request) -> None:
        """Take one finished request."""
        self._own_ns.append(request.dispatched_ns - request.intended_ns)
        self._waits_ns.append(request.start_ns - request.dispatched_ns)
        self._starts_ns.append(request.start_ns)
        if request.status:
            self._statuses[request.status] += 1
        if request.error:
            self._errors[ERRORS[request.error]] += 1
        if request.error not in (ABORTED, UNFINISHED, EXHAUSTED):
            self._latencies_ns.append(request.end_ns - request.intended_ns)

    def summary(self, options: LoadOptions, effort: Effort) -> dict[str, Any]:
        """Return the numbers of the run as JSON values; times are in milliseconds.

        `own_lateness_ms` is how late the generator dispatched, its own fault. `connection_wait_ms`
        is how long requests waited for a connection, the target's (or the bound's) doing. `note` says
        that the numbers are in doubt, `saturation` that the target was too slow; both are empty else.
        """
        length_s = max(1, effort.horizon_ns - effort.began_ns) / 1e9
        due = effort.dispatched + effort.unsent
        sent_in_time = sum(1 for start_ns in self._starts_ns if start_ns <= effort.horizon_ns)
        own_ns = sorted(self._own_ns)
        limit_ns = round(options.late_after_s * 1e9)
        late = len(own_ns) - bisect_right(own_ns, limit_ns) + effort.unsent
        waits_ns = sorted(self._waits_ns)
        waited = len(waits_ns) - bisect_right(waits_ns, limit_ns)
        result: dict[str, Any] = {
            "requests": len(own_ns),
            "due": due,
            "length_s": round(length_s, 3),
            "wanted_per_s": round(due / length_s, 2),
            "achieved_per_s": round(sent_in_time / length_s, 2),
            "statuses": {str(status): count for status, count in sorted(self._statuses.items())},
            "errors": dict(sorted(self._errors.items())),
            "latency_ms": _percentiles_ms(sorted(self._latencies_ns)),
            "own_lateness_ms": _percentiles_ms(own_ns),
            "late_after_ms": options.late_after_s * 1e3,
            "late_ratio": round(late / due, 6) if due else 0.0,
            "unsent": effort.unsent,
            "connection_wait_ms": _percentiles_ms(waits_ns),
            "waited_ratio": round(waited / due, 6) if due else 0.0,
            "connections": effort.connections,
            "max_connections": options.max_connections,
            "most_in_flight": effort.most_in_flight,
            "cpu_s": round(effort.cpu_s, 4),
            "cpu_cores": round(effort.cpu_s / length_s, 4),
        }
        result["kept_schedule"] = not due or late <= (1 - KEPT_RATIO) * due
        result["note"] = _doubt(result)
        result["saturation"] = _saturation(result)
        return result


def _doubt(summary: dict[str, Any]) -> str:
    """Return one sentence when the generator fell short itself, so that its numbers are in doubt; else nothing."""
    parts = []
    if not summary["kept_schedule"]:
        parts.append(
            f"the load generator itself was late: {summary['late_ratio']:.1%} of the requests were dispatched more"
            f" than {summary['late_after_ms']:g} ms after they were due"
            f" (at worst {summary['own_lateness_ms'].get('max', 0):.0f} ms), using {summary['cpu_cores']:.2f} cores"
        )
    if exhausted := summary["errors"].get(ERRORS[EXHAUSTED]):
        parts.append(f"the load's machine ran out of ports or descriptors: {exhausted} requests were not sent")
    return "; ".join(parts)


def _saturation(summary: dict[str, Any]) -> str:
    """Return one sentence when the target was too slow for its connections; else nothing."""
    if summary["waited_ratio"] <= 1 - KEPT_RATIO:
        return ""
    return (
        f"the target was too slow for {summary['max_connections']} connections: {summary['waited_ratio']:.1%} of the"
        f" requests waited for one, up to {summary['connection_wait_ms']['max']:.0f} ms;"
        f" {summary['achieved_per_s']:.0f} of {summary['wanted_per_s']:.0f} requests/s were sent in time"
    )


def _percentiles_ms(sorted_ns: list[int]) -> dict[str, float]:
    """Return percentiles and maximum in milliseconds; a percentile is a value that occurred (nearest rank)."""
    if not sorted_ns:
        return {}
    ranks = {f"p{p:g}": sorted_ns[max(0, ceil(len(sorted_ns) * p / 100) - 1)] for p in _PERCENTILES}
    return {name: round(value / 1e6, 4) for name, value in {**ranks, "max": sorted_ns[-1]}.items()}
