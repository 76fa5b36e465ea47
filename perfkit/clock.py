"""The only place that relates the clocks: one anchor per recording, everything counted from it."""

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """The recording's zero, as CLOCK_MONOTONIC and as wall time.

    CLOCK_MONOTONIC is the same for all processes of a host (and its containers, unless they
    have a time namespace), so that collectors inside and outside of the target agree.
    """

    monotonic_ns: int
    unix_ns: int

    @classmethod
    def start(cls) -> "Clock":
        """Return a clock whose zero is now."""
        return cls(monotonic_ns=time.monotonic_ns(), unix_ns=time.time_ns())

    def now_ns(self) -> int:
        """Return the time since the recording began."""
        return time.monotonic_ns() - self.monotonic_ns

    def from_monotonic(self, monotonic_ns: int) -> int:
        """Return recording time for a reading of `time.monotonic_ns()` in any process of this host."""
        return monotonic_ns - self.monotonic_ns

    def from_unix(self, unix_ns: int) -> int:
        """Return recording time for a wall-clock time; wrong by any step of the wall clock since the start."""
        return unix_ns - self.unix_ns
