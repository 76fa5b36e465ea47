"""The only place that says what an experiment with the collector's settings found: effects, and noise."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from perfkit.analysis.gc_costs import Costs
from perfkit.analysis.gc_overlap import overlap
from perfkit.analysis.switchback import Effect, effect
from perfkit.profile import Profile

NOW = "as it is now"
"""Name of the setting that the process came with."""
AGAIN = "as it is now, again"
"""The same once more: what differs between the two is noise."""
_NEARLY = 0.9
_MIN_REQUESTS = 200
"""Of fewer requests in a window, the 99th percentile is one of the two slowest."""

OUTCOMES = {
    "time_ratio": ("time in collections", "ratio"),
    "p99_ms": ("99th percentile of the latency", "ms"),
    "p50_ms": ("median latency", "ms"),
    "lag_p99_ms": ("99th percentile of the event loop's delay", "ms"),
    "answered_per_s": ("answers per second", "1/s"),
    "error_ratio": ("failed requests", "ratio"),
    "rss_bytes": ("resident memory, highest", "bytes"),
    "descriptors": ("open descriptors, most", "count"),
}
"""What is measured in each window: what it is called and its unit."""


class Explained(StrEnum):
    """Whether the pauses that a setting saved explain what happened to the latency of requests.

    Less: the latency fell by less than they would explain, so collections were not what made it long. More: it fell
    by more, so something else changed, too.
    """

    YES = "yes"
    LESS = "less"
    MORE = "more"


@dataclass(frozen=True)
class Trial:
    """What one setting did, compared with the present one: an effect per outcome that was measured.

    `predicted_ms` is how the 99th percentile would change if pauses were all there is to it: low, estimate, high over
    the blocks. It falls as if all pauses vanished, in proportion to the time in collections that the
    setting saved; None where no requests were recorded.
    """

    setting: str
    effects: dict[str, Effect]
    baseline: dict[str, float]
    predicted_ms: tuple[float, float, float] | None = None

    @property
    def explained(self) -> Explained | None:
        """Return whether pauses explain what happened to the 99th percentile; None where that is not known."""
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

    `primary` is the outcome that decides: the latency of requests where there was a load, else the
    time in collections. `restored` is None when nobody was there to read the settings back.
    """

    primary: str
    windows: int
    noise: dict[str, Effect]
    trials: tuple[Trial, ...]
    restored: bool | None
    ended_early: str | None

    def is_better(self, trial: Trial) -> bool:
        """Whether a setting takes clearly less time, more than noise does, and does no clear harm elsewhere."""
        found = trial.effects.get("time_ratio")
        if found is None or not found.is_clear or found.estimate >= 0:
            return False
        noise = self.noise.get("time_ratio")
        if noise is not None and abs(found.estimate) <= max(abs(noise.low), abs(noise.high)):
            return False
        return not self.harms(trial)

    def harms(self, trial: Trial) -> list[str]:
        """Return the outcomes that a setting clearly makes worse."""
        worse = []
        for name, share in (("rss_bytes", 0.2), ("descriptors", 0.2), ("p99_ms", 0.1), ("error_ratio", 0.0)):
            found, base = trial.effects.get(name), trial.baseline.get(name, 0.0)
            if found is not None and found.is_clear and found.estimate > share * base:
                worse.append(name)
        return worse

    @property
    def best(self) -> Trial | None:
        """Return the simplest setting that saves nearly as much as the best of those that are clearly better."""
        better = [trial for trial in self.trials if self.is_better(trial)]
        most = min((trial.effects["time_ratio"].estimate for trial in better), default=0.0)
        enough = [trial for trial in better if trial.effects["time_ratio"].estimate <= _NEARLY * most]
        return min(
            enough, key=lambda trial: (trial.setting.count(";"), trial.effects["time_ratio"].estimate), default=None
        )


def experiment(profile: Profile, costs: Costs) -> Experiment | None:
    """Return what an experiment found; None when the recording holds none."""
    windows = profile.sql(
        "select phase, block, setting, from_ns, until_ns from experiment_windows where pid = $pid order by from_ns",
        pid=costs.pid,
    )
    if windows.empty:
        return None
    measured: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for row in windows.to_dict("records"):
        values = outcomes(profile, costs, int(row["from_ns"]), int(row["until_ns"]))
        measured.setdefault((row["phase"], row["setting"]), {})[int(row["block"])] = values
    noise = _effects(measured.get(("noise", NOW), {}), measured.get(("noise", AGAIN), {}))
    base = measured.get(("trial", NOW), {})
    trials = [
        Trial(setting, effects, _means(base), _predicted_ms(base, effects))
        for (phase, setting), values in measured.items()
        if phase == "trial" and setting != NOW and (effects := _effects(base, values))
    ]
    has_load = any("p99_ms" in trial.effects for trial in trials)
    return Experiment(
        primary="p99_ms" if has_load else "time_ratio",
        windows=len(windows),
        noise=noise,
        trials=tuple(sorted(trials, key=lambda trial: trial.setting)),
        restored=_restored(costs),
        ended_early=_ended_early(profile),
    )


def outcomes(profile: Profile, costs: Costs, from_ns: int, until_ns: int) -> dict[str, float]:
    """Return what was measured in one window."""
    seconds = (until_ns - from_ns) / 1e9
    own = costs.pauses.chosen(
        (costs.pauses.start_ns >= from_ns) & (costs.pauses.start_ns < until_ns) & ~costs.pauses.ours
    )
    values = {"time_ratio": own.work_ns / 1e9 / seconds}
    span = {"from_ns": from_ns, "until_ns": until_ns}
    requests = profile.sql(
        "select count(*) as n, count(*) filter (where error is not null or status >= 500)::double as failed,"
        " quantile_disc(latency_ns, 0.5)::double as p50, quantile_disc(latency_ns, 0.99)::double as p99 from requests"
        " where intended_ns >= $from_ns and intended_ns < $until_ns"
        " and coalesce(error, '') not in ('aborted', 'unfinished', 'exhausted')",
        **span,
    ).iloc[0]
    if requests["n"] >= _MIN_REQUESTS:
        values |= {
            "p50_ms": requests["p50"] / 1e6,
            "p99_ms": requests["p99"] / 1e6,
            "answered_per_s": float(requests["n"] - requests["failed"]) / seconds,
            "error_ratio": float(requests["failed"] / requests["n"]),
        }
        met = overlap(profile, costs, from_ns=from_ns, until_ns=until_ns)
        if met is not None and met.of == "requests" and met.gain_ms is not None:
            values["gain_ms"] = met.gain_ms
    for name, table, column in (
        ("lag_p99_ms", "loop_lag", "quantile_disc(lag_ns, 0.99) / 1e6"),
        ("rss_bytes", "memory_ledger", "max(rss_bytes)"),
        ("descriptors", "process_stats", "max(descriptors)"),
    ):
        row = profile.sql(
            f"select count(*) as n, ({column})::double as value from {table}"  # noqa: S608 - both are ours
            " where pid = $pid and at_ns >= $from_ns and at_ns < $until_ns",
            pid=costs.pid,
            **span,
        ).iloc[0]
        if row["n"] >= 2 and row["value"] == row["value"]:
            values[name] = float(row["value"])
    return values


def _effects(base: dict[int, dict[str, float]], other: dict[int, dict[str, float]]) -> dict[str, Effect]:
    """Return the effect on each outcome over the blocks that both settings have."""
    effects = {}
    blocks = sorted(base.keys() & other.keys())
    for name in OUTCOMES:
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


def _predicted_ms(
    base: Mapping[int, Mapping[str, float]], effects: Mapping[str, Effect]
) -> tuple[float, float, float] | None:
    """Return the change of the 99th percentile that the time saved would explain: least, mean and most of the blocks.

    What all pauses are worth differs from block to block, and the share that was saved has an interval of its own.
    """
    gains = [values["gain_ms"] for values in base.values() if "gain_ms" in values]
    ratio = float(np.mean([values["time_ratio"] for values in base.values()])) if base else 0.0
    saved = effects.get("time_ratio")
    if not gains or saved is None or not ratio:
        return None
    most, usual, least = (min(1.0, max(0.0, -each / ratio)) for each in (saved.low, saved.estimate, saved.high))
    return -max(gains) * most, -float(np.mean(gains)) * usual, -min(gains) * least


def _restored(costs: Costs) -> bool | None:
    """Return whether the settings were read back at the end as they were before."""
    before, after = (costs.settings.get(f"gc_experiment.{name}") for name in ("before", "after"))
    if not isinstance(before, dict) or not isinstance(after, dict):
        return None
    return json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True)


def _ended_early(profile: Profile) -> str | None:
    """Return why the experiment ended before all windows were tried, None when it did not."""
    rows = profile.sql("select name from events where name like 'the experiment ended early%' order by at_ns limit 1")
    return None if rows.empty else str(rows["name"].iloc[0]).partition(": ")[2]
