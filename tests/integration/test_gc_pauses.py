"""Garbage collections of real processes, compared with what the interpreter counts itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perfkit.attach.session import Session
from perfkit.collectors.gc_pauses import COLLECTOR, PROBE_FRAME
from tests.attach_targets import eventually, every_version, interpreter, running, same_version
from tests.collecting import GARBAGE, Collected, ask, collecting

pytestmark = pytest.mark.attach

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "tests/targets/gc/garbage.py").read_text("utf-8").splitlines()


def between(collected: Collected, before: dict[str, object], after: dict[str, object]) -> list[int]:
    """Return how many collections of each generation began between two readings of the target."""
    first, last = (collected.clock.from_monotonic(int(str(each["at"]))) for each in (before, after))
    begun = [row["generation"] for row in collected.rows("gc_pauses") if first < row["start_ns"] < last]
    return [begun.count(generation) for generation in range(3)]


@every_version
def test_every_collection_is_there(version: str, tmp_path: Path) -> None:
    with running(GARBAGE, python=interpreter(version)) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session) as collected:
            before = ask(target, "counted")
            ask(target, "keep_making", 0.5)
            ask(target, "make", 200_000)
            ask(target, "tidy_up")
            after = ask(target, "counted")
        counted = [end - begin for begin, end in zip(before["collections"], after["collections"], strict=True)]
        assert sum(counted) > 100
        assert between(collected, before, after) == counted
        quality = collected.quality
        assert quality["expected"] == quality["taken"] == len(collected.rows("gc_pauses"))
        assert quality["lost"] == 0
        assert quality["cost_ns"] > 0


@every_version
def test_who_collects_by_hand_is_named_and_nobody_else(version: str, tmp_path: Path) -> None:
    with running(GARBAGE, python=interpreter(version)) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session) as collected:
            for _again in range(10):
                ask(target, "make", 7000)
                ask(target, "tidy_up")
                ask(target, "tidy_middle")
                ask(target, "make_and_tidy", 9000)
        by_hand = [row for row in collected.rows("gc_pauses") if row["manual"]]
        called = [(row["generation"], *collected.place(row["stack_id"])[-1]) for row in by_hand]
        names = [(generation, function) for generation, function, _file, _line in called]
        assert names == [(2, "tidy_up"), (1, "tidy_middle"), (2, "make_and_tidy")] * 10
        assert {file for _generation, _function, file, _line in called} == {"gc/garbage.py"}
        assert {LINES[line - 1].strip() for _generation, _function, _file, line in called} == {
            "gc.collect()",
            "collect(1)",
        }
        assert collected.place(by_hand[0]["stack_id"])[0][0] == "<module>"
        assert {row["manual"] for row in collected.rows("gc_pauses")} == {True, False}


@every_version
def test_a_full_collection_that_was_overdue_anyway_is_still_somebodys(version: str, tmp_path: Path) -> None:
    with running(GARBAGE, python=interpreter(version)) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session) as collected:
            counts = ask(target, "make_old", 400_000)
            assert counts[2] > 10, "the oldest generation is not overdue"
            overdue = ask(target, "counted")
            ask(target, "tidy_up")
            ask(target, "tidy_up")
        since = collected.clock.from_monotonic(overdue["at"])
        full = [row for row in collected.rows("gc_pauses") if row["generation"] == 2 and row["start_ns"] > since]
        assert [row["manual"] for row in full] == [True, True]


def test_collections_of_the_census_are_not_the_targets(tmp_path: Path) -> None:
    with running(GARBAGE, python=same_version()) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session) as collected:
            session.start("census", stream=tmp_path / "census.jsonl", every_s=0.1)
            assert eventually(lambda: any(row["manual"] for row in collected.rows("gc_pauses")), within_s=5)
            session.stop("census")
        forced = [row for row in collected.rows("gc_pauses") if row["manual"]]
        assert {collected.place(row["stack_id"])[0][0] for row in forced} == {PROBE_FRAME}


def test_two_recorders_see_the_same(tmp_path: Path) -> None:
    folders = tmp_path / "first", tmp_path / "second"
    for folder in folders:
        folder.mkdir()
    with (
        running(GARBAGE, python=same_version()) as target,
        Session.open(target.target) as first,
        Session.open(target.target) as second,
    ):
        with collecting(COLLECTOR, target, folders[0], first) as one:
            with collecting(COLLECTOR, target, folders[1], second) as other:
                ask(target, "keep_making", 0.3)
                ask(target, "tidy_up")
            assert len(ask(target, "look")["gc_callbacks"]) == 2
        assert ask(target, "look")["gc_callbacks"] == []
        assert one.quality["lost"] == other.quality["lost"] == 0
        assert 0 < other.quality["taken"] <= one.quality["taken"]


@every_version
def test_settings_that_the_target_changes_are_followed(version: str, tmp_path: Path) -> None:
    with running(GARBAGE, python=interpreter(version)) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session, counts_per_s=100.0) as collected:

            def values(name: str) -> list[object]:
                return [json.loads(row["value"]) for row in collected.rows("settings") if row["name"] == name]

            assert eventually(lambda: values("gc.enabled") == [True])
            ask(target, "change", "off", 1234, 5, 6)
            assert eventually(lambda: values("gc.enabled") == [True, False])
            ask(target, "change", "on")
            ask(target, "another_callback")
            ask(target, "freeze")
            assert eventually(lambda: len(values("gc.frozen_objects")) > 1, within_s=4)
            assert eventually(lambda: len(values("gc.callbacks")) == 2)
        assert values("gc.enabled") == [True, False, True]
        assert values("gc.thresholds")[-1] == [1234, 5, 6]
        assert values("gc.frozen_objects")[-1] > 1000
        assert values("gc.callbacks") == [[], ["__main__.another_callback.<locals>.seen"] * 2]
        assert "another_callback" in collected.quality["note"]


def test_counters_are_read_at_the_rate_asked_for(tmp_path: Path) -> None:
    with running(GARBAGE, python=same_version()) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session, counts_per_s=50.0) as collected:
            ask(target, "keep_making", 1.0)
        rows = collected.rows("gc_counts")
        assert 35 <= len(rows) <= 60
        assert max(row["count0"] for row in rows) <= 701
        assert rows[0]["frozen_objects"] == 0


def test_reading_the_counters_of_an_idle_process_makes_it_collect_nothing(tmp_path: Path) -> None:
    with running(GARBAGE, python=same_version()) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session) as collected:
            first = ask(target, "counted")
            assert eventually(lambda: len(collected.rows("gc_counts")) > 40, within_s=5)
            last = ask(target, "counted")
        assert first["collections"] == last["collections"]


@every_version
def test_it_comes_and_goes_without_a_trace_and_beside_others(version: str, tmp_path: Path) -> None:
    with running(GARBAGE, python=interpreter(version)) as target, Session.open(target.target) as session:
        ask(target, "another_callback")
        session.start("echo")
        before = ask(target, "look")
        for number in range(5):
            folder = tmp_path / str(number)
            folder.mkdir()
            with collecting(COLLECTOR, target, folder, session) as collected:
                ask(target, "make", 20_000)
                ask(target, "tidy_up")
            assert collected.quality["lost"] == 0
        assert ask(target, "look") == before
        seen = ask(target, "seen")
        assert seen == ["start", "start", "stop", "stop"] * (len(seen) // 4)


def test_threads_that_collect_while_it_comes_and_goes_are_not_disturbed(tmp_path: Path) -> None:
    with running(GARBAGE, python=same_version()) as target, Session.open(target.target) as session:
        ask(target, "another_callback")
        session.start("echo")
        assert target.process.stdin is not None
        target.process.stdin.write("keep_making 2\n")
        target.process.stdin.flush()
        taken = 0
        for number in range(20):
            folder = tmp_path / str(number)
            folder.mkdir()
            with collecting(COLLECTOR, target, folder, session) as collected:
                session.call("echo")  # it has been in there for a moment
            assert collected.quality["lost"] == 0
            taken += collected.quality["taken"]
        assert taken > 0
        assert target.process.stdout is not None
        assert json.loads(target.process.stdout.readline()) is None
        assert len(ask(target, "look")["gc_callbacks"]) == 2
        seen = ask(target, "seen")
        assert seen == ["start", "start", "stop", "stop"] * (len(seen) // 4)


def test_callbacks_that_the_target_clears_are_put_back(tmp_path: Path) -> None:
    with running(GARBAGE, python=same_version()) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session) as collected:
            ask(target, "clear_callbacks")
            assert eventually(lambda: len(ask(target, "look")["gc_callbacks"]) == 2)
            ask(target, "tidy_up")
        assert ask(target, "look")["gc_callbacks"] == []
        assert collected.rows("gc_pauses")[-1]["generation"] == 2
        assert "put back" in collected.quality["note"]


@every_version
def test_a_forked_child_gets_rid_of_the_callbacks(version: str, tmp_path: Path) -> None:
    with running(GARBAGE, python=interpreter(version)) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session) as collected:
            assert ask(target, "fork") == 0
            ask(target, "tidy_up")
            assert len(ask(target, "look")["gc_callbacks"]) == 2
        assert [row["generation"] for row in collected.rows("gc_pauses") if row["manual"]] == [2]


def test_a_target_that_dies_leaves_what_was_seen(tmp_path: Path) -> None:
    with running(GARBAGE, python=same_version()) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session) as collected:
            ask(target, "tidy_up")
            assert eventually(lambda: any(row["manual"] for row in collected.rows("gc_pauses")))
            target.process.terminate()
            target.process.wait()
        assert collected.quality["taken"] >= 1
        assert collected.quality["expected"] is None


def test_a_recorder_that_is_killed_leaves_no_callback(tmp_path: Path) -> None:
    with running(GARBAGE, python=same_version()) as target:
        before = ask(target, "look")
        program = (
            "import sys, time; from contextlib import ExitStack; from pathlib import Path\n"
            "from perfkit.attach.session import Session; from perfkit.attach.target import inspect\n"
            "from perfkit.clock import Clock; from perfkit.collectors import Recording, collectors\n"
            "target = inspect(int(sys.argv[1])); session = Session.open(target)\n"
            "with ExitStack() as stack:\n"
            "  for name in ('gc_pauses', 'python_memory', 'asyncio_tasks', 'loop_lag'):\n"
            "    raw = Path(sys.argv[2]) / name; raw.mkdir()\n"
            "    recording = Recording(target, raw, Clock.start(), lambda: session, print)\n"
            "    stack.enter_context(collectors()[name].record(recording))\n"
            "  print('recording', flush=True); time.sleep(60)\n"
        )
        recorder = subprocess.Popen(
            [sys.executable, "-c", program, str(target.target.pid), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == "recording\n"
        assert len(ask(target, "look")["gc_callbacks"]) == 2
        recorder.kill()
        recorder.wait()
        recorder.stdout.close()
        unchanged = ("threads", "descriptors", "gc_callbacks", "gc", "handlers")
        assert eventually(lambda: all(ask(target, "look")[name] == before[name] for name in unchanged))


@every_version
def test_an_interrupt_during_a_collection_reaches_the_target(version: str, tmp_path: Path) -> None:
    with (
        running(GARBAGE, python=interpreter(version)) as target,
        Session.open(target.target) as session,
        collecting(COLLECTOR, target, tmp_path, session),
    ):
        assert ask(target, "interruptions", 20) == 20
