"""What `lossy_recording` says about the quality of a recording."""

from pathlib import Path
from typing import Any

import pytest

from perfkit.findings import Verdict
from perfkit.rules.lossy_recording import RULE
from tests.builders import SECOND_NS, healthy, make_profile


def quality(collector: str = "pyspy_stacks", **cells: Any) -> dict[str, Any]:
    base = {
        "collector": collector,
        "from_ns": 0,
        "until_ns": 60 * SECOND_NS,
        "expected": 1000,
        "taken": 1000,
        "lost": 0,
    }
    return base | cells


def answers(path: Path, *rows: dict[str, Any], **manifest: Any) -> list[tuple[Verdict, str]]:
    profile = make_profile(path, quality=rows, manifest=manifest)
    return [(finding.verdict, finding.class_) for finding in RULE.check(profile)]


@pytest.mark.parametrize(
    ("cells", "verdict", "class_"),
    [
        pytest.param({}, Verdict.PASS, "none", id="all-taken"),
        pytest.param({"taken": 950, "lost": 50}, Verdict.PASS, "none", id="exactly-at-the-limit"),
        pytest.param({"taken": 900, "lost": 100}, Verdict.UNDECIDED, "lost_readings", id="a-tenth-lost"),
        pytest.param({"taken": 900, "lost": 0}, Verdict.UNDECIDED, "lost_readings", id="lost-without-knowing"),
        pytest.param({"taken": 400, "lost": 600}, Verdict.FAIL, "lost_readings", id="more-lost-than-taken"),
        pytest.param({"expected": 9, "taken": 8}, Verdict.PASS, "none", id="one-of-few-is-missing"),
        pytest.param({"expected": None, "taken": 9, "lost": 91}, Verdict.FAIL, "lost_readings", id="no-plan"),
        pytest.param({"expected": None, "taken": 0, "lost": 0}, Verdict.PASS, "none", id="nothing-expected"),
        pytest.param({"until_ns": 20 * SECOND_NS}, Verdict.UNDECIDED, "partly_covered", id="stopped-early"),
        pytest.param({"from_ns": 4 * SECOND_NS}, Verdict.PASS, "none", id="attaching-takes-its-time"),
        pytest.param({"note": "the process ended"}, Verdict.PASS, "none", id="a-note-is-no-loss"),
    ],
)
def test_verdict(cells: dict[str, Any], verdict: Verdict, class_: str, tmp_path: Path) -> None:
    assert answers(tmp_path / "p", quality(**cells)) == [(verdict, class_)]


def test_a_load_that_was_late_is_said(tmp_path: Path) -> None:
    late = quality("load", note="the load generator itself was late")
    assert answers(tmp_path / "p", quality(), late) == [(Verdict.UNDECIDED, "load_late")]


def test_one_finding_per_collector_with_trouble(tmp_path: Path) -> None:
    rows = [quality("a"), quality("b", lost=500, taken=500), quality("c", lost=500, taken=500)]
    assert len(answers(tmp_path / "p", *rows)) == 2


def test_what_is_missing_is_listed(tmp_path: Path) -> None:
    profile = make_profile(
        tmp_path / "p",
        quality=[quality()],
        manifest={
            "complete": False,
            "missing": ("process 7 ended",),
            "collectors": {"pyspy_stacks": {}, "memray_heap": {}},
        },
    )
    [finding] = RULE.check(profile)
    assert (finding.verdict, finding.class_) == (Verdict.UNDECIDED, "incomplete")
    assert finding.evidence["missing"] == ["process 7 ended", "memray_heap recorded nothing"]


def test_an_empty_recording_is_no_pass(tmp_path: Path) -> None:
    assert answers(tmp_path / "p") == [(Verdict.UNDECIDED, "incomplete")]


def test_the_healthy_service_passes(tmp_path: Path) -> None:
    [finding] = RULE.check(healthy(tmp_path / "p"))
    assert finding.verdict is Verdict.PASS
