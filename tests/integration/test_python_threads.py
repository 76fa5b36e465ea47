"""Threads of real processes: what they run, where they are, who started them."""

from pathlib import Path
from typing import Any

import pytest

from perfkit.attach.session import Session
from perfkit.collectors.python_threads import COLLECTOR
from tests.attach_targets import eventually, every_version, interpreter, running, same_version
from tests.collecting import CREW, Collected, ask, collecting

pytestmark = pytest.mark.attach


def newest(collected: Collected) -> list[dict[str, Any]]:
    """Return the rows of the newest reading."""
    rows = collected.rows("python_threads")
    return [row for row in rows if row["at_ns"] == rows[-1]["at_ns"]]


def after(collected: Collected) -> list[dict[str, Any]]:
    """Return a reading that began after now."""
    began_ns = collected.clock.now_ns()
    assert eventually(lambda: any(row["at_ns"] > began_ns for row in collected.rows("python_threads")), within_s=10)
    return newest(collected)


def functions(collected: Collected, stack_id: int) -> list[str]:
    """Return the functions of a stack, outermost first."""
    return [function for function, _file, _line in collected.place(stack_id)]


@every_version
def test_threads_are_counted_by_what_they_run_and_who_started_them(version: str, tmp_path: Path) -> None:
    with running(CREW, python=interpreter(version)) as target, Session.open(target.target) as session:
        ask(target, "start_pollers", 2)
        with collecting(COLLECTOR, target, tmp_path, session, every_s=0.1) as collected:
            ask(target, "start_pollers", 5)
            ask(target, "start_couriers", 3)
            ask(target, "start_pool", 4)
            rows = after(collected)
        [old] = [row for row in rows if row["function"] == "__main__.poll_inventory" and row["start_stack_id"] is None]
        [new] = [row for row in rows if row["function"] == "__main__.poll_inventory" and row["start_stack_id"]]
        assert (old["threads"], new["threads"]) == (2, 5)
        assert new["name"] == old["name"] == ("Thread-#" if version == "3.10" else new["name"])
        assert new["daemon"] is True
        assert functions(collected, new["start_stack_id"]) == ["<module>", "start_pollers"]
        assert "poll_inventory" in functions(collected, new["stack_id"])
        assert old["oldest_ns"] >= new["oldest_ns"]
        [courier] = [row for row in rows if row["function"] == "__main__.Courier.run"]
        assert (courier["threads"], courier["name"]) == (3, "courier #")
        assert functions(collected, courier["start_stack_id"])[-1] == "start_couriers"
        workers = [row for row in rows if row["function"] == "concurrent.futures.thread._worker"]
        assert (sum(row["threads"] for row in workers), workers[0]["name"]) == (4, "ThreadPoolExecutor-#_#")
        assert "start_pool" in functions(collected, workers[0]["start_stack_id"])
        [main] = [row for row in rows if row["name"] == "MainThread"]
        assert (main["threads"], main["function"], main["start_stack_id"]) == (1, None, None)


def test_threads_that_threading_does_not_know_are_counted(tmp_path: Path) -> None:
    with running(CREW, python=same_version()) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session, every_s=0.1) as collected:
            ask(target, "start_without_threading", 2)
            ask(target, "start_native", 3)
            rows = after(collected)
        counts = {row["name"]: row["threads"] for row in rows}
        assert counts == {"MainThread": 1, "[not started by threading]": 2, "[native] encoder-#": 3}


def test_the_starter_of_a_thread_that_ended_is_not_taken_for_that_of_another(tmp_path: Path) -> None:
    with (
        running(CREW, python=same_version()) as target,
        Session.open(target.target) as session,
        collecting(COLLECTOR, target, tmp_path, session, every_s=0.05) as collected,
    ):
        for _again in range(3):
            ask(target, "start_couriers", 20)
            ask(target, "end_threads")
            ask(target, "start_pollers", 20)
            pollers = [row for row in after(collected) if row["function"] == "__main__.poll_inventory"]
            assert {functions(collected, row["start_stack_id"])[-1] for row in pollers} == {"start_pollers"}
            ask(target, "end_threads")


@every_version
def test_it_leaves_nothing_behind(version: str, tmp_path: Path) -> None:
    with running(CREW, python=interpreter(version)) as target, Session.open(target.target) as session:
        session.start("echo")
        before = ask(target, "look")
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            with collecting(COLLECTOR, target, folder, session, every_s=0.05) as collected:
                assert after(collected)
                assert ask(target, "look") != before
        assert ask(target, "look") == before


def test_a_forked_child_gets_rid_of_it(tmp_path: Path) -> None:
    with (
        running(CREW, python=same_version()) as target,
        Session.open(target.target) as session,
        collecting(COLLECTOR, target, tmp_path, session, every_s=0.05),
    ):
        assert ask(target, "start_in_child") == "start"
        assert ask(target, "look")["start"][1] == "<perfkit probe>"


def test_what_others_put_over_the_start_of_threads_stays(tmp_path: Path) -> None:
    with running(CREW, python=same_version()) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session, every_s=0.05) as collected:
            ask(target, "wrap_start")
            ask(target, "start_pollers", 1)
            [row] = [row for row in after(collected) if row["function"] == "__main__.poll_inventory"]
            assert row["start_stack_id"] is not None
        ask(target, "start_pollers", 1)
        assert ask(target, "look")["start"][0] == "wrap_start.<locals>.start"


def test_a_wrapper_that_gives_another_object_to_each_who_asks_is_put_back_itself(tmp_path: Path) -> None:
    with running(CREW, python=same_version()) as target, Session.open(target.target) as session:
        ask(target, "wrap_start_with_a_descriptor")
        before = ask(target, "start_as_held")
        with collecting(COLLECTOR, target, tmp_path, session, every_s=0.05) as collected:
            ask(target, "start_pollers", 1)
            [row] = [row for row in after(collected) if row["function"] == "__main__.poll_inventory"]
            assert row["start_stack_id"] is not None
        assert ask(target, "start_as_held") == before


def test_it_costs_next_to_nothing(tmp_path: Path) -> None:
    with running(CREW, python=same_version()) as target, Session.open(target.target) as session:
        ask(target, "start_pollers", 300)
        with collecting(COLLECTOR, target, tmp_path, session, every_s=0.05) as collected:
            rows = after(collected)
        assert sum(row["threads"] for row in rows) == 301
        assert 0 < collected.quality["cost_ns"] / collected.quality["taken"] < 20_000_000
        assert "one in 2" in collected.quality["note"]
