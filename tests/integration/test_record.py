"""Recording real processes through the command line, as a user would."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest

from perfkit.decode import open_profile
from perfkit.profile import Profile
from tests.attach_targets import every_version, interpreter

TARGETS = Path(__file__).parents[1] / "targets"
MEMRAY_KEEPS = 2
"""Descriptors of the pipe that the unwinder in memray's library opens once and never closes."""
pytestmark = [pytest.mark.attach, pytest.mark.timeout(120)]


@contextmanager
def started(*command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a process and its first line of output; it ends when its input is closed."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline()
        finally:
            assert process.stdin is not None
            process.stdin.close()
            if process.poll() is None and "http.server" in command:
                process.terminate()


@contextmanager
def requests(url: str, per_s: float = 100.0) -> Iterator[None]:
    """Send requests to `url` (with {n} numbered) while the context is open."""
    stop = threading.Event()

    def send() -> None:
        n = 0
        while not stop.wait(1 / per_s):
            n += 1
            with urlopen(url.format(n=n), timeout=10) as answer:
                answer.read()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def perfkit(*arguments: str, code: int = 0) -> str:
    """Run the command line in a process of its own; return its standard output."""
    done = subprocess.run([sys.executable, "-m", "perfkit", *arguments], capture_output=True, text=True, timeout=100)
    assert done.returncode == code, done.stderr
    return done.stdout


def state(pid: int) -> dict[str, Any]:
    """Return what a tracer could have left behind in a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "TracerPid": status["TracerPid"].strip(),
        "threads": status["Threads"].strip(),
        "descriptors": sorted(os.listdir(f"/proc/{pid}/fd")),
        "signals": (status["SigCgt"], status["SigIgn"]),
    }


def assert_untouched(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Fail if something was left in a process."""
    assert (after["TracerPid"], after["signals"]) == ("0", before["signals"])
    assert int(after["threads"]) <= int(before["threads"]), "a thread of one request may have been seen before"
    assert len(after["descriptors"]) <= len(before["descriptors"]) + MEMRAY_KEEPS


def settled(pid: int, wanted: dict[str, Any], within_s: float) -> dict[str, Any]:
    """Return the state of a process once it is as wanted, or what it is when the time is up."""
    deadline = time.monotonic() + within_s
    while (now := state(pid)) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return now


def test_a_program_perfkit_knows_nothing_about(tmp_path: Path) -> None:
    command = (sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0", "-d", str(tmp_path))
    with started(*command) as (server, line):
        url = line[line.index("(") + 1 : line.index(")")]
        with urlopen(url.format(n=0), timeout=5):
            before = state(server.pid)
        with requests(url):
            perfkit("record", "--pid", str(server.pid), "--duration", "12s", "-o", str(tmp_path / "x"), "-q")
        after = settled(server.pid, before, within_s=2)
        assert_untouched(before, after)
        findings = json.loads(perfkit("check", str(tmp_path / "x"), "--json"))["findings"]
    profile = Profile(tmp_path / "x")
    assert profile.manifest.complete, profile.manifest.missing
    assert {finding["rule"] for finding in findings} >= {"memory_growth", "lossy_recording"}
    assert not [finding for finding in findings if finding["verdict"] == "fail"]
    functions = set(profile.sql("select distinct function from cpu_samples join stack_frames using (stack_id) "
                                "join frames using (frame_id)").function)  # fmt: skip
    assert any(function.endswith("serve_forever") for function in functions)
    assert profile.table("process_stats").num_rows >= 10
    assert profile.table("heap_survival").num_rows > 0
    assert profile.table("object_census").num_rows > 0


@pytest.mark.recording
def test_the_leak_of_a_foreign_service_is_named(tmp_path: Path) -> None:
    with started(sys.executable, str(TARGETS / "web_app.py")) as (server, line):
        url = f"http://127.0.0.1:{json.loads(line)['port']}/search?visitor={{n}}&q=shoes"
        with requests(url, per_s=300):
            perfkit("record", "--pid", str(server.pid), "--duration", "30s", "-o", str(tmp_path / "x"), "-q")
        found = json.loads(perfkit("check", str(tmp_path / "x"), "--json", "--rule", "memory_growth", code=1))
    [finding] = found["findings"]
    assert finding["class"] == "python_leak"
    assert finding["site"]["function"] in {"search", "remember"}
    assert finding["site"]["file"].endswith("web_app.py")
    assert "VISITORS" in finding["retainer"]


def test_the_target_outlives_a_recorder_that_is_killed(tmp_path: Path) -> None:
    with started(sys.executable, str(TARGETS / "web_app.py")) as (server, line):
        url = f"http://127.0.0.1:{json.loads(line)['port']}/search?visitor={{n}}&q=shoes"
        with urlopen(url.format(n=0), timeout=5):
            before = state(server.pid)
        with requests(url):
            recorder = subprocess.Popen(
                [sys.executable, "-m", "perfkit", "record", "--pid", str(server.pid), "-d", "60", "-q",
                 "-o", str(tmp_path / "x")]
            )  # fmt: skip
            deadline = time.monotonic() + 60
            while not list((tmp_path / "x").glob("raw/pyspy_stacks/*/window-001.meta.json")):
                assert recorder.poll() is None
                assert time.monotonic() < deadline, "the second window never came"
                time.sleep(0.1)
            recorder.send_signal(signal.SIGKILL)
            recorder.wait()
            time.sleep(1)
            with urlopen(url.format(n=1), timeout=5) as answer:
                assert json.loads(answer.read()) == {"results": 10}
        after = settled(server.pid, before, within_s=2)
        assert_untouched(before, after)
        assert server.poll() is None
    profile = open_profile(tmp_path / "x")
    assert not profile.manifest.complete
    assert "the recorder was killed" in " ".join(profile.manifest.missing)
    for table in ("process_stats", "cpu_samples", "heap_survival", "object_census"):
        assert profile.table(table).num_rows > 0, table


def test_workers_of_a_process_tree_are_recorded_each(tmp_path: Path) -> None:
    with started(sys.executable, str(TARGETS / "prefork.py")) as (master, _):
        workers = {child.pid for child in psutil.Process(master.pid).children()}
        perfkit(
            "record", "--pid", str(master.pid), "--children", "--collect", "cpu,process", "-d", "5", "-q",
            "-o", str(tmp_path / "x"),
        )  # fmt: skip
    profile = Profile(tmp_path / "x")
    assert set(profile.pids) == {master.pid, *workers}
    busy = profile.sql(
        "select pid, count(*) as samples from cpu_samples join threads using (thread_id) "
        "join stack_frames using (stack_id) join frames using (frame_id) "
        "where function = 'work' and is_first group by pid"
    )
    assert set(busy.pid) == workers
    assert busy.samples.min() > 200


def refused(pid: int, folder: Path) -> str:
    """Return what `perfkit record` says of a process that it refuses."""
    done = subprocess.run(
        [sys.executable, "-m", "perfkit", "record", "--pid", str(pid), "-o", str(folder)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    assert len(done.stderr.strip().splitlines()) == 2, "one sentence and one remedy"
    assert not folder.exists()
    return done.stderr


@every_version
def test_a_target_of_any_version_outlives_both_snapshots_of_its_heap(version: str, tmp_path: Path) -> None:
    """The recorder's own generators are closed before the second one, like those of this target were."""
    program = str(TARGETS / "heap" / "closed_generators.py")
    with started(str(interpreter(version)), program) as (process, _ready):
        perfkit(
            "record",
            "--pid",
            str(process.pid),
            "-d",
            "3s",
            "--collect",
            "objects,gc,process",
            "-o",
            str(tmp_path / "p"),
        )
        assert process.poll() is None
    assert Profile(tmp_path / "p").manifest.rows["heap_snapshots"] == 2


def test_a_process_id_that_nobody_has_is_refused(tmp_path: Path) -> None:
    assert "no process" in refused(2**22 - 7, tmp_path / "x")


def test_a_process_that_is_not_python_is_refused(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            assert "Python" in refused(other.pid, tmp_path / "x")
        finally:
            other.terminate()


def test_a_launched_command_is_recorded(tmp_path: Path) -> None:
    out = tmp_path / "x"
    code = "import time; end = time.monotonic() + 5\nwhile time.monotonic() < end: sum(range(9999))"
    perfkit("record", "-o", str(out), "-q", "--", sys.executable, "-c", code)
    profile = Profile(out)
    assert profile.table("cpu_samples").num_rows > 200
    assert profile.table("heap_usage").num_rows > 0
    assert profile.manifest.complete, "it was recorded until it ended"
    assert 4 <= profile.duration_s < 17


def test_a_program_that_never_used_threads_still_ends_by_itself(tmp_path: Path) -> None:
    code = "import sys, time; assert 'threading' not in sys.modules; print('ready', flush=True); sys.stdin.read()"
    with started(sys.executable, "-S", "-c", code) as (program, line):
        assert line == "ready\n"
        perfkit("record", "--pid", str(program.pid), "-d", "3", "-q", "-o", str(tmp_path / "x"))
        assert program.stdin is not None
        program.stdin.close()
        assert program.wait(timeout=5) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_full_disk_ends_with_a_sentence_and_what_was_saved_can_be_read_later(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    record = f"{sys.executable} -m perfkit record --pid $0 -d 3 -q -o {disk}/x"
    idle = "import sys; print('ready', flush=True); sys.stdin.read()"
    with started(sys.executable, "-c", idle) as (target, _):
        command = f"mount -t tmpfs -o size=200k none {disk} && {record}; echo $? >&2; cp -r {disk}/x {tmp_path}/saved"
        shell = ["unshare", "-m", "sh", "-c", command, str(target.pid)]
        said = subprocess.run(shell, capture_output=True, text=True, check=True).stderr
        assert target.poll() is None
    assert "Traceback" not in said
    assert "No space left on device" in said
    assert said.splitlines()[-1] in ("2", "3")
    assert not open_profile(tmp_path / "saved").manifest.complete
