"""Decoding the readings of /proc, and reading cgroups of both versions from a folder that looks like /proc."""

import json
from pathlib import Path

import pytest

from perfkit.attach.cgroup import MemoryReading, memory_cgroup
from perfkit.clock import Clock
from perfkit.collectors import Raw
from perfkit.collectors.process_stats import COLLECTOR, COLUMNS
from perfkit.symbols import Symbols

SECOND_NS = 1_000_000_000


def folder(path: Path, rows: list[dict[str, int]], *, ended_s: float | None = None, tail: str = "") -> Path:
    """Write readings as the collector does, the clock's zero at 100 s."""
    meta = {"every_ns": SECOND_NS, "began_ns": 100 * SECOND_NS}
    if ended_s is not None:
        meta["ended_ns"] = int((100 + ended_s) * SECOND_NS)
    (path / "meta.json").write_text(json.dumps(meta))
    lines = [",".join(str(row.get(name, "")) for name in COLUMNS) for row in rows]
    (path / "readings.csv").write_text("\n".join([",".join(COLUMNS), *lines]) + "\n" + tail)
    return path


def reading(second: int, **more: int) -> dict[str, int]:
    """One plain reading."""
    plain = {name: 1000 for name in COLUMNS if not name.startswith(("cgroup", "exact", "descriptors"))}
    return plain | {"at_ns": (100 + second) * SECOND_NS} | more


def decode(path: Path, until_s: float) -> dict[str, list[dict[str, object]]]:
    raw = Raw(path, 42, Clock(100 * SECOND_NS, 0), Symbols(), int(until_s * SECOND_NS))
    return {name: table.to_pylist() for name, table in COLLECTOR.decode(raw).items()}


def test_readings_become_rows_of_both_tables(tmp_path: Path) -> None:
    decoded = decode(folder(tmp_path, [reading(0), reading(1, threads=7, cgroup_bytes=5)], ended_s=2), 2)
    assert [row["at_ns"] for row in decoded["process_stats"]] == [0, SECOND_NS]
    assert decoded["process_stats"][1]["threads"] == 7
    assert decoded["process_stats"][1]["descriptors"] is None
    assert decoded["memory_ledger"][1]["cgroup_bytes"] == 5
    assert decoded["memory_ledger"][1]["python_blocks"] is None


def test_what_the_readings_have_that_a_table_knows_is_kept(tmp_path: Path) -> None:
    folder(tmp_path, [reading(0)], ended_s=1)
    header, line = (tmp_path / "readings.csv").read_text().splitlines()
    (tmp_path / "readings.csv").write_text(f"{header},python_blocks,something_new\n{line},123,9\n")
    assert decode(tmp_path, 1)["memory_ledger"][0]["python_blocks"] == 123


@pytest.mark.parametrize(
    ("seconds", "ended_s", "until_s", "lost"),
    [
        pytest.param((0, 1, 2), 3.0, 3.0, 0, id="all-there"),
        pytest.param((0, 2), 3.0, 3.0, 1, id="one-came-too-late"),
        pytest.param((0, 1), 2.2, 10.0, 0, id="target-ended-early"),
        pytest.param((0, 1, 2), None, 2.3, 0, id="recorder-killed"),
        pytest.param((), None, 5.0, 5, id="nothing"),
    ],
)
def test_lost_readings(tmp_path: Path, seconds: tuple[int, ...], ended_s: float, until_s: float, lost: int) -> None:
    [quality] = decode(folder(tmp_path, [reading(s) for s in seconds], ended_s=ended_s), until_s)["recording_quality"]
    assert quality["lost"] == lost
    assert quality["taken"] == len(seconds)


def test_a_line_that_was_being_written_is_left_out(tmp_path: Path) -> None:
    decoded = decode(folder(tmp_path, [reading(0)], tail="101000000000,12"), 1.4)
    assert len(decoded["process_stats"]) == 1


def test_counters_that_disagree_with_the_exact_sum_are_noted(tmp_path: Path) -> None:
    rows = [reading(0, rss_bytes=900, exact_rss_bytes=1000)]
    [quality] = decode(folder(tmp_path, rows, ended_s=1), 1)["recording_quality"]
    assert quality["note"] == "rss_bytes is up to 10% off what smaps_rollup says"


def fake_proc(root: Path, membership: str, mountinfo: str) -> Path:
    """A /proc with one process, 42."""
    for name in ("42", "self"):
        (root / "proc" / name).mkdir(parents=True)
    (root / "proc" / "42" / "cgroup").write_text(membership)
    (root / "proc" / "self" / "mountinfo").write_text(mountinfo)
    return root / "proc"


def test_version_2_takes_the_tightest_limit_above(tmp_path: Path) -> None:
    mount = tmp_path / "cgroup"
    leaf = mount / "pod" / "app"
    leaf.mkdir(parents=True)
    (leaf / "memory.stat").write_text("anon 5\ninactive_file 7\n")
    (leaf / "memory.current").write_text("1000\n")
    (leaf / "memory.max").write_text("max\n")
    (leaf.parent / "memory.max").write_text("4096\n")
    proc = fake_proc(tmp_path, "0::/pod/app\n", f"30 20 0:26 / {mount} rw shared:4 - cgroup2 cgroup2 rw\n")
    group = memory_cgroup(42, proc)
    assert group is not None
    assert group.read() == MemoryReading(1000, 7, 4096)


def test_version_1_in_a_container_starts_at_the_mounts_own_root(tmp_path: Path) -> None:
    mount = tmp_path / "memory"
    mount.mkdir()
    (mount / "memory.stat").write_text("total_inactive_file 3\nhierarchical_memory_limit 9223372036854771712\n")
    (mount / "memory.usage_in_bytes").write_text("50\n")
    mountinfo = f"9 8 0:2 /docker/abc {mount} rw - cgroup cgroup rw,memory\n"
    proc = fake_proc(tmp_path, "5:cpu,cpuacct:/\n4:memory:/docker/abc\n0::/\n", mountinfo)
    group = memory_cgroup(42, proc)
    assert group is not None
    assert group.version == 1
    assert group.read() == MemoryReading(50, 3, None)


def test_no_memory_cgroup_is_no_error(tmp_path: Path) -> None:
    assert memory_cgroup(42, fake_proc(tmp_path, "1:cpu:/\n", "1 2 0:3 / /sys rw - sysfs sysfs rw\n")) is None
    assert memory_cgroup(43, tmp_path / "proc") is None
