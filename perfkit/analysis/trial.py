"""The only place that says what an experiment found, whatever it tried: effects of settings, and noise."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from perfkit.analysis.switchback import AGAIN, NOW, Effect, effect
from perfkit.profile import Profile

MIN_REQUESTS = 200
"""Of fewer requests in a window, the 99th percentile is one of the two slowest."""
_NEARLY = 0.9
Windows = Mapping[int, Mapping[str, float]]
"""The outcomes of one setting's window in each block."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Something that is measured in each window.

    `harm` is by which share of what it was it must rise before a setting does harm by it; None: it never
    does. `good` tells that more of it is better: then a fall is what harms. A change of less than `least` is
    nothing, whatever its share.
    """

    title: str
    unit: str
    harm: float | None = None
    good: bool = False
    least: float = 0.0


class Explained(StrEnum):
    """Whether what a setting saved explains what happened to the latency of requests.

    Less: the latency fell by less than that would explain, so it was not what made it long. More: it fell
    by more, so something else changed, too.
    """

    YES = "yes"
    LESS = "less"
    MORE = "more"


@dataclass(frozen=True)
class Trial:
    """What one setting did, compared with the present one: an effect per outcome that was measured.

    `predicted_ms` is how the 99th percentile would change if the cause that was named were all there is to it, in
    proportion to what the setting saved: low, estimate, high over the blocks; None where nothing is predicted.
    """

    setting: str
    effects: dict[str, Effect]
    baseline: dict[str, float]
    predicted_ms: tuple[float, float, float] | None = None

    @property
    def explained(self) -> Explained | None:
        """Return whether the cause explains what happened to the 99th percentile; None where that is not known."""
        measured = self.effects.get("p99_ms")
        if measured is None or self.predicted_ms is None:
            return None
        low, _estimate, high = self.predicted_ms
        if measured.high < low:
            return Explained.MORE
        return Explained.LESS if measured.low > high else Explained.YES


@dataclass(frozen=True)
class Experiment:
    """One experiment: each setting's trial, and the noise, which is the present setting against itself.

    `decides` are the outcomes of which less is better: a setting has to lower one of them. `primary` is the
    outcome that a reader cares most about. `rank` orders settings by how much they ask for: among those that
    are nearly as good the least wins. `restored` is None when nobody was there to read the settings back.
    """

    primary: str
    windows: int
    noise: dict[str, Effect]
    trials: tuple[Trial, ...]
    restored: bool | None
    ended_early: str | None
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    decides: tuple[str, ...] = ()
    rank: Callable[[str], Any] = str

    def saves(self, trial: Trial, name: str) -> bool:
        """Whether a setting clearly lowers an outcome, by more than noise does."""
        found, noise = trial.effects.get(name), self.noise.get(name)
        if found is None or not found.is_clear or found.estimate >= 0:
            return False
        return noise is None or abs(found.estimate) > max(abs(noise.low), abs(noise.high))

    def is_better(self, trial: Trial) -> bool:
        """Whether a setting clearly lowers what decides, and does no clear harm elsewhere."""
        return any(self.saves(trial, name) for name in self.decides) and not self.harms(trial)

    def harms(self, trial: Trial) -> list[str]:
        """Return the outcomes that a setting clearly makes worse."""
        worse = []
        for name, outcome in self.outcomes.items():
            found, base = trial.effects.get(name), trial.baseline.get(name, 0.0)
            if found is None or outcome.harm is None or not found.is_clear:
                continue
            if (-found.estimate if outcome.good else found.estimate) > max(outcome.harm * base, outcome.least):
                worse.append(name)
        return worse

    def best_by(self, name: str, at_least: float = 0.0) -> Trial | None:
        """Return the least of the settings that lower an outcome nearly as much as the best of them, without harm.

        Args:
            name: the outcome.
            at_least: by how much.
        """
        better = [each for each in self.trials if self.saves(each, name) and not self.harms(each)]
        better = [each for each in better if -each.effects[name].estimate >= at_least]
        most = min((each.effects[name].estimate for each in better), default=0.0)
        enough = [each for each in better if each.effects[name].estimate <= _NEARLY * most]
        return min(enough, key=lambda each: (self.rank(each.setting), each.effects[name].estimate), default=None)

    @property
    def best(self) -> Trial | None:
        """Return the best setting by the first outcome that any setting lowers; None: there is none."""
        return next((found for name in self.decides if (found := self.best_by(name)) is not None), None)


def experiment(
    profile: Profile,
    pid: int,
    collector: str,
    measure: Callable[[int, int], dict[str, float]],
    outcomes: Mapping[str, Outcome],
    decides: tuple[str, ...],
    *,
    rank: Callable[[str], Any] = str,
    predict: Callable[[Windows, Mapping[str, Effect]], tuple[float, float, float] | None] | None = None,
) -> Experiment | None:
    """Return what an experiment found; None when the recording holds none of this kind.

    Args:
        profile: the recording.
        pid: the process.
        collector: name of the collector that switched the settings.
        measure: returns the outcomes between two times, in nanoseconds of the recording.
        outcomes: what they are.
        decides: which of them decide.
        rank: orders settings by how much they ask for.
        predict: returns the predicted change of the 99th percentile (low, estimate, high) from the outcomes of each
            block with the present setting, and the effects of another.
    """
    began = profile.sql("select 1 from settings where pid = $pid and name = $name", pid=pid, name=f"{collector}.before")
    windows = profile.sql(
        "select phase, block, setting, from_ns, until_ns from experiment_windows where pid = $pid order by from_ns",
        pid=pid,
    )
    if windows.empty or began.empty:
        return None
    measured: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for row in windows.to_dict("records"):
        values = measure(int(row["from_ns"]), int(row["until_ns"]))
        measured.setdefault((row["phase"], row["setting"]), {})[int(row["block"])] = values
    base = measured.get(("trial", NOW), {})
    means = _means(base)
    trials = [
        Trial(setting, effects, means, predict(base, effects) if predict else None)
        for (phase, setting), values in measured.items()
        if phase == "trial" and setting != NOW and (effects := _effects(base, values, outcomes))
    ]
    has_load = any("p99_ms" in trial.effects for trial in trials)
    return Experiment(
        primary="p99_ms" if has_load else decides[0],
        windows=len(windows),
        noise=_effects(measured.get(("noise", NOW), {}), measured.get(("noise", AGAIN), {}), outcomes),
        trials=tuple(sorted(trials, key=lambda trial: (rank(trial.setting), trial.setting))),
        restored=_restored(profile, pid, collector),
        ended_early=_ended_early(profile),
        outcomes=outcomes,
        decides=decides,
        rank=rank,
    )


def request_outcomes(profile: Profile, from_ns: int, until_ns: int) -> dict[str, float]:
    """Return what became of the requests of a load between two times; nothing of too few.

    Returns:
        `p50_ms`, `p99_ms`, `answered_per_s`, `error_ratio`.
    """
    requests = profile.sql(
        "select count(*) as n, count(*) filter (where error is not null or status >= 500)::double as failed,"
        " quantile_disc(latency_ns, 0.5)::double as p50, quantile_disc(latency_ns, 0.99)::double as p99 from requests"
        " where intended_ns >= $from_ns and intended_ns < $until_ns"
        " and coalesce(error, '') not in ('aborted', 'unfinished', 'exhausted')",
        from_ns=from_ns,
        until_ns=until_ns,
    ).iloc[0]
    if requests["n"] < MIN_REQUESTS:
        return {}
    return {
        "p50_ms": requests["p50"] / 1e6,
        "p99_ms": requests["p99"] / 1e6,
        "answered_per_s": float(requests["n"] - requests["failed"]) / ((until_ns - from_ns) / 1e9),
        "error_ratio": float(requests["failed"] / requests["n"]),
    }


def gauge(profile: Profile, pid: int, table: str, column: str, from_ns: int, until_ns: int) -> float | None:
    """Return an aggregate of a table of readings between two times; None of fewer than two readings.

    Args:
        profile: the recording.
        pid: the process.
        table: name of a table with `pid` and `at_ns`.
        column: an aggregate of its columns, in SQL.
        from_ns: from then on.
        until_ns: before then.
    """
    row = profile.sql(
        f"select count(*) as n, ({column})::double as value from {table}"  # noqa: S608 - both are ours
        " where pid = $pid and at_ns >= $from_ns and at_ns < $until_ns",
        pid=pid,
        from_ns=from_ns,
        until_ns=until_ns,
    ).iloc[0]
    return float(row["value"]) if row["n"] >= 2 and row["value"] == row["value"] else None


def experiment_json(tried: Experiment) -> dict[str, Any]:
    """Return an experiment as JSON values."""
    return {
        "primary": tried.primary,
        "windows": tried.windows,
        "restored": tried.restored,
        "noise": {name: _effect_json(each) for name, each in tried.noise.items()},
        "settings": {
            trial.setting: {
                "effects": {name: _effect_json(each) for name, each in trial.effects.items()},
                "baseline": trial.baseline,
                "predicted_p99_ms": trial.predicted_ms[1] if trial.predicted_ms else None,
                "predicted_p99_interval_ms": [trial.predicted_ms[0], trial.predicted_ms[2]]
                if trial.predicted_ms
                else None,
                "explained_by_pauses": str(trial.explained) if trial.explained else None,
                "harms": tried.harms(trial),
            }
            for trial in tried.trials
        },
    }


def _effect_json(effect: Effect) -> dict[str, Any]:
    """Return an effect as JSON values."""
    return {
        "estimate": effect.estimate, "low": effect.low, "high": effect.high, "p": effect.p, "blocks": effect.blocks
    }  # fmt: skip


def _effects(
    base: dict[int, dict[str, float]], other: dict[int, dict[str, float]], outcomes: Mapping[str, Outcome]
) -> dict[str, Effect]:
    """Return the effect on each outcome over the blocks that both settings have."""
    effects = {}
    blocks = sorted(base.keys() & other.keys())
    for name in outcomes:
        pairs = [
            (base[block][name], other[block][name]) for block in blocks if name in base[block] and name in other[block]
        ]
        if len(pairs) >= 2 and (found := effect([a for a, _ in pairs], [b for _, b in pairs])) is not None:
            effects[name] = found
    return effects


def _means(windows: dict[int, dict[str, float]]) -> dict[str, float]:
    """Return the mean of each outcome over windows."""
    names = {name for values in windows.values() for name in values}
    return {name: float(np.mean([v[name] for v in windows.values() if name in v])) for name in sorted(names)}


def _restored(profile: Profile, pid: int, collector: str) -> bool | None:
    """Return whether the settings were read back at the end as they were before."""
    read = {
        name: rows["value"].iloc[-1]
        for name in ("before", "after")
        if not (
            rows := profile.sql(
                "select value from settings where pid = $pid and name = $name order by at_ns",
                pid=pid,
                name=f"{collector}.{name}",
            )
        ).empty
    }
    if len(read) < 2:
        return None
    before, after = (json.dumps(json.loads(value), sort_keys=True) for value in read.values())
    return before == after


def _ended_early(profile: Profile) -> str | None:
    """Return why the experiment ended before all windows were tried, None when it did not."""
    rows = profile.sql("select name from events where name like 'the experiment ended early%' order by at_ns limit 1")
    return None if rows.empty else str(rows["name"].iloc[0]).partition(": ")[2]
