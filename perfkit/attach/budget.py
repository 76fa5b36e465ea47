"""The only place that knows how much CPU time recording may cost a target, and what it has cost so far.

A budget is a share of the target's time: of the CPU time it uses or, where that is less, of the time
that passes. A process that is idle loses nothing when a hundredth of one core goes to the probe; one
that uses four cores may give a hundredth of four. What runs outside of the target (py-spy, the readers
of /proc) yields to it by its priority and is not counted.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from perfkit.attach.errors import ProbeFailed, TargetGone

if TYPE_CHECKING:
    from perfkit.attach.session import Session

TRACING_SHARE = 0.66
"""Part of a target's CPU time that goes to tracing while allocations are traced: it needs 2.9 x as much per request.

Source: "Numbers" in CONTRIBUTING, measured with benchmarks/collector_overhead.py; less for programs that allocate less.
"""

_ALWAYS_ON_TIME = frozenset({"memray_capture", "gc_events"})
"""Recorders that must not come late: one watches over its caps, the other empties a ring."""
_STEP = 1.5
_MOST_PACE = 32.0
_SETTLED_S = 5.0
_RELAX_BELOW = 0.7
_PATIENCE_S = 1.0


def cpu_time_ns(pid: int) -> int:
    """Return the CPU time of a process so far, in nanoseconds, with that of its threads which ended; 0: it is gone.

    Source: CPUCLOCK_SCHED in https://github.com/torvalds/linux/blob/master/include/linux/posix-timers.h
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return 0


class Budget:
    """What one target may be charged, and by which recorder of the probe it was.

    Args:
        share: of the target's time, 0 to 1.
        pid: the target.
        duration_s: planned length of the recording, None: not known.
        session: returns the probe once it is in the target, None before.
    """

    def __init__(
        self, share: float, pid: int, duration_s: float | None, session: "Callable[[], Session | None]"
    ) -> None:
        self.share = share
        self.duration_s = duration_s
        self.traced_ns = 0
        """What tracing of allocations has cost, as far as it is known; kept by who traces."""
        self._pid = pid
        self._session = session
        self._began_ns = time.monotonic_ns()
        self._began_cpu_ns = cpu_time_ns(pid)
        self._costs: dict[str, int] = {}
        self._paces: dict[str, float] = {}

    @property
    def passed_s(self) -> float:
        """Seconds since the recording began."""
        return (time.monotonic_ns() - self._began_ns) / 1e9

    @property
    def left_s(self) -> float | None:
        """Seconds until the planned end, None when none is planned."""
        return None if self.duration_s is None else max(0.0, self.duration_s - self.passed_s)

    @property
    def cpu_share(self) -> float:
        """Cores that the target has used on average since the recording began."""
        return max(0, cpu_time_ns(self._pid) - self._began_cpu_ns) / max(1, time.monotonic_ns() - self._began_ns)

    @property
    def spent_ns(self) -> int:
        """CPU time that recording has cost so far."""
        return sum(self._costs.values()) + self.traced_ns

    @property
    def used_share(self) -> float:
        """Part of the target's time that recording has cost so far."""
        return self.spent_ns / (self.passed_s * 1e9 * max(1.0, self.cpu_share) or 1.0)

    def tracing_ns(self, length_s: float) -> float:
        """Return what tracing of allocations would cost in so many seconds, as busy as the target has been.

        Until its interpreter is busy all the time it needs more CPU time for the same work; from then on it does less.
        """
        cores = self.cpu_share
        return min(cores * TRACING_SHARE / (1 - TRACING_SHARE), max(1.0, cores) * TRACING_SHARE) * length_s * 1e9

    def free_ns(self, ahead_s: float) -> float:
        """Return what may still be spent until so many seconds from now, when all else goes on as until now."""
        until_s = self.passed_s + ahead_s
        allowed_ns = self.share * until_s * max(1.0, self.cpu_share) * 1e9
        others_ns = sum(self._costs.values()) * until_s / max(self.passed_s, _SETTLED_S)
        return allowed_ns - self.traced_ns - others_ns

    def options(self, options: Mapping[str, object]) -> dict[str, object]:
        """Return what a collector's own limit has to become: half of the budget at most."""
        limit = options.get("max_share")
        return {"max_share": min(limit, self.share / 2)} if isinstance(limit, float) else {}

    def poll(self) -> list[str]:
        """Ask the probe what it has cost; slow down what costs most, or let it catch up; return what was done."""
        session = self._session()
        if session is None or not session.is_open:
            return []
        try:
            self._costs = {**self._costs, **session.costs(timeout_s=_PATIENCE_S)}
        except (ProbeFailed, TargetGone):
            return []
        paced = self._costs.keys() - _ALWAYS_ON_TIME
        if self.passed_s < _SETTLED_S or not paced:
            return []
        if self.used_share > self.share:
            name = max(paced, key=lambda name: self._costs[name])
            return self._set_pace(session, name, min(_MOST_PACE, self._paces.get(name, 1.0) * _STEP))
        if self.used_share < self.share * _RELAX_BELOW and self._paces:
            name = max(self._paces, key=lambda name: self._paces[name])
            return self._set_pace(session, name, max(1.0, self._paces[name] / _STEP))
        return []

    def _set_pace(self, session: "Session", name: str, pace: float) -> list[str]:
        """Let a recorder take its readings so many times as far apart; return a sentence the first time."""
        before = self._paces.get(name, 1.0)
        if pace == before:
            return []
        with suppress(ProbeFailed, TargetGone):
            session.pace(name, pace, timeout_s=_PATIENCE_S)
            self._paces[name] = pace
        if before > 1.0:
            return []
        return [
            f"{name} takes its readings further apart to keep recording within {self.share:.1%} of the target's time"
        ]

    def summary(self) -> str:
        """Return a sentence on what recording has cost."""
        parts = {**self._costs, **({"tracing allocations (estimated)": self.traced_ns} if self.traced_ns else {})}
        most = sorted(parts.items(), key=lambda part: -part[1])[:3]
        costs = ", ".join(f"{name} {cost_ns / 1e9:.2f} s" for name, cost_ns in most if cost_ns > 1_000_000)
        return (
            f"Recording cost {self.used_share:.2%} of the target's time; the budget was {self.share:.1%}"
            f"{f' ({costs})' if costs else ''}."
        )
