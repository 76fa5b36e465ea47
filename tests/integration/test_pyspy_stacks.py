"""CPU sampling of real processes, on every interpreter that is installed here."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from perfkit.attach import pyspy
from perfkit.attach.target import inspect
from perfkit.clock import Clock
from perfkit.collectors import Raw, Recording, collectors
from perfkit.collectors.pyspy_stacks import COLLECTOR
from perfkit.errors import UsageError
from perfkit.profile import write_table
from perfkit.symbols import Symbols
from perfkit.tables import CPU_SAMPLES

TARGETS = Path(__file__).parents[1] / "targets" / "cpu"
VERSIONS = Path.home() / ".pyenv" / "versions"
pytestmark = [pytest.mark.attach, pytest.mark.quiet, pytest.mark.timeout(60)]


def interpreter(minor: str) -> str:
    found = sorted(VERSIONS.glob(f"{minor}.*/bin/python"))
    if not found:
        pytest.skip(f"no Python {minor} in {VERSIONS}")
    return str(found[-1])


@contextmanager
def running(script: str, *arguments: str, python: str = sys.executable) -> Iterator[subprocess.Popen[str]]:
    """Yield a target program that has said that it is ready."""
    command = [python, str(TARGETS / script), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


class Recorded:
    """What was recorded of one process, decoded."""

    def __init__(self, pid: int, raw: Path, clock: Clock, until_ns: int) -> None:
        symbols = Symbols()
        tables = COLLECTOR.decode(Raw(raw, pid, clock, symbols, until_ns))
        self.table = tables["cpu_samples"]
        [self.quality] = tables["recording_quality"].to_pylist()
        dictionaries = symbols.tables()
        self.threads = dictionaries["threads"].to_pandas()
        self.names = set(dictionaries["frames"]["function"].to_pylist())
        leaves = dictionaries["stacks"].to_pandas()[["stack_id", "frame_ids"]]
        functions = dictionaries["frames"]["function"].to_pylist()
        leaves["functions"] = [{functions[i] for i in ids} for ids in leaves.pop("frame_ids")]
        self.samples = self.table.to_pandas().merge(leaves, on="stack_id").merge(self.threads, on="thread_id")

    def share(self, function: str) -> float:
        """Return the part of all time in which a function was on the stack."""
        inside = self.samples["functions"].map(lambda names: function in names)
        return float(self.samples["weight_ns"][inside].sum() / self.samples["weight_ns"].sum())

    def active_share(self, thread: str) -> float:
        """Return the part of its time in which a thread was running."""
        mine = self.samples[self.samples["name"] == thread]
        return float((mine["active"] == True).mean())  # noqa: E712 - NULL is not active


def record(process: subprocess.Popen[str], raw: Path, seconds: float, *, then: str = "", **options: Any) -> Recorded:
    """Record a process for some seconds; `then` is written to it halfway."""
    raw.mkdir(parents=True, exist_ok=True)
    clock = Clock.start()

    def no_session() -> None:
        raise AssertionError("this collector never injects")

    recording = Recording(inspect(process.pid), raw, clock, no_session, print, seconds, options)  # type: ignore[arg-type]
    with COLLECTOR.record(recording):
        time.sleep(seconds / 2)
        if then:
            assert process.stdin is not None
            process.stdin.write(then)
            process.stdin.flush()
            process.wait(5)
        time.sleep(seconds / 2)
        until_ns = clock.now_ns()
    return Recorded(process.pid, raw, clock, until_ns)


@pytest.mark.parametrize("minor", ["3.10", "3.11", "3.12", "3.13"])
def test_a_known_split_of_the_cpu_comes_out(minor: str, tmp_path: Path) -> None:
    with running("split.py", python=interpreter(minor)) as process:
        before = psutil.Process(process.pid).cpu_times()
        recorded = record(process, tmp_path, 3.0)
        after = psutil.Process(process.pid).cpu_times()
    assert recorded.share("heavy") == pytest.approx(0.7, abs=0.08)
    assert recorded.share("light") == pytest.approx(0.3, abs=0.08)
    used_s = after.user - before.user + after.system - before.system
    active_s = recorded.samples["weight_ns"][recorded.samples["active"] == True].sum() / 1e9  # noqa: E712
    assert active_s == pytest.approx(used_s, rel=0.15), "active is what the kernel counted, however busy the machine"
    known = recorded.samples["has_gil"].dropna()
    assert len(known) > 0
    assert known.mean() > 0.7, "the only thread there is holds the GIL"
    assert recorded.quality["lost"] <= 0.05 * recorded.quality["expected"]


@pytest.mark.parametrize("minor", ["3.10", "3.11", "3.12", "3.13"])
def test_a_process_that_is_mostly_idle_is_shown_as_idle(minor: str, tmp_path: Path) -> None:
    with running("mostly_idle.py", "two", python=interpreter(minor)) as process:
        recorded = record(process, tmp_path, 4.0)
    assert set(recorded.threads["name"]) == {"MainThread", 'side "quoted"; {x}'}
    assert recorded.threads["os_tid"].notna().all(), "CPU time belongs to threads of the operating system"
    for thread in recorded.threads["name"]:
        assert recorded.active_share(thread) == pytest.approx(0.1, abs=0.05), thread
    active = recorded.samples[recorded.samples["active"] == True]  # noqa: E712
    working = active["functions"].map(lambda names: "work" in names)
    assert working.mean() > 0.3, "what is active is where the work is done; a tick of 10 ms may be told one place off"


def test_windows_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    with running("split.py") as process:
        recorded = record(process, tmp_path, 4.0, window_s=1.0)
    assert len(list(tmp_path.glob("window-*.json"))) >= 2 * 3
    steps = recorded.samples["tick_ns"].drop_duplicates().sort_values().diff().dropna()
    gap_share = 1 - len(recorded.samples) * 0.01 / ((recorded.table["tick_ns"][-1].as_py() + 10_000_000) / 1e9)
    print(f"share of the time in no window: {gap_share:.4f}; longest gap {steps.max() / 1e6:.0f} ms")
    assert gap_share < 0.03
    assert (steps >= 10_000_000).all(), "the overlap of two windows is counted once"


def test_a_target_that_ends_in_the_middle_leaves_what_was_seen(tmp_path: Path) -> None:
    with running("ends_when_told.py") as process:
        recorded = record(process, tmp_path, 3.0, then="end\n")
    seen_s = recorded.samples["weight_ns"][recorded.samples["name"] == "MainThread"].sum() / 1e9
    assert seen_s == pytest.approx(1.5, abs=0.5)
    assert recorded.quality["lost"] <= 0.1 * recorded.quality["expected"], "nothing is lost of a process that is gone"
    assert "the process ended" in recorded.quality["note"]


def test_a_window_that_outlives_its_recorder_writes_its_file(tmp_path: Path) -> None:
    with running("split.py") as process:
        code = (
            "import sys, os, signal; from pathlib import Path; from perfkit.attach.pyspy import Window\n"
            f"window = Window({process.pid}, Path({str(tmp_path)!r}), 0, rate_hz=50, bound_s=2)\n"
            "assert window.wait_until_sampling()\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        clock = Clock.start()
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
        deadline = time.monotonic() + 15
        while not (tmp_path / "window-000.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.2)
        recorded = Recorded(process.pid, tmp_path, clock, clock.now_ns())
        assert process.poll() is None
    assert recorded.share("heavy") == pytest.approx(0.7, abs=0.15)
    assert recorded.samples["active"].isna().all(), "nobody read the CPU time: unknown, not idle"


@pytest.mark.parametrize("options", [{"rate_hz": 0}, {"rate_hz": 100_000}, {"window_s": 0}], ids=str)
def test_options_that_make_no_sense_are_refused_before_anything_is_touched(
    options: dict[str, float], tmp_path: Path
) -> None:
    with running("split.py") as process, pytest.raises(UsageError) as refusal:
        record(process, tmp_path, 0.0, then="", **options)
    assert refusal.value.hint
    assert not list(tmp_path.iterdir())


def test_py_spy_that_cannot_attach_says_why(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "30"]) as process:
        try:
            window = pyspy.Window(process.pid, tmp_path, 0, rate_hz=10, bound_s=1)
            assert not window.wait_until_sampling()
            window.stop()
            assert str(process.pid) in str(window.failure())
            assert window.failure().said
        finally:
            process.kill()


def test_three_bytes_per_sample_are_enough(tmp_path: Path) -> None:
    with running("mostly_idle.py", "two") as process:
        recorded = record(process, tmp_path / "raw", 4.0)
    file = tmp_path / "cpu_samples.parquet"
    write_table(CPU_SAMPLES, recorded.table, file)
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file)
    stored = sum(
        metadata.row_group(group).column(column).total_compressed_size
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    )
    print(f"{stored / recorded.table.num_rows:.2f} bytes per sample, {recorded.table.num_rows} samples")
    assert stored / recorded.table.num_rows <= 3


def test_the_collector_is_found_by_its_file() -> None:
    assert collectors()["pyspy_stacks"] == COLLECTOR
    assert os.access(pyspy.binary() or "", os.X_OK)
