"""Tasks of real event loops, seen from outside."""

import sys
from pathlib import Path

import pytest

from perfkit.attach.session import Session
from perfkit.collectors.asyncio_tasks import COLLECTOR
from tests.attach_targets import eventually, every_version, interpreter, running, same_version
from tests.collecting import GARBAGE, LOOPS, Collected, ask, collecting

pytestmark = pytest.mark.attach


def settled(collected: Collected, readings: int = 1) -> bool:
    """Whether there are that many readings."""
    return len({row["at_ns"] for row in collected.rows("tasks")}) >= readings


def newest(collected: Collected) -> list[dict[str, object]]:
    """Return the rows of the newest reading."""
    rows = collected.rows("tasks")
    return [row for row in rows if row["at_ns"] == rows[-1]["at_ns"]]


@every_version
def test_tasks_are_counted_by_coroutine_state_and_place(version: str, tmp_path: Path) -> None:
    with running(LOOPS, "asyncio", "7", python=interpreter(version)) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session, every_s=0.1) as collected:
            assert eventually(lambda: settled(collected, 3))
        rows = newest(collected)
        counted = {(row["coroutine"], row["state"]): row["tasks"] for row in rows}
        assert counted[("waiter", "waiting")] == 7
        assert counted[("finished", "done")] == 3
        assert counted[("start", "waiting")] == 1
        [waiter] = [row for row in rows if row["coroutine"] == "waiter"]
        functions = [function for function, _file, _line in collected.place(int(str(waiter["stack_id"])))]
        assert functions == ["waiter", "middle", "innermost", "Event.wait" if version != "3.10" else "wait"]
        assert 0.1e9 <= int(str(waiter["oldest_ns"])) < 5e9
        assert collected.quality["cost_ns"] > 0


@every_version
def test_the_chain_goes_through_asynchronous_generators(version: str, tmp_path: Path) -> None:
    with running(LOOPS, "asyncio", python=interpreter(version)) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session, every_s=0.1) as collected:
            assert eventually(lambda: settled(collected))
        [reader] = [row for row in newest(collected) if row["coroutine"] == "reader"]
        functions = [function for function, _file, _line in collected.place(int(str(reader["stack_id"])))]
        assert functions[:3] == ["reader", "numbers", "innermost"]


def test_tasks_of_uvloop_are_asyncio_tasks(tmp_path: Path) -> None:
    with (
        running(LOOPS, "uvloop", python=Path(sys.executable)) as target,
        Session.open(target.target) as session,
        collecting(COLLECTOR, target, tmp_path, session, every_s=0.1) as collected,
    ):
        assert eventually(lambda: settled(collected))
        assert {"waiter", "reader", "sleeper"} <= {str(row["coroutine"]) for row in newest(collected)}


def test_of_thousands_of_tasks_all_are_counted_and_some_looked_at(tmp_path: Path) -> None:
    with (
        running(LOOPS, "asyncio", "20000", python=same_version()) as target,
        Session.open(target.target) as session,
        collecting(COLLECTOR, target, tmp_path, session, every_s=0.2, looked_at=500) as collected,
    ):
        assert eventually(lambda: settled(collected, 2), within_s=10)
        waiters = [row for row in newest(collected) if row["coroutine"] == "waiter"]
        assert sum(int(str(row["tasks"])) for row in waiters) == 20000
        located = [row for row in waiters if row["stack_id"] is not None]
        assert sum(int(str(row["tasks"])) for row in located) == pytest.approx(500, rel=0.1)
        assert "one in 41" in str(collected.quality["note"])


def test_a_target_without_asyncio_says_so(tmp_path: Path) -> None:
    with running(GARBAGE, python=same_version()) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session, every_s=0.1) as collected:
            ask(target, "make", 1)
        assert collected.rows("tasks") == []
        assert "does not use asyncio" in collected.quality["note"]


@every_version
def test_it_leaves_nothing_behind(version: str, tmp_path: Path) -> None:
    with running(LOOPS, "asyncio", python=interpreter(version)) as target, Session.open(target.target) as session:
        session.start("echo")
        before = ask(target, "look")
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            with collecting(COLLECTOR, target, folder, session, every_s=0.05) as collected:
                assert eventually(lambda: settled(collected))
        assert ask(target, "look") == before
