"""Connection pools of real libraries, watched in a process that knows nothing of it, by every interpreter."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from perfkit.attach.session import Session
from perfkit.collectors.pool_events import COLLECTOR
from tests.attach_targets import eventually, every_version, running
from tests.collecting import Collected, ask, collecting
from tests.pool_interpreters import with_libraries

LIBRARIES = "../pools/libraries.py"
PROGRAM = Path(__file__).parents[1] / "targets" / "pools" / "libraries.py"
NAMES = {"sqlalchemy": "sqlalchemy", "urllib3": "urllib3", "httpcore": "httpcore", "async": "httpcore"}

pytestmark = [pytest.mark.attach, pytest.mark.timeout(420)]


def line_of(library: str) -> int:
    """Return the line of the program that takes connections of a library."""
    lines = PROGRAM.read_text().splitlines()
    return next(number for number, text in enumerate(lines, 1) if text.endswith(f"# HERE: {library}"))


def events(collected: Collected, library: str) -> list[dict[str, Any]]:
    """Return the events of one library's pools."""
    kind = "AsyncConnectionPool" if library == "async" else "ConnectionPool" if library == "httpcore" else ""
    pools = f"{NAMES[library]} {kind}"
    return [row for row in collected.rows("pool_events") if row["pool"].startswith(pools)]


@every_version
def test_every_use_is_noted_with_its_line_and_nothing_is_left_behind(version: str, tmp_path: Path) -> None:
    with running(LIBRARIES, python=with_libraries(version)) as target:
        before = ask(target, "look")
        with Session.open(target.target) as session:
            with collecting(COLLECTOR, target, tmp_path, session) as collected:
                for number, library in enumerate(NAMES, 3):
                    ask(target, "use", library, number)
                    ask(target, "keep", library, 2)
            stopped = ask(target, "look")
        for number, library in enumerate(NAMES, 3):
            seen = events(collected, library)
            counts = Counter(row["event"] for row in seen)
            assert counts["acquired"] == number + 2, library
            assert counts["released"] == number, library
            for row in seen:
                if row["event"] == "acquired":
                    stack = collected.place(row["stack_id"])
                    assert [line for _function, file, line in stack if "libraries.py" in file][-1] == line_of(library)
        assert collected.quality["lost"] == 0
        assert "could not" not in collected.quality["note"]
        assert stopped["tools"] == before["tools"]
        assert stopped["replaced"] == before["replaced"]
        for library in NAMES:
            ask(target, "give", library)
        assert eventually(lambda: ask(target, "look") == before, within_s=5)


@pytest.mark.parametrize("version", ["3.11", "3.13"])
@pytest.mark.parametrize("library", ["httpcore", "async"])
def test_who_is_promised_a_connection_that_another_gets_still_waits(library: str, version: str, tmp_path: Path) -> None:
    """httpcore gives the connection that has become idle to all that wait; all but one of them wait again."""
    with running(LIBRARIES, python=with_libraries(version)) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session) as collected:
            ask(target, "crowd", library, 12)
        seen = events(collected, library)
    counts = Counter(row["event"] for row in seen)
    assert (counts["acquired"], counts["released"], counts["created"]) == (13, 13, 1)
    waits_ms = sorted(row["wait_ns"] / 1e6 for row in seen if row["event"] == "acquired")
    assert waits_ms[-1] >= 200, "the last of twelve waits for eleven others, less what its thread took to start"
    holds_ms = sorted(row["held_ns"] / 1e6 for row in seen if row["event"] == "released")
    assert holds_ms[1] >= 30, "nobody held it for nothing"


def test_connections_that_were_out_before_are_known_to_come_back(tmp_path: Path) -> None:
    with (
        running(LIBRARIES, python=with_libraries("3.12")) as target,
        Session.open(target.target) as session,
    ):
        ask(target, "keep", "sqlalchemy", 3)
        with collecting(COLLECTOR, target, tmp_path, session) as collected:
            assert eventually(lambda: len(collected.rows("pool_states")) > 0, within_s=5)
            ask(target, "give", "sqlalchemy")
        counts = Counter(row["event"] for row in events(collected, "sqlalchemy"))
        assert counts["found_in_use"] == 3
        assert counts["released"] == 3
        last = [row for row in collected.rows("pool_states") if row["pool"].startswith("sqlalchemy")][-1]
        assert (last["in_use"], last["max"]) == (0, 30)


def test_holders_are_looked_at(tmp_path: Path) -> None:
    with (
        running(LIBRARIES, python=with_libraries("3.13")) as target,
        Session.open(target.target) as session,
    ):
        with collecting(COLLECTOR, target, tmp_path, session) as collected:
            ask(target, "keep", "urllib3", 1)
            ask(target, "keep", "async", 1)
            assert eventually(lambda: len(collected.rows("pool_holders")) >= 4, within_s=5)
        looks = {row["pool"].split()[0]: row for row in collected.rows("pool_holders")}
        assert looks["httpcore"]["finished"] is True  # the task that opened the stream has ended
        assert looks["urllib3"]["finished"] is False  # its thread goes on
        assert looks["urllib3"]["active_frames"] < looks["urllib3"]["frames"]
        assert looks["urllib3"]["silent_ns"] >= 0


def test_a_target_that_dies_leaves_what_was_seen(tmp_path: Path) -> None:
    with (
        running(LIBRARIES, python=with_libraries("3.12")) as target,
        Session.open(target.target) as session,
    ):
        with collecting(COLLECTOR, target, tmp_path, session) as collected:
            ask(target, "use", "urllib3", 5)
            assert eventually(lambda: len(events(collected, "urllib3")) >= 10, within_s=5)
            target.process.terminate()
            target.process.wait()
        assert collected.quality["taken"] >= 10
