"""What a session promises while it is open, when the target goes, and for targets that invite it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perfkit.attach.errors import ProbeFailed, ProbeSilent, TargetGone
from perfkit.attach.launch import CommandFailed, launch
from perfkit.attach.session import Session
from perfkit.attach.target import inspect, is_suspended
from perfkit.errors import CannotRecord
from tests.attach_targets import PROGRAMS, eventually, interpreter, running, same_version

pytestmark = pytest.mark.attach


def test_rows_arrive_in_a_file_as_they_come(tmp_path: Path) -> None:
    with running("states.py", "sleep", python=same_version()) as target, Session.open(target.target) as session:
        file = tmp_path / "rows.jsonl"
        session.start("echo", stream=file, rows=3, payload="é")
        assert eventually(lambda: file.read_text("utf-8").count("\n") == 3)
        assert session.stop("echo")["dropped"] == 0
        assert [json.loads(line) for line in file.read_text("utf-8").splitlines()] == [
            {"number": number, "payload": "é"} for number in range(3)
        ]


def test_a_recorder_that_is_not_running_cannot_be_stopped() -> None:
    with running("states.py", "sleep", python=same_version()) as target, Session.open(target.target) as session:
        with pytest.raises(ProbeFailed) as caught:
            session.stop("echo")
        assert (caught.value.recorder, caught.value.kind) == ("echo", "KeyError")


def test_a_target_that_ends_is_gone_for_the_session() -> None:
    with running("states.py", "sleep", python=same_version()) as target, Session.open(target.target) as session:
        session.start("echo")
        assert target.process.stdin is not None
        target.process.stdin.close()
        assert eventually(lambda: not session.is_open)
        with pytest.raises(TargetGone):
            session.call("echo")


def test_a_probe_that_does_not_answer_is_told_from_a_target_that_is_gone() -> None:
    with running("states.py", "sleep", python=same_version()) as target, Session.open(target.target) as session:
        session.start("echo")
        os.kill(target.target.pid, signal.SIGSTOP)
        try:
            assert eventually(lambda: is_suspended(target.target)), "a stop takes effect at once only for who asks"
            with pytest.raises(ProbeSilent):
                session.call("echo", timeout_s=0.2)
        finally:
            os.kill(target.target.pid, signal.SIGCONT)
        assert session.call("echo", again=True) == {"again": True}


def test_two_sessions_share_a_target() -> None:
    with (
        running("states.py", "busy", python=same_version()) as target,
        Session.open(target.target) as first,
        Session.open(target.target) as second,
    ):
        first.start("echo")
        second.start("echo")
        assert first.call("echo", of="first") == {"of": "first"}


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_a_launched_program_has_the_probe_and_the_environment_it_would_have_had(version: str, tmp_path: Path) -> None:
    report = tmp_path / "environment.json"
    program = tmp_path / "program.py"
    program.write_text(
        "import json, os, sys, time\n"
        f"open({str(report)!r}, 'w').write(json.dumps([{{n: v for n, v in os.environ.items() if 'PYTHON' in n"
        " or 'PERFKIT' in n}, [p for p in sys.path if 'perfkit' in p]]))\n"
        "time.sleep(60)\n",
        "utf-8",
    )
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)}
    with launch([str(interpreter(version)), str(program)], env=environment) as (process, session):
        assert session.target.pid == process.pid
        assert (session.method, session.stopped_ns) == ("launched", 0)
        session.start("echo")
        assert eventually(lambda: report.exists() and report.stat().st_size > 0, within_s=10)
    assert process.returncode == -15
    assert json.loads(report.read_text("utf-8")) == [{"PYTHONPATH": str(tmp_path)}, []]


def test_a_launched_program_keeps_its_own_sitecustomize(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n", "utf-8")
    command = [str(same_version()), "-c", "import time; time.sleep(60)"]
    with launch(command, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)}):
        assert eventually((tmp_path / "ran").exists)


def test_a_python_below_a_shell_is_the_target() -> None:
    with launch(["sh", "-c", f"{same_version()} {PROGRAMS / 'alone.py'}; true"]) as (process, session):
        assert session.target.pid != process.pid
        session.start("echo")
    assert not session.target.is_alive() or eventually(lambda: not session.target.is_alive())


def test_an_isolated_interpreter_is_attached_to_instead() -> None:
    with launch([str(same_version()), "-I", str(PROGRAMS / "alone.py")], timeout_s=0.5) as (_process, session):
        assert session.method != "launched"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["/nonexistent/program"], id="no-such-file"),
        pytest.param(["/bin/false"], id="ends-at-once"),
        pytest.param(["/bin/sleep", "5"], id="not-python"),
    ],
)
def test_a_command_that_cannot_be_recorded_is_refused_with_a_hint(command: list[str]) -> None:
    with pytest.raises(CannotRecord) as caught, launch(command, timeout_s=0.5):
        pass
    assert caught.value.hint
    assert isinstance(caught.value, CommandFailed) == (command[0] != "/bin/sleep")


def test_a_program_that_imports_the_probe_needs_no_ptrace(tmp_path: Path) -> None:
    code = "import perfkit.probe, time; perfkit.probe.start(); print('ready', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for _again in range(2):
        with Session.open(inspect(process.pid)) as session:
            assert (session.method, session.stopped_ns) == ("imported", 0)
            session.start("echo")
        time.sleep(0.05)
    process.terminate()
    process.wait()
    process.stdout.close()
