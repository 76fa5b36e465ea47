"""What `pool_tuning` says of an experiment: only what was measured, more than noise, and without harm elsewhere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perfkit.analysis.pool_trial import pool_experiment
from perfkit.analysis.switchback import AGAIN, NOW
from perfkit.findings import Finding, Verdict
from perfkit.profile import Profile
from perfkit.rules.pool_tuning import RULE
from perfkit.views.pool_experiment import pool_experiment as shown
from tests.builders import PID, SECOND_NS, Row, make_profile
from tests.unit.rules.pool_recording import PoolRecording

SMALL, LARGE = "max_size=4", "max_size=20"
WINDOW_S = 2
USES = 80


def experiment(
    folder: Path,
    wait_ms: dict[str, float],
    *,
    created: dict[str, float] | None = None,
    in_vain: dict[str, int] | None = None,
    ended: str | None = None,
    restored: bool = True,
    seed: int = 1,
) -> Profile:
    """Return six blocks of windows in which each setting has its mean wait, connections made per use, and failures."""
    random = np.random.default_rng(seed)
    pool = PoolRecording(limit=8, settings={"library": "psycopg_pool", "number": 3, "max_size": 8})
    windows: list[Row] = []
    order = [(block, ("noise", name)) for block in range(6) for name in (NOW, AGAIN)]
    order += [(block, ("trial", name)) for block in range(6) for name in (NOW, *sorted(wait_ms.keys() - {NOW}))]
    for number, (block, (phase, setting)) in enumerate(order):
        begin_s = number * WINDOW_S
        windows.append(
            {"from_ns": begin_s * SECOND_NS, "until_ns": (begin_s + WINDOW_S) * SECOND_NS, "phase": phase,
             "block": block, "setting": setting, "read_back": "{}", "pid": PID}
        )  # fmt: skip
        name = NOW if setting == AGAIN else setting
        mean_s = wait_ms[name] / 1e3 * float(random.lognormal(0, 0.04))
        for use in range(USES):
            at_s = begin_s + 0.4 + use / USES * 1.4
            waited_s = mean_s * float(random.uniform(0.5, 1.5))
            pool.use(at_s, 0.01, holder=number * 1000 + use, connection=use % 4, wait_s=waited_s)
            if random.random() < (created or {}).get(name, 0.0):
                pool.event("created", at_s, connection=number * 1000 + use)
        for lost in range((in_vain or {}).get(name, 0)):
            pool.wish("timeout", begin_s + 0.5 + lost / 50, 0.1, holder=9_000_000 + number * 100 + lost)
    pool.seconds = len(order) * WINDOW_S + 1
    tables: dict[str, Any] = pool.parts()
    notes = {"before": {"number": 3, "settings": {"max_size": 8}}}
    notes["after"] = {"number": 3, "settings": {"max_size": 8 if restored else 20}}
    tables["settings"] = [
        *tables["settings"],
        *({"at_ns": at, "name": f"pool_experiment.{name}", "value": json.dumps(notes[name])}
          for at, name in enumerate(notes)),
    ]  # fmt: skip
    events = [
        {"at_ns": 5, "duration_ns": 0, "kind": "recorder", "name": f"the experiment ended early: {ended}"}
    ] if ended else []  # fmt: skip
    return make_profile(
        folder / "p", duration_s=pool.seconds, others={"experiment_windows": windows, "events": events}, **tables
    )


def judged(profile: Profile) -> Finding:
    [finding] = RULE.check(profile)
    return finding


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("waits", "more", "verdict"),
    [
        pytest.param({NOW: 20.0, LARGE: 1.0}, {}, Verdict.FAIL, id="larger-helps"),
        pytest.param({NOW: 20.0, LARGE: 20.0}, {}, Verdict.PASS, id="no-difference"),
        pytest.param({NOW: 0.3, LARGE: 0.02}, {}, Verdict.PASS, id="what-helps-is-too-little"),
        pytest.param({NOW: 1.0, SMALL: 30.0}, {}, Verdict.PASS, id="smaller-is-worse"),
        pytest.param(
            {NOW: 20.0, LARGE: 1.0}, {"in_vain": {LARGE: 12}}, Verdict.PASS, id="what-helps-makes-others-fail"
        ),
        pytest.param(
            {NOW: 0.1, LARGE: 0.1}, {"created": {NOW: 0.3, LARGE: 0.01}}, Verdict.FAIL, id="connections-are-kept"
        ),
    ],
)
def test_what_was_measured_decides(
    waits: dict[str, float], more: dict[str, Any], verdict: Verdict, seed: int, tmp_path: Path
) -> None:
    finding = judged(experiment(tmp_path, waits, seed=seed, **more))
    assert finding.verdict is verdict, finding.title
    if verdict is Verdict.FAIL:
        assert finding.evidence["setting"] == LARGE


def test_the_smallest_of_the_sizes_that_are_as_good_is_recommended(tmp_path: Path) -> None:
    finding = judged(experiment(tmp_path, {NOW: 20.0, "max_size=12": 1.05, LARGE: 1.0, SMALL: 60.0}))
    assert finding.evidence["setting"] == "max_size=12"


def test_an_experiment_that_ended_early_decides_nothing(tmp_path: Path) -> None:
    finding = judged(experiment(tmp_path, {NOW: 20.0, LARGE: 1.0}, ended="the load ended"))
    assert finding.verdict is Verdict.UNDECIDED
    assert "the load ended" in finding.title


@pytest.mark.parametrize("restored", [True, False])
def test_settings_that_did_not_come_back_are_told(restored: bool, tmp_path: Path) -> None:
    profile = experiment(tmp_path, {NOW: 20.0, LARGE: 1.0}, restored=restored)
    tried = pool_experiment(profile, PID)
    assert tried is not None
    assert tried.experiment.restored is restored
    text = shown(profile)._repr_mimebundle_()["text/plain"]
    assert ("were NOT as before" in text) is not restored
    assert "better" in text


def test_a_recording_without_an_experiment_has_no_finding(tmp_path: Path) -> None:
    pool = PoolRecording()
    pool.requests()
    profile = pool.profile(tmp_path / "p")
    assert RULE.check(profile) == []
    assert "To try sizes" in shown(profile)._repr_mimebundle_()["text/plain"]
