"""What the corpus of leaks says of itself is complete, and a finding is held against it."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.leaks.corpus import LEAK_CLASSES, Program, programs
from benchmarks.leaks.running import Run
from benchmarks.leaks.score import Score, score

PROGRAMS = {program.name: program for program in programs()}
CLASSES = LEAK_CLASSES | {
    *("none", "filling", "gc_debt", "backlog", "load_proportional"),
    *("allocator_retention", "page_cache", "undetermined"),
}


def test_there_are_enough_of_both() -> None:
    assert sum(program.positive for program in PROGRAMS.values()) >= 22
    assert sum(not program.positive for program in PROGRAMS.values()) >= 14


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_says_what_is_true_of_it(program: Program) -> None:
    assert set(program.classes) <= CLASSES
    if program.positive:
        assert program.allocates, "no line is marked `# truth: allocates`"
        assert "service.leaked(" in program.path.read_text("utf-8"), "nobody counts what leaks"
    else:
        assert not LEAK_CLASSES & set(program.classes)


def finding(**changed: Any) -> dict[str, Any]:
    """Return the findings of a check that is right about sessions_without_expiry."""
    [file_line, *_] = sorted(PROGRAMS["sessions_without_expiry"].inserts)
    place = {"function": "login", "file": "leaks/" + file_line[0], "line": file_line[1]}
    right: dict[str, Any] = {
        "class": "python_leak",
        "verdict": "fail",
        "title": "",
        "retainer": ["module __main__", "SESSIONS", "dict"],
        "site": place,
        "insertion": place,
        "rate_bytes_per_s": [900.0, 1000.0, 1100.0],
        "evidence": {"containers": [{"owner": ["module app", "PAGES"]}, {"owner": ["module app", "SESSIONS"]}]},
    }
    return {"findings": [right | changed]}


@pytest.fixture
def kept(tmp_path: Path) -> Run:
    """A kept run of that program, which leaked 1000 bytes per second, and more before it was recorded."""
    (tmp_path / "profile").mkdir()
    manifest = {"started_monotonic_ns": 5_000_000_000, "duration_ns": 10_000_000_000}
    (tmp_path / "profile" / "manifest.json").write_text(json.dumps(manifest))
    rows = [{"monotonic_ns": at * 10**9, "units": at, "size_bytes": max(at, 5) * 1000} for at in range(20)]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "truth.jsonl").write_text("\n".join(lines) + '\n{"monotonic_ns": 21')
    return Run(PROGRAMS["sessions_without_expiry"], "steady", 1, "", tmp_path)


def right(result: Score) -> dict[str, bool | None]:
    names = ("class_right", "holder_top1", "holder_top3", "allocation", "insertion", "in_interval")
    return {name: getattr(result, name) for name in names if not getattr(result, name)}


def test_a_right_finding_is_right_in_everything(kept: Run) -> None:
    result = score(kept, finding())
    assert right(result) == {}
    assert result.true_per_s == pytest.approx(1000)
    assert result.slope_error == pytest.approx(0)


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        pytest.param({"class": "backlog"}, {"class_right", "in_interval"}, id="another-class"),
        pytest.param({"retainer": ["module app", "PAGES"]}, {"holder_top1"}, id="the-second-candidate-is-right"),
        pytest.param({"retainer": [], "evidence": {}}, {"holder_top1", "holder_top3"}, id="no-holder"),
        pytest.param({"site": None}, {"allocation"}, id="no-line"),
        pytest.param({"insertion": {"function": "f", "file": "x.py", "line": 31}}, {"insertion"}, id="another-file"),
        pytest.param({"rate_bytes_per_s": [1001.0, 1100.0, 1200.0]}, {"in_interval"}, id="a-wrong-interval"),
    ],
)
def test_what_is_wrong_is_counted_as_wrong(kept: Run, changed: dict[str, Any], wrong: set[str]) -> None:
    assert right(score(kept, finding(**changed))).keys() == wrong


@pytest.mark.parametrize(("verdict", "false_leak"), [("fail", True), ("undecided", False)])
def test_a_healthy_program_called_a_leak_is_a_false_alarm(kept: Run, verdict: str, false_leak: bool) -> None:
    healthy = Run(PROGRAMS["healthy"], "steady", 1, "", kept.folder)
    assert score(healthy, finding(verdict=verdict)).false_leak is false_leak
