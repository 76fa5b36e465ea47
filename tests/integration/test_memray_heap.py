"""memray in a process that has none: what it sees, how it ends, what it costs the target."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from perfkit.attach.budget import Budget
from perfkit.attach.errors import ProbeFailed
from perfkit.attach.memray_builds import NoMemray
from perfkit.attach.session import Session
from perfkit.clock import Clock
from perfkit.collectors import Raw, Recording
from perfkit.collectors.memray_heap import COLLECTOR
from perfkit.symbols import Symbols
from tests.attach_targets import Running, eventually, interpreter, running, same_version

pytestmark = pytest.mark.attach


@contextmanager
def capturing(target: Running, raw: Path, **options: Any) -> Iterator[tuple[Clock, Session]]:
    clock = Clock.start()
    with Session.open(target.target) as session:
        recording = Recording(target.target, raw, clock, lambda: session, print, options=options)
        with COLLECTOR.record(recording):
            yield clock, session


def decoded(raw: Path, pid: int, clock: Clock) -> tuple[pd.DataFrame, dict[str, Any], pd.DataFrame]:
    """Return heap_survival with the function of each leaf, the row of quality, and heap_usage."""
    symbols = Symbols()
    tables = COLLECTOR.decode(Raw(raw, pid, clock, symbols, clock.now_ns()))
    names = symbols.tables()
    leaf = dict(zip(names["stacks"]["stack_id"].to_pylist(), names["stacks"]["leaf_frame_id"].to_pylist(), strict=True))
    function = dict(zip(names["frames"]["frame_id"].to_pylist(), names["frames"]["function"].to_pylist(), strict=True))
    survival = tables["heap_survival"].to_pandas()
    survival["function"] = [function[leaf[stack]] for stack in survival["stack_id"]]
    [quality] = tables["recording_quality"].to_pylist()
    return survival, quality, tables["heap_usage"].to_pandas()


def alive_ratio(survival: pd.DataFrame, function: str) -> float:
    rows = survival[survival["function"] == function]
    return float(rows.loc[rows["freed_ns"].isna(), "allocations"].sum() / rows["allocations"].sum())


def test_a_leak_and_a_bounded_cache_are_told_apart(tmp_path: Path) -> None:
    with running("shop.py", python=same_version()) as target:
        with capturing(target, tmp_path) as (clock, _session):
            time.sleep(1.5)
        survival, quality, usage = decoded(tmp_path, target.target.pid, clock)
    assert alive_ratio(survival, "__init__") > 0.95  # Session.__init__, kept in SESSIONS
    assert alive_ratio(survival, "remember") < 0.3  # a cache of 50
    assert survival["size_bytes"].min() > 0
    assert survival["allocated_ns"].between(0, clock.now_ns()).all()
    ended = survival["freed_ns"].dropna()
    assert (ended >= survival.loc[ended.index, "allocated_ns"]).all()
    assert survival["allocated_ns"].nunique() <= 120
    assert usage["traced_bytes"].iloc[-1] > usage["traced_bytes"].iloc[0]
    assert 1.2e9 < quality["until_ns"] - quality["from_ns"] < 3e9
    assert quality["stopped_ns"] < 500_000_000


@contextmanager
def within(share: float, target: Running, raw: Path, duration_s: float) -> Iterator[tuple[Clock, Budget]]:
    """Record with a budget for as long as planned."""
    clock = Clock.start()
    with Session.open(target.target) as session:
        budget = Budget(share, target.target.pid, duration_s, lambda: session)
        recording = Recording(target.target, raw, clock, lambda: session, print, duration_s, budget=budget)
        with COLLECTOR.record(recording):
            yield clock, budget


def test_with_a_budget_the_capture_is_as_long_as_it_allows_and_reaches_to_the_end(tmp_path: Path) -> None:
    with running("states.py", "spin", python=same_version()) as target:
        with within(0.3, target, tmp_path, 8.0) as (clock, budget):
            time.sleep(8.0)
            ended_ns = clock.now_ns()
        _survival, quality, _usage = decoded(tmp_path, target.target.pid, clock)
    length_s = (quality["until_ns"] - quality["from_ns"]) / 1e9
    assert 2.0 < length_s < 5.5, "a busy process: 0.3 of 8 s at 0.66 per second"
    assert quality["until_ns"] > ended_ns - 1e9
    assert quality["cost_ns"] / 8e9 < 0.4
    assert "as a budget of 30.0% allowed" in quality["note"]
    assert budget.traced_ns > 0


def test_a_budget_that_is_too_small_leaves_the_capture_out_and_says_so(tmp_path: Path) -> None:
    with running("states.py", "load", python=same_version()) as target:
        with within(0.02, target, tmp_path, 4.0) as (clock, _budget):
            time.sleep(4.0)
        survival, quality, _usage = decoded(tmp_path, target.target.pid, clock)
        assert target.look()["modules"] == [], "memray never came in"
    assert survival.empty
    assert "2.0% of the target's time do not allow a capture of 2 s" in quality["note"]


def test_an_idle_process_is_traced_nearly_all_the_time_on_a_small_budget(tmp_path: Path) -> None:
    with running("states.py", "sleep", python=same_version()) as target:
        with within(0.02, target, tmp_path, 6.0) as (clock, _budget):
            time.sleep(6.0)
        _survival, quality, _usage = decoded(tmp_path, target.target.pid, clock)
    assert quality["from_ns"] < 3.5e9
    assert quality["until_ns"] - quality["from_ns"] > 2.5e9


def test_a_capture_ends_by_itself_when_its_time_is_up(tmp_path: Path) -> None:
    with running("shop.py", python=same_version()) as target:
        with capturing(target, tmp_path, max_seconds=0.3) as (clock, session):
            assert eventually(lambda: (tmp_path / "ended.jsonl").read_text().endswith("\n"), within_s=5)
            assert session.is_open
        _survival, quality, _usage = decoded(tmp_path, target.target.pid, clock)
    assert "its time was up" in quality["note"]
    assert quality["until_ns"] - quality["from_ns"] < 2e9


def test_a_capture_ends_by_itself_when_its_file_is_full(tmp_path: Path) -> None:
    with running("states.py", "load", python=same_version()) as target:
        with capturing(target, tmp_path, max_bytes=1 << 20) as (clock, _session):
            assert eventually(lambda: (tmp_path / "ended.jsonl").read_text().endswith("\n"), within_s=20)
        _survival, quality, _usage = decoded(tmp_path, target.target.pid, clock)
    assert "its file was full" in quality["note"]


def test_a_target_killed_in_the_middle_leaves_what_was_written(tmp_path: Path) -> None:
    with running("shop.py", python=same_version(), ends_with=-9) as target:
        with capturing(target, tmp_path) as (clock, _session):
            time.sleep(1.0)
            os.kill(target.target.pid, signal.SIGKILL)
            target.process.wait()
        survival, quality, usage = decoded(tmp_path, target.target.pid, clock)
    assert alive_ratio(survival, "__init__") > 0.95
    assert len(usage) > 5
    assert "is gone" in quality["note"]


def test_what_was_not_written_is_said(tmp_path: Path) -> None:
    clock = Clock.start()
    survival, quality, _usage = decoded(tmp_path, 1, clock)
    assert survival.empty
    assert quality["taken"] == 0
    assert "cannot be read" in quality["note"]


def test_a_target_that_uses_tracemalloc_is_refused(tmp_path: Path) -> None:
    program = "import tracemalloc; tracemalloc.start(); import perfkit.probe, time; perfkit.probe.start()"
    import subprocess
    import sys

    from perfkit.attach.target import inspect

    process = subprocess.Popen(
        [sys.executable, "-c", f"{program}; print('ready', flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        target = Running(process, inspect(process.pid))
        with pytest.raises(ProbeFailed, match="tracemalloc"), capturing(target, tmp_path):
            pass
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_two_captures_at_once_are_refused(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with (
        running("shop.py", python=same_version()) as target,
        capturing(target, tmp_path),
        pytest.raises(ProbeFailed, match="one Tracker"),
        capturing(target, tmp_path / "second"),
    ):
        pass


def test_a_version_without_a_build_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with running("alone.py", python=interpreter("3.12")) as target:
        problem = COLLECTOR.problem(target.target)
        assert isinstance(problem, NoMemray)
        assert f"perfkit doctor --pid {target.target.pid} --fix" in problem.hint


def test_the_target_gets_nothing_but_memray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "raw").mkdir()
    with running("states.py", "sleep", python=same_version()) as target:
        before = target.look()
        with capturing(target, tmp_path / "raw"):
            during = target.look()
        after = target.look()
    assert {name.split(".")[0] for name in during["modules"]} == {"memray"}
    assert during["path"] == before["path"]
    assert {key: after[key] for key in after if key not in ("descriptors", "threads")} == {
        key: before[key] for key in before if key not in ("descriptors", "threads")
    }
    [folder] = (tmp_path / "cache" / "perfkit" / "memray").iterdir()
    assert {entry.name for entry in folder.iterdir()} == {"memray", "memray.libs"}
    assert json.loads((tmp_path / "raw" / "start.json").read_text())["start_took_ns"] < 500_000_000
