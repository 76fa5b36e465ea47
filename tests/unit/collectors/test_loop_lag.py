"""Decoding the answers of event loops, and asking one."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perfkit.clock import Clock
from perfkit.collectors import Raw
from perfkit.collectors.loop_lag import COLLECTOR
from perfkit.probe.loop_lag import Recorder, Watched
from perfkit.symbols import Symbols
from tests.collecting import FakeProbe


def decode(folder: Path, *rows: dict[str, Any], end: dict[str, Any] | None = None) -> dict[str, list[dict[str, Any]]]:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "start.json").write_text(json.dumps({"monotonic_ns": 0, "stopped_ns": 0, "loops": 1}), "utf-8")
    if end is not None:
        (folder / "end.json").write_text(json.dumps(end), "utf-8")
    tables = COLLECTOR.decode(Raw(folder, 42, Clock(0, 0), Symbols(), 1_000))
    return {name: table.to_pylist() for name, table in tables.items()}


def test_answers_become_rows_of_their_loop(tmp_path: Path) -> None:
    decoded = decode(
        tmp_path,
        {"loops": [[0, "uvloop.Loop"]], "answers": [0, 100, 7]},
        {"loops": [[1, "app.Loop"]], "answers": [1, 200, 8, 0, 300, 9]},
    )
    assert [(row["at_ns"], row["lag_ns"], row["loop"]) for row in decoded["loop_lag"]] == [
        (100, 7, "uvloop.Loop"),
        (200, 8, "app.Loop"),
        (300, 9, "uvloop.Loop"),
    ]


def test_a_loop_that_never_answered_is_mentioned(tmp_path: Path) -> None:
    rows = {"loops": [[0, "uvloop.Loop"]], "answers": [0, 100, 7]}
    [quality] = decode(tmp_path, rows, end={"monotonic_ns": 500, "unanswered": 1, "cost_ns": 3})["recording_quality"]
    assert "had not answered" in quality["note"]
    assert (quality["taken"], quality["until_ns"], quality["cost_ns"]) == (1, 500, 3)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_a_callback_that_is_taken_back_is_not_run(loop: asyncio.AbstractEventLoop) -> None:
    watched = Watched(loop, 0)
    assert watched.ask(loop)
    watched.take_back()
    loop.run_until_complete(asyncio.sleep(0))
    assert watched.answer_ns() is None


def test_a_closed_loop_is_not_asked(loop: asyncio.AbstractEventLoop) -> None:
    loop.close()
    assert not Watched(loop, 0).ask(loop)


def test_a_loop_is_not_asked_twice_and_its_stop_is_no_lag(loop: asyncio.AbstractEventLoop) -> None:
    recorder = Recorder(FakeProbe())
    watched = Watched(loop, 0)
    recorder._watched = [watched]
    thread, runs = threading.Thread(target=loop.run_forever), threading.Event()
    loop.call_soon(runs.set)
    thread.start()
    runs.wait()
    recorder._ask(watched)
    assert watched.asked_ns
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    recorder._ask(watched)  # its answer had come before the stop
    assert len(recorder._answers) == 3
    recorder._ask(watched)  # it does not run: nothing is asked
    assert not watched.asked_ns
