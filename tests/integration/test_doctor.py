"""The doctor foretells what recording does: the same functions are asked."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfkit import doctor
from perfkit.attach import pyspy
from perfkit.attach.target import inspect
from perfkit.collectors import collectors
from perfkit.doctor import Check, diagnose
from perfkit.errors import CannotRecord
from perfkit.recorder import Settings, plan_for

pytestmark = [pytest.mark.attach, pytest.mark.timeout(60)]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """A Python process that waits until its input is closed."""
    command = [sys.executable, "-c", "print('ready', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.write("\n")
        process.stdin.close()


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_this_machine_can_record() -> None:
    checks = by_name(diagnose())
    assert {"python", "system", "disk", "py-spy", "memray", "capability", "ptrace_scope"} <= checks.keys()
    assert checks["py-spy"].ok
    assert "0." in checks["py-spy"].what
    assert "process" not in checks


def test_a_process_that_can_be_recorded_passes_every_collector(process: subprocess.Popen[str]) -> None:
    checks = by_name(diagnose(process.pid))
    assert checks["process"].ok
    for name, collector in collectors().items():
        assert checks[name].ok is (collector.problem(inspect(process.pid)) is None), name


def test_every_failure_has_a_remedy(process: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyspy, "binary", lambda: None)
    for check in diagnose(process.pid):
        assert check.what
        assert check.ok is not False or check.remedy, check.name


def test_what_the_doctor_foretells_is_what_recording_refuses(
    process: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyspy, "binary", lambda: None)
    check = by_name(diagnose(process.pid))["pyspy_stacks"]
    assert check.ok is False
    with pytest.raises(CannotRecord) as refusal:
        plan_for(inspect(process.pid), Settings(collect=("cpu",)))
    assert (check.what, check.remedy) == (str(refusal.value), refusal.value.hint)


def test_a_process_that_is_not_python_is_told_from_one_that_does_not_exist() -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        assert "not a Python process" in by_name(diagnose(other.pid))["process"].what
        other.kill()
    gone = by_name(diagnose(other.pid))["process"]
    assert gone.ok is False
    assert gone.remedy


def test_a_suspended_process_is_noticed(process: subprocess.Popen[str]) -> None:
    import signal

    os.kill(process.pid, signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        check = by_name(diagnose(process.pid))["attach"]
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert check.ok is False
    assert f"kill -CONT {process.pid}" in check.remedy


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    check = by_name(diagnose(output=tmp_path / "deeper" / "still"))["disk"]
    assert check.ok is False
    assert str(tmp_path) in check.remedy


def test_a_program_that_is_installed_but_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "py-spy"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    monkeypatch.setattr(pyspy, "binary", lambda: broken)
    check = by_name(diagnose())["py-spy"]
    assert check.ok is False
    assert "does not run" in check.what


def test_the_answers_are_plain_data(process: subprocess.Popen[str]) -> None:
    assert json.loads(json.dumps([dataclasses.asdict(check) for check in diagnose(process.pid)]))
