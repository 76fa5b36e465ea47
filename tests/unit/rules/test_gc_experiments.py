"""What `gc_tuning` says of an experiment: only what was measured, and only what is more than noise."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perfkit.analysis.gc_case import gather
from perfkit.analysis.switchback import AGAIN, NOW
from perfkit.findings import Finding, Verdict
from perfkit.profile import Profile
from perfkit.rules.gc_tuning import RULE
from perfkit.views.gc_experiment import gc_experiment
from tests.builders import PID, SECOND_NS, Row, pause, setting_rows
from tests.unit.rules.collections import Service

RAISED = "gc.set_threshold(10000)"
FROZEN = "gc.freeze()"
WINDOW_S = 2


def experiment(
    path: Path,
    share: dict[str, float],
    *,
    rss_bytes: dict[str, int] | None = None,
    slow_ms: dict[str, float] | None = None,
    ended: str | None = None,
    restored: bool = True,
    seed: int = 1,
) -> Profile:
    """Return six blocks of windows in which each setting spends its share of the time in collections."""
    random = np.random.default_rng(seed)
    windows: list[Row] = []
    rows: list[Row] = []
    ledger: list[Row] = []
    requests: list[dict[str, Any]] = []
    arms = [("noise", NOW), ("noise", AGAIN)]
    order = [(block, arm) for block in range(6) for arm in arms]
    order += [(block, ("trial", name)) for block in range(6) for name in (NOW, *share.keys() - {NOW})]
    for number, (block, (phase, name)) in enumerate(order):
        begin = number * WINDOW_S * SECOND_NS
        windows.append(
            {"from_ns": begin, "until_ns": begin + WINDOW_S * SECOND_NS - 1, "phase": phase, "block": block,
             "setting": name, "read_back": "{}"}
        )  # fmt: skip
        ratio = share[NOW if name == AGAIN else name] * float(random.lognormal(0, 0.05))
        for at in range(20):
            when = begin + int((at + 0.3) / 20 * WINDOW_S * SECOND_NS)
            rows.append(pause(when, ratio * WINDOW_S / 20 * 1000))
        for at in range(4):
            rss = (rss_bytes or {}).get(name, 10**8) + int(random.integers(0, 10**5))
            ledger.append(
                {"at_ns": begin + at * SECOND_NS // 2, "rss_bytes": rss, "anon_bytes": rss, "file_bytes": 0,
                 "shmem_bytes": 0, "python_blocks": 100_000}
            )  # fmt: skip
        for at in range(300) if slow_ms else ():
            slow = at % 50 == 0
            took = ((slow_ms or {})[NOW if name == AGAIN else name] if slow else 3.0) * float(random.lognormal(0, 0.05))
            when = begin + int(at / 300 * WINDOW_S * SECOND_NS)
            requests.append(
                {"intended_ns": when, "start_ns": when, "latency_ns": int(took * 1e6), "status": 200, "route": "page",
                 "method": "GET", "sent_bytes": 0, "received_bytes": 1}
            )  # fmt: skip
    seconds = len(order) * WINDOW_S
    after = {"thresholds": [700, 10, 10] if restored else [10_000, 10, 10], "enabled": True, "frozen_objects": 0}
    notes = {"before": {"thresholds": [700, 10, 10], "enabled": True, "frozen_objects": 0}, "after": after}
    settings = [
        *setting_rows(),
        *({"at_ns": 1, "name": f"gc_experiment.{name}", "value": json.dumps(value)} for name, value in notes.items()),
    ]
    events = [
        {"at_ns": 5, "duration_ns": 0, "kind": "recorder", "name": f"the experiment ended early: {ended}"}
    ] if ended else []  # fmt: skip
    return Service(seconds=seconds).record(
        path, gc_pauses=rows, windows=windows, ledger=ledger, requests=requests, settings=settings, events=events,
        quality=[{"collector": "gc_pauses", "from_ns": 0, "until_ns": seconds * SECOND_NS, "expected": len(rows),
                  "taken": len(rows), "lost": 0}],
    )  # fmt: skip


def judged(profile: Profile) -> Finding:
    [finding] = RULE.check(profile)
    return finding


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("share", "verdict", "class_"),
    [
        pytest.param({NOW: 0.1, RAISED: 0.01, FROZEN: 0.09}, Verdict.FAIL, "raise_threshold", id="the-threshold-helps"),
        pytest.param({NOW: 0.2, RAISED: 0.19, FROZEN: 0.02}, Verdict.FAIL, "freeze", id="freezing-helps"),
        pytest.param({NOW: 0.1, RAISED: 0.1, FROZEN: 0.1}, Verdict.PASS, "no_change", id="nothing-helps"),
        pytest.param({NOW: 0.004, RAISED: 0.001}, Verdict.PASS, "no_change", id="what-helps-is-too-little"),
        pytest.param({NOW: 0.05, RAISED: 0.2}, Verdict.PASS, "no_change", id="it-makes-it-worse"),
    ],
)
def test_what_was_measured_decides(
    share: dict[str, float], verdict: Verdict, class_: str, seed: int, tmp_path: Path
) -> None:
    finding = judged(experiment(tmp_path / "p", share, seed=seed))
    assert (finding.verdict, finding.class_) == (verdict, class_), finding.title
    assert ("recommendation" in finding.evidence) == (verdict is Verdict.FAIL)


def test_the_simpler_of_two_settings_that_are_as_good_is_chosen(tmp_path: Path) -> None:
    both = f"{FROZEN}; {RAISED}"
    finding = judged(experiment(tmp_path / "p", {NOW: 0.1, RAISED: 0.0102, both: 0.01}))
    assert RAISED in finding.title
    assert both not in finding.title


def test_a_setting_that_costs_memory_is_not_recommended(tmp_path: Path) -> None:
    rss = {NOW: 10**8, RAISED: 3 * 10**8}
    profile = experiment(tmp_path / "p", {NOW: 0.1, RAISED: 0.01}, rss_bytes=rss)
    finding = judged(profile)
    assert finding.verdict is not Verdict.FAIL
    assert finding.evidence["experiment"]["settings"][RAISED]["harms"] == ["rss_bytes"]
    assert "worse: resident memory" in gc_experiment(profile)._repr_mimebundle_()["text/plain"]


def test_an_experiment_that_was_cut_off_decides_nothing(tmp_path: Path) -> None:
    finding = judged(experiment(tmp_path / "p", {NOW: 0.1, RAISED: 0.01}, ended="resident memory passed 9 MiB"))
    assert finding.verdict is Verdict.UNDECIDED
    assert "resident memory passed 9 MiB" in finding.title


def test_latency_decides_where_there_is_a_load_and_pauses_that_do_not_explain_it_are_said(tmp_path: Path) -> None:
    share, slow = {NOW: 0.1, RAISED: 0.01}, {NOW: 80.0, RAISED: 20.0}
    finding = judged(experiment(tmp_path / "p", share, slow_ms=slow))
    assert finding.evidence["experiment"]["primary"] == "p99_ms"
    measured = finding.evidence["experiment"]["settings"][RAISED]["effects"]["p99_ms"]
    assert measured["estimate"] == pytest.approx(-60, rel=0.2)
    assert "something else changed" in finding.title, "pauses of 10 ms do not explain 60"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("slow_ms", "explained", "said"),
    [
        pytest.param({NOW: 80.0, RAISED: 72.0}, "yes", "", id="as-much-as-the-pauses"),
        pytest.param(
            {NOW: 80.0, RAISED: 80.0}, "less", "not what makes requests slow", id="nothing-although-they-went"
        ),
        pytest.param({NOW: 80.0, RAISED: 20.0}, "more", "something else changed", id="far-more-than-they-were"),
    ],
)
def test_latency_has_to_change_by_what_the_pauses_were(
    slow_ms: dict[str, float], explained: str, said: str, seed: int, tmp_path: Path
) -> None:
    profile = experiment(tmp_path / "p", {NOW: 0.1, RAISED: 0.01}, slow_ms=slow_ms, seed=seed)
    finding = judged(profile)
    trial = finding.evidence["experiment"]["settings"][RAISED]
    low, high = trial["predicted_p99_interval_ms"]
    assert low <= trial["predicted_p99_ms"] <= high < 0
    assert trial["explained_by_pauses"] == explained
    assert said in finding.title
    if explained == "yes":
        assert "explain" not in finding.title


@pytest.mark.parametrize("restored", [True, False])
def test_settings_that_are_not_back_are_said(restored: bool, tmp_path: Path) -> None:
    profile = experiment(tmp_path / "p", {NOW: 0.1, RAISED: 0.01}, restored=restored)
    case = gather(profile, PID)
    assert case is not None
    assert case.experiment is not None
    assert case.experiment.restored is restored
    text = gc_experiment(profile)._repr_mimebundle_()["text/plain"]
    assert ("were NOT as before" in text) is not restored
