"""Decoding the ledger that was read from inside a process."""

import json
from pathlib import Path
from typing import Any

import pytest

from perfkit.clock import Clock
from perfkit.collectors import Raw
from perfkit.collectors.python_memory import COLLECTOR
from perfkit.probe import ledger
from perfkit.symbols import Symbols
from tests.collecting import FakeProbe

SECOND_NS = 1_000_000_000
START = {"monotonic_ns": 0, "every_s": 1.0, "no_mallinfo": None, "stopped_ns": 5}


def reading(second: float, **more: Any) -> dict[str, Any]:
    plain = {"at": int(second * SECOND_NS), "blocks": 10, "rss": 600, "anon": 400, "file": 150, "shmem": 50}
    return plain | more


def decode(
    folder: Path, *rows: dict[str, Any], cgroup: str | None = None, **more: Any
) -> dict[str, list[dict[str, Any]]]:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "start.json").write_text(json.dumps(START | more.get("start", {})), "utf-8")
    if "end" in more:
        (folder / "end.json").write_text(json.dumps(more["end"]), "utf-8")
    if cgroup is not None:
        (folder / "cgroup.jsonl").write_text(cgroup, "ascii")
    tables = COLLECTOR.decode(Raw(folder, 42, Clock(0, 0), Symbols(), 9 * SECOND_NS))
    return {name: table.to_pylist() for name, table in tables.items()}


def test_readings_become_rows_and_what_is_unknown_stays_null(tmp_path: Path) -> None:
    [first, second] = decode(tmp_path, reading(0), reading(1, in_use=7, retained=8))["memory_ledger"]
    assert (first["glibc_in_use_bytes"], first["glibc_retained_bytes"]) == (None, None)
    assert (second["glibc_in_use_bytes"], second["glibc_retained_bytes"]) == (7, 8)
    assert first["cgroup_limit_bytes"] is None
    assert first["pymalloc_free_bytes"] is None


def test_each_reading_has_the_cgroup_as_it_was_just_before(tmp_path: Path) -> None:
    lines = f"[{SECOND_NS // 2}, 100, 10, 1000]\n[{3 * SECOND_NS // 2}, 200, 20, null]\n[250"
    rows = decode(tmp_path, reading(0), reading(1), reading(2), cgroup=lines)["memory_ledger"]
    assert [row["cgroup_bytes"] for row in rows] == [100, 100, 200]
    assert [row["cgroup_limit_bytes"] for row in rows] == [1000, 1000, None]


@pytest.mark.parametrize(
    ("seconds", "ended_s", "lost"),
    [
        pytest.param((0, 1, 2), 2.9, 0, id="all-there"),
        pytest.param((0, 2), 2.9, 1, id="one-was-missed"),
        pytest.param((0, 1), 1.2, 0, id="ended-before-the-next-was-due"),
    ],
)
def test_readings_that_were_missed_are_counted(
    seconds: tuple[int, ...], ended_s: float, lost: int, tmp_path: Path
) -> None:
    end = {"monotonic_ns": int(ended_s * SECOND_NS), "cost_ns": 12}
    [quality] = decode(tmp_path, *map(reading, seconds), end=end)["recording_quality"]
    assert (quality["taken"], quality["lost"], quality["cost_ns"]) == (len(seconds), lost, 12)


def test_why_the_c_library_was_not_asked_is_said(tmp_path: Path) -> None:
    [quality] = decode(tmp_path, reading(0), start={"no_mallinfo": "it is musl"})["recording_quality"]
    assert "it is musl" in quality["note"]


def test_why_pymalloc_was_not_asked_is_said(tmp_path: Path) -> None:
    [quality] = decode(tmp_path, reading(0), start={"no_arenas": "it cannot be asked"})["recording_quality"]
    assert "arenas are not known: it cannot be asked" in quality["note"]


def test_what_the_interpreter_prints_of_its_arenas_is_read() -> None:
    text = """
# arenas allocated current         =                    2
2 arenas * 1048576 bytes/arena     =            2,097,152

# bytes in allocated blocks        =            1,404,528
# bytes in available blocks        =              303,200
21 unused pools * 16384 bytes      =              344,064
# bytes lost to pool headers       =                5,040
Total                              =            2,097,152
"""
    assert ledger._arena_bytes(text) == (2_097_152, 1_404_528, 303_200 + 344_064)
    assert ledger._arena_bytes("") is None


def test_another_allocator_makes_the_c_librarys_figures_meaningless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_content", lambda _file: b"7f00 r-xp /usr/lib/libjemalloc.so.2\n")
    read, why = ledger._in_c(ledger._mallinfo)
    assert read is None
    assert "another allocator" in str(why)


def test_a_heap_that_takes_long_to_count_is_counted_rarely() -> None:
    calls = []

    def slow() -> tuple[int, int]:
        import time

        calls.append(1)
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            pass
        return 1, 2

    recorder = ledger.Recorder(FakeProbe())
    recorder._mallinfo = slow
    assert "in_use" in recorder._read()
    assert "in_use" not in recorder._read()
    assert len(calls) == 1
