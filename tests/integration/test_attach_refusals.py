"""What cannot be attached to is refused before it is touched, with a remedy."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perfkit.attach import permission
from perfkit.attach.errors import (
    AlreadyTraced,
    NoSuchProcess,
    NotPython,
    SuspendedProcess,
    TargetGone,
    UnsupportedInterpreter,
    ZombieProcess,
)
from perfkit.attach.permission import preflight
from perfkit.attach.session import Session
from perfkit.attach.target import children, inspect
from tests.attach_targets import PROGRAMS, eventually, every_version, interpreter, running, same_version

pytestmark = pytest.mark.attach


@every_version
def test_a_process_tells_its_version_without_being_touched(version: str) -> None:
    python = interpreter(version)
    with running("alone.py", python=python) as target:
        told = subprocess.run([str(python), "-c", "import sys; print(*sys.version_info[:3])"], capture_output=True)
        assert target.target.python == tuple(int(number) for number in told.stdout.split())
        assert target.target.program == "alone.py"
        assert not target.target.free_threaded
        assert preflight(target.target) is None


def test_a_number_that_is_no_process() -> None:
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    with pytest.raises(NoSuchProcess) as caught:
        inspect(process.pid)
    assert caught.value.pid == process.pid


def test_a_program_that_is_not_python() -> None:
    process = subprocess.Popen(["/bin/sleep", "30"])
    try:
        with pytest.raises(NotPython) as caught:
            inspect(process.pid)
        assert caught.value.program == "sleep"
    finally:
        process.kill()
        process.wait()


def test_a_shell_with_python_below_it_names_the_python() -> None:
    process = subprocess.Popen(
        ["sh", "-c", f"{same_version()} {PROGRAMS / 'alone.py'}; true"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    [child] = children(process.pid)
    with pytest.raises(NotPython) as caught:
        inspect(process.pid)
    assert str(child.pid) in caught.value.hint
    os.kill(child.pid, signal.SIGTERM)
    process.wait()
    process.stdout.close()


def test_a_zombie() -> None:
    process = subprocess.Popen(["/bin/true"])
    assert eventually(lambda: ") Z " in Path(f"/proc/{process.pid}/stat").read_text())
    with pytest.raises(ZombieProcess):
        inspect(process.pid)
    process.wait()


def test_a_suspended_process_is_left_alone() -> None:
    with running("alone.py", python=same_version()) as target:
        os.kill(target.target.pid, signal.SIGSTOP)
        assert eventually(lambda: isinstance(preflight(target.target), SuspendedProcess))
        os.kill(target.target.pid, signal.SIGCONT)
        assert eventually(lambda: preflight(target.target) is None)


def test_a_process_that_another_tracer_holds_is_left_alone() -> None:
    with running("alone.py", python=same_version()) as target:
        libc = ctypes.CDLL(None, use_errno=True)
        seize, detach, interrupt = 0x4206, 17, 0x4207
        assert libc.ptrace(seize, target.target.pid, None, None) == 0
        with pytest.raises(AlreadyTraced) as caught:
            Session.open(target.target)
        assert caught.value.tracer_pid == os.getpid()
        libc.ptrace(interrupt, target.target.pid, None, None)
        os.waitpid(target.target.pid, 0x40000000)
        assert libc.ptrace(detach, target.target.pid, None, None) == 0


def test_a_process_that_has_ended_since_it_was_looked_at() -> None:
    with running("alone.py", python=same_version()) as target:
        pass
    assert isinstance(preflight(target.target), TargetGone)


def test_a_version_that_is_too_old() -> None:
    folder = next(iter(sorted((Path.home() / ".pyenv" / "versions").glob("3.8.*"))), None)
    if folder is None:
        pytest.skip("no Python 3.8 in ~/.pyenv/versions")
    process = subprocess.Popen([str(folder / "bin" / "python"), str(PROGRAMS / "alone.py")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    problem = preflight(inspect(process.pid))
    assert isinstance(problem, UnsupportedInterpreter)
    assert problem.version.startswith("3.8")
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize(
    ("owner", "euid", "may_ptrace", "scope", "hint"),
    [
        pytest.param(33, 1000, False, 0, "sudo perfkit", id="another-users-process"),
        pytest.param(1000, 1000, False, 1, "kernel.yama.ptrace_scope=0", id="yama-restricts-to-children"),
        pytest.param(1000, 1000, False, 3, "perfkit record -- python", id="yama-forbids-it"),
        pytest.param(0, 0, False, 0, "--cap-add=SYS_PTRACE", id="root-in-a-container"),
    ],
)
def test_a_denial_names_the_reason_and_the_command(
    monkeypatch: pytest.MonkeyPatch, owner: int, euid: int, may_ptrace: bool, scope: int, hint: str
) -> None:
    monkeypatch.setattr(permission, "_owner", lambda pid: owner)
    monkeypatch.setattr(permission, "_may_ptrace", lambda: may_ptrace)
    monkeypatch.setattr(permission, "_ptrace_scope", lambda: scope)
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    assert hint in permission.denied(4242).hint


def test_ourselves_is_python() -> None:
    assert inspect(os.getpid()).python == sys.version_info[:3]
