"""How late real event loops run what is due."""

import sys
from pathlib import Path

import pytest

from perfkit.attach.session import Session
from perfkit.collectors.loop_lag import COLLECTOR
from tests.attach_targets import eventually, every_version, interpreter, running, same_version
from tests.collecting import GARBAGE, LOOPS, ask, collecting

pytestmark = pytest.mark.attach


@every_version
@pytest.mark.parametrize("kind", ["asyncio", "bare"])
def test_a_loop_that_is_blocked_lags_as_long(version: str, kind: str, tmp_path: Path) -> None:
    with running(LOOPS, kind, python=interpreter(version)) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session, asks_per_s=100.0) as collected:
            assert eventually(lambda: len(collected.rows("loop_lag")) > 20)
            ask(target, "block", 0.4)
            assert eventually(lambda: max(row["lag_ns"] for row in collected.rows("loop_lag")) > 0.3e9, within_s=4)
        lags = [row["lag_ns"] for row in collected.rows("loop_lag")]
        assert 0.3e9 < max(lags) < 1.0e9
        assert sorted(lags)[len(lags) // 2] < 0.02e9
        assert {row["loop"] for row in collected.rows("loop_lag")} == {"asyncio.unix_events._UnixSelectorEventLoop"}
        assert collected.quality["cost_ns"] > 0


def test_uvloop_answers_too(tmp_path: Path) -> None:
    with running(LOOPS, "uvloop", python=Path(sys.executable)) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session, asks_per_s=50.0) as collected:
            assert eventually(lambda: len(collected.rows("loop_lag")) > 10)
        assert {row["loop"] for row in collected.rows("loop_lag")} == {"uvloop.Loop"}


def test_a_loop_that_is_still_blocked_at_the_end_shows_it(tmp_path: Path) -> None:
    with running(LOOPS, "asyncio", python=same_version()) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session, asks_per_s=100.0) as collected:
            assert eventually(lambda: bool(collected.rows("loop_lag")))
            ask(target, "block", 1.5)
        assert max(row["lag_ns"] for row in collected.rows("loop_lag")) > 0.4e9
        assert "had not answered" in collected.quality["note"]
        assert ask(target, "look")["of_the_probe"] == []


def test_a_target_without_a_loop_says_so(tmp_path: Path) -> None:
    with running(GARBAGE, python=same_version()) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session) as collected:
            ask(target, "make", 1)
        assert collected.rows("loop_lag") == []
        assert "No asyncio event loop" in collected.quality["note"]


@every_version
def test_it_leaves_nothing_in_the_loop(version: str, tmp_path: Path) -> None:
    with running(LOOPS, "asyncio", python=interpreter(version)) as target, Session.open(target.target) as session:
        session.start("echo")
        before = ask(target, "look")
        for number in range(5):
            folder = tmp_path / str(number)
            folder.mkdir()
            with collecting(COLLECTOR, target, folder, session, asks_per_s=200.0) as collected:
                assert eventually(lambda: bool(collected.rows("loop_lag")))
        assert ask(target, "look") == before


def test_a_target_that_dies_leaves_what_was_measured(tmp_path: Path) -> None:
    with running(LOOPS, "asyncio", python=same_version()) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session, asks_per_s=100.0) as collected:
            assert eventually(lambda: bool(collected.rows("loop_lag")))
            target.process.terminate()
            target.process.wait()
        assert collected.quality["taken"] >= 1
