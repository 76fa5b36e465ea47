"""The only place that says what an experiment with a pool's settings is judged by."""

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfkit.analysis.pools import Pool, pools_of_process
from perfkit.analysis.trial import Experiment, Outcome, experiment, gauge, request_outcomes
from perfkit.profile import Profile

COLLECTOR = "pool_experiment"
MIN_ACQUISITIONS = 50
"""In a window; fewer say nothing of its mean wait."""
OUTCOMES = {
    "wait_ms": Outcome("mean wait for a connection", "ms", harm=0.1, least=1.0),
    "wait_p99_ms": Outcome("99th percentile of that wait", "ms"),
    "created_ratio": Outcome("connections made per acquisition", "ratio", harm=0.1, least=0.05),
    "acquired_per_s": Outcome("acquisitions per second", "1/s", harm=0.1, good=True),
    "in_vain_ratio": Outcome("acquisitions in vain", "ratio", harm=0.0),
    "p99_ms": Outcome("99th percentile of the latency", "ms", harm=0.1),
    "p50_ms": Outcome("median latency", "ms"),
    "error_ratio": Outcome("failed requests", "ratio", harm=0.0),
    "open": Outcome("connections open, most", "count"),
    "descriptors": Outcome("open descriptors, most", "count"),
}
"""What is measured in each window."""
DECIDES = ("wait_ms", "created_ratio")


@dataclass(frozen=True)
class Tried:
    """What was tried on a pool; `before` are its settings as they were."""

    pool: Pool
    before: dict[str, Any]
    experiment: Experiment


def pool_experiment(profile: Profile, pid: int) -> Tried | None:
    """Return what an experiment with a pool found; None when the recording holds none, or not its pool."""
    noted = profile.sql(
        "select value from settings where pid = $pid and name = $name order by at_ns",
        pid=pid,
        name=f"{COLLECTOR}.before",
    )
    if noted.empty:
        return None
    before = json.loads(noted["value"].iloc[0])
    pool = next(
        (each for each in pools_of_process(profile, pid) if each.settings.get("number") == before["number"]), None
    )
    if pool is None:
        return None
    uses = _Uses.of(pool)
    found = experiment(
        profile,
        pid,
        COLLECTOR,
        lambda from_ns, until_ns: _outcomes(profile, pool, uses, from_ns, until_ns),
        OUTCOMES,
        DECIDES,
        rank=asked_for,
    )
    return Tried(pool, before["settings"], found) if found is not None else None


def asked_for(setting: str) -> tuple[int, float, str]:
    """Return what orders settings: one that is changed before two, a smaller number before a larger one.

    >>> asked_for("max_size=10") < asked_for("max_size=20") < asked_for("max_size=5; idle_timeout_s=3")
    True
    """
    numbers = [float(each) for each in re.findall(r"=(\d+(?:\.\d+)?)", setting)]
    return setting.count(";"), sum(numbers), setting


@dataclass(frozen=True)
class _Uses:
    """Acquisitions of a pool, n of them, and connections that were made, as columns."""

    wished_ns: Any
    wait_ns: Any
    in_vain: Any
    created_ns: Any

    @classmethod
    def of(cls, pool: Pool) -> "_Uses":
        """Return those of a pool; those in vain have waited, too."""
        granted = [
            (use.acquired_ns - use.wait_ns, use.wait_ns, False) for use in pool.checkouts if use.wait_ns is not None
        ]
        lost = [(each.wished_ns, each.wait_ns, True) for each in pool.waits if each.event in ("timeout", "failed")]
        rows = np.array([*granted, *lost], dtype=np.int64).reshape(-1, 3)
        return cls(rows[:, 0], rows[:, 1], rows[:, 2].astype(bool), np.array(pool.created_ns, dtype=np.int64))


def _outcomes(profile: Profile, pool: Pool, uses: _Uses, from_ns: int, until_ns: int) -> dict[str, float]:
    """Return what was measured in one window."""
    seconds = (until_ns - from_ns) / 1e9
    ended_ns = uses.wished_ns + uses.wait_ns
    inside = (ended_ns >= from_ns) & (ended_ns < until_ns)
    made = int(((uses.created_ns >= from_ns) & (uses.created_ns < until_ns)).sum())
    values = request_outcomes(profile, from_ns, until_ns)
    values.pop("answered_per_s", None)
    tried = int(inside.sum())
    if tried >= MIN_ACQUISITIONS:
        waits_ms, in_vain = uses.wait_ns[inside] / 1e6, uses.in_vain[inside]
        values |= {
            "wait_ms": float(waits_ms.mean()),
            "wait_p99_ms": float(np.quantile(waits_ms, 0.99)),
            "acquired_per_s": float((~in_vain).sum()) / seconds,
            "created_ratio": made / max(1, int((~in_vain).sum())),
            "in_vain_ratio": float(in_vain.mean()),
        }
    opened = [value for at, value in pool.gauge("open") if from_ns <= at < until_ns]
    if opened:
        values["open"] = float(max(opened))
    descriptors = gauge(profile, pool.pid, "process_stats", "max(descriptors)", from_ns, until_ns)
    if descriptors is not None:
        values["descriptors"] = descriptors
    return values
