"""The only place that reads a service-level objective, and derives a load from it."""

import re
from dataclasses import dataclass
from math import ceil

from perfkit.errors import UsageError

MEAN_TO_P95_RATIO = 0.9
"""Assumed mean latency as a share of the p95, when the objective names no mean."""

_RATE = re.compile(r"(?P<value>\d+(?:\.\d+)?)\s*(?:requests|req|r)?\s*(?:/\s*s|per\s+second|rps)", re.IGNORECASE)
_LATENCY = re.compile(
    r"(?P<what>p95|p99|mean)\s*(?:<=?|≤|:|=)?\s*(?P<value>\d+(?:\.\d+)?)\s*(?P<unit>us|ms|s)", re.IGNORECASE
)
_ERRORS = re.compile(
    r"error(?:s|[\s_-]*(?:rate|ratio))?\s*(?:<=?|≤|:|=)?\s*(?P<value>\d+(?:\.\d+)?)\s*%", re.IGNORECASE
)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Slo:
    """What a service promises: a rate, and the latency and share of errors it keeps at that rate.

    >>> Slo.parse("1200/s, p95 200 ms, errors 0.5%").in_flight
    216
    """

    requests_per_s: float
    p95_latency_s: float
    error_ratio: float
    p99_latency_s: float | None = None
    mean_latency_s: float | None = None

    def __post_init__(self) -> None:
        latencies = (self.p95_latency_s, self.p99_latency_s, self.mean_latency_s)
        if (
            self.requests_per_s <= 0
            or not 0 <= self.error_ratio < 1
            or any(s is not None and s <= 0 for s in latencies)
        ):
            raise UsageError(
                f"no service can keep {self}", hint="Rate and latencies are above zero, errors below 100 %."
            )
        if self.p99_latency_s is not None and self.p99_latency_s < self.p95_latency_s:
            raise UsageError("the p99 of the objective is below its p95")

    @classmethod
    def parse(cls, text: str) -> "Slo":
        """Return the objective that a text names, its parts joined by commas.

        Raises:
            UsageError: a part cannot be read, or rate, p95 or errors are missing.
        """
        found: dict[str, float] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            if match := _LATENCY.fullmatch(part):
                found[f"{match['what'].lower()}_latency_s"] = float(match["value"]) * _SECONDS[match["unit"].lower()]
            elif match := _RATE.fullmatch(part):
                found["requests_per_s"] = float(match["value"])
            elif match := _ERRORS.fullmatch(part):
                found["error_ratio"] = float(match["value"]) / 100
            else:
                raise UsageError(f"cannot read {part!r} of the objective", hint=_EXAMPLE)
        if missing := [name for name in ("requests_per_s", "p95_latency_s", "error_ratio") if name not in found]:
            raise UsageError(f"the objective {text!r} lacks {', '.join(missing)}", hint=_EXAMPLE)
        return cls(**found)

    @property
    def in_flight(self) -> int:
        """Requests in progress at the same time when the objective is just kept: the connections it takes.

        Little's law, L = λ · W: the mean number in progress is the arrival rate times the mean
        latency. An objective promises a p95, not the mean that the law needs. Where it names none,
        W = 0.9 · p95: a service that works at its limit, most answers not much faster than the
        promised one; 1200/s at a p95 of 200 ms make 1200 · 0.180 = 216. Longer tails have a lower
        mean for the same p95 (exponential: W = p95 / ln 20 = 0.33 · p95, 80 in flight), so the
        assumption leaves room. The share of errors does not enter: failed requests are in progress too.

        Source: J. D. C. Little (1961), doi:10.1287/opre.9.3.383
        """
        mean_s = self.mean_latency_s if self.mean_latency_s is not None else MEAN_TO_P95_RATIO * self.p95_latency_s
        # Rounding first keeps 1200 · 0.9 · 0.2 = 216.00000000000003 from becoming 217.
        return max(1, ceil(round(self.requests_per_s * mean_s, 6)))

    def limits(self) -> dict[str, float | None]:
        """Return the limits as arguments for `perfkit.analysis.latency.slo_verdict`."""
        return {
            "requests_per_s": self.requests_per_s,
            "p95_latency_s": self.p95_latency_s,
            "error_ratio": self.error_ratio,
            "p99_latency_s": self.p99_latency_s,
        }


_EXAMPLE = "Write it as '1200/s, p95 200 ms, errors 0.5%'; p99 and mean may follow."
