"""The only place that decides when a request is due, before anything is sent."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, count, repeat
from math import sqrt

from perfkit.errors import UnknownName, UsageError

ARRIVALS = ("constant", "poisson")

_SEGMENT = re.compile(
    r"(?P<start>\d+(?:\.\d+)?)(?:\s*\.\.\s*(?P<end>\d+(?:\.\d+)?))?\s*/s\s+for\s+(?P<length>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m)"
)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of time in which the rate goes in a straight line from one value to another."""

    start_per_s: float
    end_per_s: float
    duration_s: float

    def __post_init__(self) -> None:
        if not (self.start_per_s >= 0 and self.end_per_s >= 0 and self.duration_s > 0):
            raise UsageError(
                f"no load has the shape {self}",
                hint="Rates must not be negative and each part needs a length above zero.",
            )

    @property
    def requests(self) -> float:
        """Expected number of requests: the area under the rate."""
        return (self.start_per_s + self.end_per_s) / 2 * self.duration_s

    def time_of(self, requests: float) -> float:
        """Return after how many seconds `requests` of them are due; the inverse of the area under the rate."""
        if requests <= 0:
            return 0.0
        slope = (self.end_per_s - self.start_per_s) / self.duration_s
        root = sqrt(max(0.0, self.start_per_s**2 + 2 * slope * requests))
        # This form of the quadratic's root has no cancellation, and no special case for a flat rate.
        return min(self.duration_s, 2 * requests / (self.start_per_s + root))

    def __str__(self) -> str:
        rate = f"{self.start_per_s:g}" + ("" if self.start_per_s == self.end_per_s else f"..{self.end_per_s:g}")
        return f"{rate}/s for {self.duration_s:g}s"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When requests are due: parts with constant rates (steps) or changing ones (ramps).

    `arrivals` is "constant" (evenly spaced) or "poisson" (independent clients: the gaps are
    exponential). The same seed gives the same times.
    """

    segments: tuple[Segment, ...]
    arrivals: str = "poisson"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.arrivals not in ARRIVALS:
            raise UnknownName("kind of arrivals", self.arrivals, list(ARRIVALS))
        if not self.segments:
            raise UsageError("the schedule has no parts", hint="Write it as '200/s for 30s, 200..400/s for 10s'.")

    @classmethod
    def parse(cls, text: str, arrivals: str = "poisson", seed: int = 0) -> "Schedule":
        """Return the schedule that a text describes: parts joined by commas, `..` for a ramp.

        Raises:
            UsageError: a part cannot be read.

        >>> str(Schedule.parse("100/s for 10s, 100..300/s for 0.5m"))
        '100/s for 10s, 100..300/s for 30s'
        """
        segments = []
        for part in text.split(","):
            found = _SEGMENT.fullmatch(part.strip())
            if found is None:
                raise UsageError(
                    f"cannot read the load's shape in {part.strip()!r}",
                    hint="Write it as '200/s for 30s', a ramp as '100..300/s for 20s', several with commas.",
                )
            start = float(found["start"])
            end = float(found["end"]) if found["end"] else start
            segments.append(Segment(start, end, float(found["length"]) * _SECONDS[found["unit"]]))
        return cls(tuple(segments), arrivals, seed)

    def __str__(self) -> str:
        return ", ".join(map(str, self.segments))

    @property
    def duration_s(self) -> float:
        """Length of the schedule, in seconds."""
        return sum(segment.duration_s for segment in self.segments)

    @property
    def requests(self) -> float:
        """Expected number of requests."""
        return sum(segment.requests for segment in self.segments)

    def offsets_ns(self) -> Iterator[int]:
        """Yield when each request is due, in nanoseconds since the schedule began, never decreasing.

        Arrivals of rate 1 are mapped through the inverse of the area under the rate, which turns
        a Poisson process of rate 1 into one of the wanted, changing rate.

        Source: E. Çinlar, Introduction to Stochastic Processes (1975), section 4.7
        """
        unit_arrivals = self._unit_arrivals()
        due = next(unit_arrivals)
        before = began_s = 0.0
        for segment in self.segments:
            while due < before + segment.requests:
                yield round((began_s + segment.time_of(due - before)) * 1e9)
                due = next(unit_arrivals)
            before += segment.requests
            began_s += segment.duration_s

    def _unit_arrivals(self) -> Iterator[float]:
        """Yield arrival times of a process with rate 1."""
        if self.arrivals == "constant":
            return map(float, count())
        gap = random.Random(self.seed).expovariate  # noqa: S311 - repeatable, not secret
        return accumulate(gap(rate) for rate in repeat(1.0))
