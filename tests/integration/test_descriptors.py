"""What real processes have open."""

from pathlib import Path
from typing import Any

import pytest

from perfkit.attach.descriptors import DescriptorKind, open_descriptors
from perfkit.collectors.descriptors import COLLECTOR
from tests.attach_targets import eventually, running, same_version
from tests.collecting import CREW, ask, watching

pytestmark = pytest.mark.attach


def named(kinds: dict[DescriptorKind, int]) -> dict[tuple[str, str | None], int]:
    """Return the counts by kind and name."""
    return {(kind.kind, kind.name): count for kind, count in kinds.items()}


def test_files_sockets_and_the_rest_are_told_apart(tmp_path: Path) -> None:
    with running(CREW, python=same_version()) as target:
        before = open_descriptors(target.target.pid)
        ask(target, "open_files", tmp_path, 5)
        port = ask(target, "open_connections", 4)
        ask(target, "open_others")
        new = open_descriptors(target.target.pid) - before
        folder = tmp_path.name.replace("0", "#")
        assert named(new) == {
            ("file", f"{folder}/part-#.bin"): 5,
            ("file", f"{folder}/tmp#"): 1,
            ("socket", f"tcp at 127.0.0.1:{port}"): 1,
            ("socket", f"tcp to 127.0.0.1:{port}"): 4,
            ("socket", f"tcp accepted at :{port}"): 4,
            ("socket", "unix"): 2,
            ("socket", None): 1,
            ("pipe", None): 2,
            ("eventpoll", None): 1,
            ("memfd", "cache-#"): 1,
        }
        [deleted] = [kind for kind in new if kind.state == "deleted" and kind.kind == "file"]
        assert deleted.name == f"{folder}/tmp#"
        ask(target, "close_accepted")
        waiting = DescriptorKind("socket", f"tcp to 127.0.0.1:{port}", "CLOSE_WAIT")
        assert eventually(lambda: open_descriptors(target.target.pid)[waiting] == 4)


def test_a_leak_of_descriptors_grows_from_reading_to_reading(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "raw").mkdir()
    with running(CREW, python=same_version()) as target:
        with watching(COLLECTOR, target, tmp_path / "raw", every_s=0.05) as collected:

            def files() -> list[dict[str, Any]]:
                return [row for row in collected.rows("descriptors") if row["name"] == "spool/part-#.bin"]

            for number in (3, 6, 9):
                ask(target, "open_files", tmp_path / "spool", 3)
                assert eventually(lambda number=number: [row["descriptors"] for row in files()][-1:] == [number])
        assert collected.quality["taken"] >= 3


def test_a_target_that_dies_leaves_what_was_read(tmp_path: Path) -> None:
    with running(CREW, python=same_version()) as target:
        with watching(COLLECTOR, target, tmp_path, every_s=0.05) as collected:
            assert eventually(lambda: bool(collected.rows("descriptors")))
            target.process.terminate()
            target.process.wait()
        assert collected.quality["taken"] >= 1
