"""Figures of real processes, compared with what psutil and the kernel say."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from perfkit.attach.target import inspect
from perfkit.clock import Clock
from perfkit.collectors import Raw, Recording
from perfkit.collectors.process_stats import COLLECTOR, Readings
from perfkit.symbols import Symbols

pytestmark = [pytest.mark.attach, pytest.mark.timeout(60)]
ANSWERS = """
import sys, threading
kept = bytearray(int(sys.argv[1])); kept[::4096] = b"x" * len(kept[::4096])
files = [open("/dev/null") for _ in range(int(sys.argv[2]))]
threads = [threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(int(sys.argv[3]))]
for thread in threads: thread.start()
print("ready", flush=True)
sys.stdin.readline()
"""


@contextmanager
def running(size_bytes: int = 0, files: int = 0, threads: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that holds so much; it ends when a line is written to it, or its input closed."""
    command = [sys.executable, "-c", ANSWERS, str(size_bytes), str(files), str(threads)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


@contextmanager
def recording(process: subprocess.Popen[str], raw: Path, clock: Clock, every_s: float = 0.1) -> Iterator[None]:
    """Record a process while the context is open."""

    def no_session() -> None:
        raise AssertionError("this collector never injects")

    settings = Recording(inspect(process.pid), raw, clock, no_session, print, 1.0, {"every_s": every_s})  # type: ignore[arg-type]
    with COLLECTOR.record(settings):
        yield


def wait_for_rows(raw: Path, count: int) -> None:
    """Wait until so many readings are on disk: each is flushed at once."""
    file = raw / "readings.csv"
    deadline = time.monotonic() + 10
    while not file.exists() or len(file.read_text().splitlines()) <= count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_reading_says_what_psutil_says() -> None:
    with running(size_bytes=32 << 20, files=7, threads=3) as process:
        row = Readings(process.pid).read(exact=True)
        told = psutil.Process(process.pid)
        assert row["threads"] == told.num_threads() == 4
        assert row["descriptors"] == told.num_fds() >= 10
        assert row["rss_bytes"] == pytest.approx(told.memory_info().rss, rel=0.05)
        assert row["exact_rss_bytes"] == pytest.approx(row["rss_bytes"], rel=0.05)
        assert row["anon_bytes"] is not None
        assert row["anon_bytes"] > 32 << 20
        assert row["rss_bytes"] == row["anon_bytes"] + row["file_bytes"] + row["shmem_bytes"]  # type: ignore[operator]
        assert row["cpu_user_ns"] == pytest.approx(told.cpu_times().user * 1e9, abs=3e7)
        switches = told.num_ctx_switches()
        assert row["voluntary_switches"] is not None
        assert row["voluntary_switches"] >= switches.voluntary, "all threads, not the main one alone"


def test_memory_that_is_taken_shows_up_in_bytes() -> None:
    size_bytes = 64 << 20
    with running() as small, running(size_bytes=size_bytes) as large:
        anon = [Readings(process.pid).read()["anon_bytes"] for process in (small, large)]
    assert anon[1] - anon[0] == pytest.approx(size_bytes, rel=0.02)  # type: ignore[operator]


def test_readings_keep_their_schedule(tmp_path: Path) -> None:
    clock = Clock.start()
    with running() as process:
        with recording(process, tmp_path, clock):
            wait_for_rows(tmp_path, 12)
            until_ns = clock.now_ns()
        tables = COLLECTOR.decode(Raw(tmp_path, process.pid, clock, Symbols(), until_ns))
    at_ns = tables["process_stats"]["at_ns"].to_pylist()
    late_ns = [(at - at_ns[0]) % 100_000_000 for at in at_ns[1:]]
    assert sorted(min(late, 100_000_000 - late) for late in late_ns)[len(late_ns) // 2] < 10_000_000, "no drift"
    [quality] = tables["recording_quality"].to_pylist()
    assert quality["taken"] == len(at_ns)
    assert quality["taken"] + quality["lost"] == quality["expected"]


def test_a_target_that_ends_is_noted_and_ends_the_readings(tmp_path: Path) -> None:
    clock = Clock.start()
    with running() as process, recording(process, tmp_path, clock):
        wait_for_rows(tmp_path, 3)
        assert process.stdin is not None
        process.stdin.write("end\n")
        process.stdin.flush()
        process.wait(5)
        rows = len((tmp_path / "readings.csv").read_text().splitlines())
        time.sleep(0.5)
        assert len((tmp_path / "readings.csv").read_text().splitlines()) <= rows + 1
    tables = COLLECTOR.decode(Raw(tmp_path, process.pid, clock, Symbols(), clock.now_ns()))
    [quality] = tables["recording_quality"].to_pylist()
    assert quality["note"] == "the process ended"
    assert quality["lost"] <= 1


def test_a_recorder_that_is_killed_leaves_whole_lines(tmp_path: Path) -> None:
    with running() as process:
        code = (
            "import sys, time; from pathlib import Path; from perfkit.attach.target import inspect\n"
            "from perfkit.clock import Clock; from perfkit.collectors import Recording\n"
            "from perfkit.collectors.process_stats import COLLECTOR\n"
            f"recording = Recording(inspect({process.pid}), Path({str(tmp_path)!r}), Clock.start(), None, print, 9,"
            " {'every_s': 0.02})\n"
            "with COLLECTOR.record(recording): print('on', flush=True); time.sleep(60)\n"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as recorder:
            assert recorder.stdout is not None
            recorder.stdout.readline()
            wait_for_rows(tmp_path, 10)
            os.kill(recorder.pid, signal.SIGKILL)
        with (tmp_path / "readings.csv").open(newline="") as lines:
            last_ns = int(list(csv.reader(lines))[10][0])
        tables = COLLECTOR.decode(Raw(tmp_path, process.pid, Clock(0, 0), Symbols(), last_ns))
        assert process.poll() is None
    assert tables["process_stats"].num_rows == 10
    assert tables["memory_ledger"]["python_blocks"].null_count == 10


def test_a_process_that_is_gone_is_a_problem_said_in_advance() -> None:
    with running() as process:
        target = inspect(process.pid)
        assert COLLECTOR.problem(target) is None
    assert COLLECTOR.problem(target) is not None
