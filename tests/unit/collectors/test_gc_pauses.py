"""Decoding what the probe saw of the collector, and telling a call of gc.collect() from a collection that was due."""

import gc
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from perfkit.clock import Clock
from perfkit.collectors import Raw
from perfkit.collectors.gc_pauses import COLLECTOR, PROBE_FRAME
from perfkit.probe import gc_events
from perfkit.probe.gc_events import Watch
from perfkit.symbols import Symbols
from tests.collecting import FakeProbe

OUR_TID = 99
START: dict[str, Any] = {
    "monotonic_ns": 1_000,
    "unseen": 40,
    "cost_per_collection_ns": 1_500,
    "os_tid": OUR_TID,
    "stopped_ns": 7,
    "counts_per_s": 20.0,
}
END: dict[str, Any] = {"monotonic_ns": 9_000, "seen": 2, "unseen": 40, "lost": 0, "put_back": 0, "cost_ns": 100}


def event(start: int = 2_000, manual: int = 0, stack: int = -1, os_tid: int = 7, candidates: int = -1) -> list[int]:
    return [start, 300, 2, manual, stack, 11, 0, os_tid, candidates, 250]


def decode(
    folder: Path, *rows: dict[str, Any], start: dict[str, Any] | None = START, end: dict[str, Any] | None = END
) -> tuple[dict[str, list[dict[str, Any]]], Symbols]:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, "utf-8")
    for name, content in (("start.json", start), ("end.json", end)):
        if content is not None:
            (folder / name).write_text(json.dumps(content), "utf-8")
    symbols = Symbols()
    tables = COLLECTOR.decode(Raw(folder, 42, Clock(1_000, 0), symbols, 10_000))
    return {name: table.to_pylist() for name, table in tables.items()}, symbols


def test_collections_become_rows_with_their_caller(tmp_path: Path) -> None:
    decoded, symbols = decode(
        tmp_path,
        {
            "events": [*event(2_000, manual=1, stack=0), *event(3_000, candidates=500)],
            "stacks": [[0, ["main", "/srv/app.py", 1, "tidy_up", "/srv/app.py", 9]]],
        },
    )
    by_hand, automatic = decoded["gc_pauses"]
    assert (by_hand["start_ns"], by_hand["pause_ns"], by_hand["generation"]) == (1_000, 300, 2)
    assert by_hand["cpu_ns"] == 250
    assert (by_hand["manual"], automatic["manual"]) == (True, False)
    assert (by_hand["candidates"], automatic["candidates"]) == (None, 500)
    assert automatic["stack_id"] is None
    frames = symbols.tables()["frames"].to_pylist()
    assert [frame["function"] for frame in frames] == ["main", "tidy_up"]


def test_a_collection_in_the_probes_own_thread_says_so(tmp_path: Path) -> None:
    decoded, symbols = decode(tmp_path, {"events": event(manual=1, os_tid=OUR_TID)})
    assert decoded["gc_pauses"][0]["stack_id"] == 0
    assert symbols.place(0)[0] == PROBE_FRAME


@pytest.mark.parametrize(
    ("end", "expected", "lost"),
    [
        pytest.param({**END, "seen": 2}, 2, 0, id="all-there"),
        pytest.param({**END, "seen": 5, "lost": 3}, 5, 3, id="some-were-overwritten"),
        pytest.param({**END, "seen": 2, "unseen": 44}, 6, 4, id="the-callbacks-were-taken-out-for-a-while"),
        pytest.param(None, None, 0, id="the-recorder-was-killed"),
    ],
)
def test_what_is_missing_is_known(end: dict[str, Any] | None, expected: int | None, lost: int, tmp_path: Path) -> None:
    decoded, _symbols = decode(tmp_path, {"events": [*event(), *event(3_000)], "lost": 0, "cost_ns": 100}, end=end)
    [quality] = decoded["recording_quality"]
    assert (quality["expected"], quality["taken"], quality["lost"]) == (expected, 2, lost)
    assert quality["cost_ns"] == 100 + 2 * 1_500
    assert ("not known" in (quality["note"] or "")) == (end is None)


def test_counters_and_settings_become_rows(tmp_path: Path) -> None:
    decoded, _symbols = decode(
        tmp_path,
        {
            "counts": [2_000, 5, 6, 7, -1, 3_000, 1, 2, 3, 400],
            "settings": [[2_500, "gc.thresholds", [700, 10, 10]], [2_600, "gc.callbacks", ["app.seen"]]],
        },
    )
    assert [(row["at_ns"], row["count0"], row["frozen_objects"]) for row in decoded["gc_counts"]] == [
        (1_000, 5, None),
        (2_000, 1, 400),
    ]
    assert [(row["name"], row["value"]) for row in decoded["settings"]] == [
        ("gc.thresholds", "[700, 10, 10]"),
        ("gc.callbacks", '["app.seen"]'),
    ]
    assert "app.seen" in decoded["recording_quality"][0]["note"]


def test_a_folder_in_which_nothing_was_written_is_empty_but_valid(tmp_path: Path) -> None:
    decoded, _symbols = decode(tmp_path, start=None, end=None)
    assert decoded["gc_pauses"] == []
    assert decoded["recording_quality"][0]["taken"] == 0


# The part that runs in the target


@pytest.mark.parametrize(
    ("generation", "counts", "thresholds", "manual"),
    [
        pytest.param(0, (701, 3, 3), (700, 10, 10), 0, id="the-youngest-was-due"),
        pytest.param(0, (12, 3, 3), (700, 10, 10), 1, id="the-youngest-was-not-due"),
        pytest.param(2, (701, 11, 3), (700, 10, 10), 1, id="the-oldest-was-not-due"),
        pytest.param(2, (701, 11, 11), (700, 10, 10), 0, id="the-oldest-was-due"),
        pytest.param(0, (12, 0, 0), (0, 10, 10), 1, id="a-threshold-of-zero-collects-nothing"),
    ],
)
def test_a_collection_is_manual_when_none_was_due(
    generation: int, counts: tuple[int, ...], thresholds: tuple[int, ...], manual: int
) -> None:
    assert gc_events._is_manual(generation, counts, thresholds, None) == manual


def test_a_full_ring_loses_the_oldest_and_counts_them() -> None:
    probe = FakeProbe()
    recorder = gc_events.Recorder(probe)
    recorder._watch = Watch(room=8)
    info = {"generation": 0, "collected": 0, "uncollectable": 0}
    for number in range(20):
        recorder._watch.first("start", info)
        recorder._watch.last("start", info)
        recorder._watch.first("stop", {**info, "collected": number})
        recorder._watch.last("stop", info)
    recorder._drain()
    [row] = probe.rows
    assert row["events"][5 :: gc_events.WIDTH] == [13, 14, 15, 16, 17, 18, 19]
    assert row["lost"] == 13


def test_trouble_in_a_callback_is_counted_and_not_raised() -> None:
    watch = Watch()
    watch.first("start", {})
    assert watch.lost == 1


def test_nothing_of_the_module_stays_in_sys_modules() -> None:
    had = sys.modules.pop("_struct", None)
    try:
        assert gc_events._imported("_struct", "Struct") is not None
        assert "_struct" not in sys.modules
    finally:
        if had is not None:
            sys.modules["_struct"] = had


def test_installing_and_removing_leaves_the_list_as_it_was() -> None:
    before = list(gc.callbacks)
    watch = Watch()
    watch.install()
    assert (gc.callbacks[0], gc.callbacks[-1]) == (watch.first, watch.last)
    gc.collect()
    watch.remove()
    assert list(gc.callbacks) == before
    assert watch.written == 1


@pytest.mark.parametrize(
    "skipped",
    [
        pytest.param(("last", "start"), id="before-it-began"),
        pytest.param(("first", "stop"), id="when-it-ended"),
        pytest.param(("last", "stop"), id="after-it-ended"),
    ],
)
def test_a_function_that_was_cut_short_by_ctrl_c_is_noticed(skipped: tuple[str, str]) -> None:
    watch = Watch()
    info = {"generation": 1, "collected": 0, "uncollectable": 0}
    for number in range(2):
        for name, phase in (("first", "start"), ("last", "start"), ("first", "stop"), ("last", "stop")):
            if number or (name, phase) != skipped:
                getattr(watch, name)(phase, info)
    assert watch.cut_short
    assert watch.written == (2 if skipped == ("last", "stop") else 1)


def test_callbacks_that_are_put_in_place_during_a_collection_blame_nobody() -> None:
    watch = Watch()
    info = {"generation": 0, "collected": 0, "uncollectable": 0}
    watch.last("stop", info)
    watch.last("start", info)
    watch.first("stop", info)
    watch.last("stop", info)
    assert not watch.cut_short
    assert watch.written == 0
