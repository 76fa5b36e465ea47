"""The lab's processes: handshake, end, and what happens when one of them, or their starter, dies."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from perfkit import scenarios
from perfkit.clock import Clock
from perfkit.lab import LabFailed, Part, RunningLab, lab, to_toml
from perfkit.load.results import decode

READY = "import json, os, sys, time; print(json.dumps({'pid': os.getpid(), 'port': 1}), flush=True); "


def part(code: str, folder: Path) -> Part:
    return Part("toy", [sys.executable, "-c", code], folder)


def wait_until_gone(pid: int, within_s: float = 5.0) -> None:
    """Wait for the end of a process that is not a child of this one."""
    try:
        psutil.Process(pid).wait(within_s)
    except psutil.NoSuchProcess:
        return


def test_a_part_says_that_it_is_ready_under_the_pid_it_keeps(tmp_path: Path) -> None:
    toy = part(READY + "time.sleep(60)", tmp_path)
    assert toy.ready() == {"pid": toy.pid, "port": 1}
    toy.stop()
    assert not toy.is_running()


def test_the_lines_it_said_afterwards_are_kept(tmp_path: Path) -> None:
    toy = part(READY + "print('a'); print('b')", tmp_path)
    toy.ready()
    assert toy.wait(5) == ["a\n", "b\n"]
    assert (tmp_path / "toy.stdout").read_text().endswith("a\nb\n")


@pytest.mark.parametrize(
    ("code", "problem", "last_words"),
    [
        pytest.param("import sys; sys.exit('no such file: x.toml')", "exit code 1 before", "x.toml", id="it-ends"),
        pytest.param("raise RuntimeError('broken')", "exit code 1 before", "RuntimeError: broken", id="it-breaks"),
        pytest.param("print('hello', flush=True)", "said 'hello'", "", id="it-says-something-else"),
        pytest.param("print('[1]', flush=True)", "said '[1]'", "", id="it-says-other-json"),
    ],
)
def test_a_part_that_does_not_start_is_an_error_with_its_last_words(
    tmp_path: Path, code: str, problem: str, last_words: str
) -> None:
    toy = part(code, tmp_path)
    with pytest.raises(LabFailed) as caught:
        toy.ready()
    toy.stop()
    assert problem in str(caught.value)
    assert last_words in caught.value.last_lines
    assert str(tmp_path / "toy.stderr") in caught.value.hint


def test_a_part_that_never_says_it_is_ready_is_given_up(tmp_path: Path) -> None:
    toy = part("import time; time.sleep(60)", tmp_path)
    with pytest.raises(LabFailed, match=r"not ready within 0\.2 s"):
        toy.ready(within_s=0.2)
    toy.stop()


def test_a_part_that_drains_for_ever_is_asked_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfkit.lab._STOP_S", 0.3)
    code = (
        "import signal; asked = []; signal.signal(signal.SIGTERM, lambda *_: asked.append(1)); " + READY + "\n"
        "while len(asked) < 2: time.sleep(0.01)\n"
        "print('hurried')"
    )
    toy = part(code, tmp_path)
    toy.ready()
    assert toy.stop() == ["hurried\n"]


def test_a_part_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfkit.lab._STOP_S", 0.1)
    monkeypatch.setattr("perfkit.lab._HURRY_S", 0.1)
    toy = part("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY + "time.sleep(60)", tmp_path)
    toy.ready()
    toy.stop()
    assert not toy.is_running()


def test_ctrl_c_at_the_terminal_does_not_reach_a_part(tmp_path: Path) -> None:
    toy = part(READY + "time.sleep(60)", tmp_path)
    toy.ready()
    assert os.getpgid(toy.pid) != os.getpgid(0)
    toy.stop()


def test_parts_end_when_their_starter_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from perfkit.lab import Part\n"
        "toy = Part('toy', [sys.executable, '-c', sys.argv[1]], Path(sys.argv[2]))\n"
        "print(toy.ready()['pid'], flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, READY + "time.sleep(60)", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert psutil.pid_exists(pid)
        starter.send_signal(signal.SIGKILL)
    wait_until_gone(pid)
    assert not psutil.pid_exists(pid)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningLab]:
    with lab(scenarios.load("heap_leak_sessions"), tmp_path / "lab") as running:
        yield running


def control(running: RunningLab, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{running.control_port}{path}", timeout=5) as answer:
        return json.load(answer)


def test_the_lab_runs_the_real_proxy_under_load_with_the_fault_planted(running: RunningLab, tmp_path: Path) -> None:
    running.start_load(tmp_path / "load", 30)
    assert running.load_pid is not None
    time.sleep(1.5)
    faults = control(running, "/faults")
    summary = running.stop_load()
    assert summary["statuses"] == {"200": summary["requests"]}
    assert summary["requests"] == pytest.approx(300, abs=120)
    assert faults["left_behind"]["sessions"] == pytest.approx(summary["requests"], rel=0.2)
    tables = decode(tmp_path / "load", Clock.start())
    assert tables["requests"].num_rows == summary["requests"]
    assert set(tables["requests"]["route"].to_pylist()) == {"page", "search", "upload"}


def test_a_second_load_can_follow_the_first_but_not_run_beside_it(running: RunningLab, tmp_path: Path) -> None:
    running.start_load(tmp_path / "one", 30)
    with pytest.raises(LabFailed, match="runs already"):
        running.start_load(tmp_path / "two", 30)
    running.stop_load()
    running.start_load(tmp_path / "two", 0.5)
    assert running.wait_for_load(10)["requests"] > 0


def test_nothing_is_left_when_the_lab_ends(tmp_path: Path) -> None:
    with lab(scenarios.load("healthy"), tmp_path) as running:
        running.start_load(tmp_path / "load", 30)
        assert running.load_pid is not None
        pids = [running.load_pid, running.proxy_pid, running.upstream_pid]
        assert all(map(psutil.pid_exists, pids))
    assert not any(map(psutil.pid_exists, pids))
    assert (tmp_path / "load" / "summary.json").exists(), "the load ended in order, before the proxy"


def test_a_proxy_that_dies_does_not_keep_the_lab_from_ending(tmp_path: Path) -> None:
    with lab(scenarios.load("healthy"), tmp_path) as running:
        running.start_load(tmp_path / "load", 30)
        os.kill(running.proxy_pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while running.is_healthy() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not running.is_healthy()
    errors = set(decode(tmp_path / "load", Clock.start())["requests"]["error"].to_pylist())
    assert errors & {"reset", "connect"}


def test_a_proxy_that_cannot_start_is_an_error_and_the_upstream_is_ended(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text("doc = 'a port that is taken'\n[proxy]\nport = 1\nhost = '192.0.2.1'\n[load]\nrate_per_s = 1\n")
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with (
        pytest.raises(LabFailed, match="the lab's proxy ended with exit code") as caught,
        lab(scenarios.load(own), tmp_path),
    ):
        pass
    assert caught.value.last_lines
    assert {child.pid for child in psutil.Process().children(recursive=True)} == before


def test_a_tree_survives_being_written_as_toml() -> None:
    import tomllib

    tree = {
        "proxy": {"port": 0, "a b": [1, 2.5, 'x"y\\z\u00e9\n']},
        "faults": {"sessions": {"size_bytes": 9}},
        "on": True,
    }
    assert tomllib.loads(to_toml(tree)) == tree
