"""The memory of real processes, read from inside, against what they allocated."""

from pathlib import Path
from typing import Any

import pytest

from perfkit.attach.session import Session
from perfkit.collectors.python_memory import COLLECTOR
from tests.attach_targets import eventually, every_version, interpreter, running, same_version
from tests.collecting import GARBAGE, ask, collecting

pytestmark = pytest.mark.attach

MIB = 1 << 20


def whole(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the readings with all parts: on a busy machine malloc is asked less often."""
    return [row for row in rows if row["glibc_in_use_bytes"] is not None]


@every_version
def test_what_is_allocated_shows_in_the_part_it_belongs_to(version: str, tmp_path: Path) -> None:
    with running(GARBAGE, python=interpreter(version)) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session, every_s=0.05) as collected:
            assert eventually(lambda: bool(whole(collected.rows("memory_ledger"))))
            ask(target, "hold", 20 * MIB)
            held = ask(target, "blocks")
            ask(target, "hold_natively", 30 * MIB)
            readings = len(collected.rows("memory_ledger"))
            assert eventually(lambda: bool(whole(collected.rows("memory_ledger")[readings + 1 :])))
        rows = collected.rows("memory_ledger")
        first, last = whole(rows)[0], whole(rows)[-1]
        assert last["python_blocks"] == pytest.approx(held["blocks"], rel=0.02)
        # Blocks of more than 512 bytes are not pymalloc's.
        assert last["glibc_in_use_bytes"] - first["glibc_in_use_bytes"] == pytest.approx(50 * MIB, rel=0.1)
        assert last["rss_bytes"] - first["rss_bytes"] == pytest.approx(50 * MIB, rel=0.15)
        for row in rows:
            parts = row["anon_bytes"] + row["file_bytes"] + row["shmem_bytes"]
            assert row["rss_bytes"] == pytest.approx(parts, rel=0.01)
            if row["pymalloc_arena_bytes"] is not None:
                assert row["pymalloc_in_use_bytes"] + row["pymalloc_free_bytes"] <= row["pymalloc_arena_bytes"]


@every_version
def test_blocks_that_are_freed_stay_in_the_arenas_of_those_that_are_kept(version: str, tmp_path: Path) -> None:
    with (
        running(GARBAGE, python=interpreter(version)) as target,
        Session.open(target.target) as session,
        collecting(COLLECTOR, target, tmp_path, session, every_s=0.05) as collected,
    ):

        def now() -> dict[str, Any]:
            began_ns = collected.clock.now_ns()
            rows: list[dict[str, Any]] = []

            def is_there() -> bool:
                rows[:] = [
                    row
                    for row in collected.rows("memory_ledger")
                    if row["at_ns"] > began_ns and row["pymalloc_arena_bytes"] is not None
                ]
                return bool(rows)

            assert eventually(is_there, within_s=10)
            return rows[-1]

        first = now()
        ask(target, "hold_small", 30 * MIB)
        held = now()
        ask(target, "keep_one_in", 100)
        thinned = now()
    assert held["pymalloc_in_use_bytes"] - first["pymalloc_in_use_bytes"] == pytest.approx(30 * MIB, rel=0.05)
    assert held["pymalloc_arena_bytes"] - first["pymalloc_arena_bytes"] == pytest.approx(30 * MIB, rel=0.1)
    assert thinned["pymalloc_free_bytes"] - held["pymalloc_free_bytes"] == pytest.approx(30 * MIB, rel=0.15)
    assert thinned["pymalloc_arena_bytes"] > 0.9 * held["pymalloc_arena_bytes"]


@pytest.mark.parametrize("allocator", ["malloc", "pymalloc_debug"])
def test_interpreters_with_other_allocators_are_safe_to_ask(
    allocator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONMALLOC", allocator)
    with running(GARBAGE, python=same_version()) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session, every_s=0.05) as collected:
            assert eventually(lambda: len(collected.rows("memory_ledger")) >= 3)
        rows = collected.rows("memory_ledger")
    assert all((row["pymalloc_arena_bytes"] is None) == (allocator == "malloc") for row in rows)


def test_every_reading_is_there_and_cost_next_to_nothing(tmp_path: Path) -> None:
    with running(GARBAGE, python=same_version()) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session, every_s=0.05) as collected:
            assert eventually(lambda: len(collected.rows("memory_ledger")) >= 20, within_s=5)
        quality = collected.quality
        assert quality["lost"] <= 2
        assert 0 < quality["cost_ns"] / quality["taken"] < 1_000_000


@every_version
def test_it_leaves_nothing_behind_and_ctypes_works_as_before(version: str, tmp_path: Path) -> None:
    with running(GARBAGE, python=interpreter(version)) as target, Session.open(target.target) as session:
        session.start("echo")
        before = ask(target, "look")
        assert "_ctypes" not in before["modules"]
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            with collecting(COLLECTOR, target, folder, session, every_s=0.05) as collected:
                assert eventually(lambda: bool(collected.rows("memory_ledger")))
        assert ask(target, "look") == before
        assert ask(target, "load_ctypes")
        folder = tmp_path / "again"
        folder.mkdir()
        with collecting(COLLECTOR, target, folder, session, every_s=0.05) as collected:
            assert eventually(lambda: bool(collected.rows("memory_ledger")))
        assert collected.rows("memory_ledger")[0]["glibc_in_use_bytes"] > 0
        assert ask(target, "load_ctypes")


def test_a_target_that_dies_leaves_what_was_read(tmp_path: Path) -> None:
    with running(GARBAGE, python=same_version()) as target, Session.open(target.target) as session:
        with collecting(COLLECTOR, target, tmp_path, session, every_s=0.05) as collected:
            assert eventually(lambda: len(collected.rows("memory_ledger")) >= 3)
            target.process.terminate()
            target.process.wait()
        assert collected.quality["taken"] >= 3
