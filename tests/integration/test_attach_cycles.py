"""Getting into a process and out again, in every state and every version, leaves no trace."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perfkit.attach.session import Session
from perfkit.attach.target import tracer_of
from tests.attach_targets import (
    PROGRAMS,
    Running,
    eventually,
    every_version,
    gunicorn_alone,
    interpreter,
    is_untouched,
    running,
    same_version,
)

pytestmark = pytest.mark.attach

_CYCLES = 5
_LONGEST_STOP_NS = 500_000_000


@every_version
@pytest.mark.parametrize("state", ["busy", "sleep", "lock", "read", "asyncio_idle", "threads", "load", "forked"])
def test_attaching_again_and_again_leaves_the_target_as_it_was(version: str, state: str) -> None:
    with running("states.py", state, python=interpreter(version)) as target:
        before = target.look()
        for cycle in range(_CYCLES):
            with Session.open(target.target) as session:
                session.start("echo")
                assert session.call("echo", cycle=cycle) == {"cycle": cycle}
                assert session.stopped_ns < _LONGEST_STOP_NS
        assert eventually(lambda: is_untouched(target, before)), (before, target.look())


def test_a_uvloop_that_has_nothing_to_do_is_entered() -> None:
    with running("states.py", "uvloop_idle", python=Path(sys.executable)) as target:
        before = target.look()
        for _cycle in range(_CYCLES):
            with Session.open(target.target) as session:
                session.start("echo")
        assert eventually(lambda: is_untouched(target, before))


@every_version
def test_a_worker_of_gunicorn_is_entered_and_left_as_it_was(version: str, tmp_path: Path) -> None:
    with running("states.py", "gunicorn", str(gunicorn_alone(tmp_path)), python=interpreter(version)) as target:
        before = target.look()
        for _cycle in range(_CYCLES):
            with Session.open(target.target) as session:
                session.start("echo")
                assert session.stopped_ns < _LONGEST_STOP_NS
        assert eventually(lambda: is_untouched(target, before)), (before, target.look())


@every_version
def test_a_thread_that_sleeps_alone_is_entered_at_once(version: str) -> None:
    with running("alone.py", python=interpreter(version)) as target:
        assert eventually(lambda: (Path(f"/proc/{target.target.pid}/syscall").read_text().split()[0]) in ("230", "270"))
        with Session.open(target.target) as session:
            assert session.method == "blocked_call"
            session.start("echo")
        assert tracer_of(target.target.pid) == 0


def test_no_signal_handler_is_left_but_the_one_that_the_c_library_has_for_threads() -> None:
    """The first thread of a process makes glibc handle signal 33, with which it changes users in all threads at once.

    Source: SIGSETXID in https://sourceware.org/git/?p=glibc.git;f=nptl/pthread_create.c
    """
    with running("alone.py", python=same_version()) as target:
        status = Path(f"/proc/{target.target.pid}/status")

        def caught() -> int:
            return int(status.read_text().partition("\nSigCgt:")[2].split()[0], 16)

        before = caught()
        for _cycle in range(_CYCLES):
            with Session.open(target.target) as session:
                session.start("echo")
        assert caught() & ~before in (0, 1 << 32)
        assert before & ~caught() == 0


@contextmanager
def recorder_of(target: Running, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Yield a recorder with everything that runs inside of a target; it is killed at the end."""
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, str(PROGRAMS / "recorder.py"), str(target.target.pid), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as recorder:
        yield recorder
        recorder.kill()


def test_a_recorder_killed_while_it_records_leaves_the_target_clean_within_two_seconds(tmp_path: Path) -> None:
    with running("states.py", "load", python=same_version()) as target:
        before = target.look()
        with recorder_of(target, tmp_path / "raw") as recorder:
            assert recorder.stdout is not None
            assert recorder.stdout.readline() == "recording\n"
            assert target.look() != before
        assert eventually(lambda: is_untouched(target, before, memray=True)), target.look()


def test_a_recorder_killed_at_any_moment_of_attaching_does_no_harm(tmp_path: Path) -> None:
    with running("states.py", "asyncio_idle", python=same_version()) as target:
        before = target.look()
        for attempt in range(8):
            with recorder_of(target, tmp_path / str(attempt)):
                time.sleep(0.12 + 0.04 * attempt)  # not for readiness: to hit another moment each time
        assert eventually(lambda: is_untouched(target, before, memray=True), within_s=3.0), (before, target.look())


def test_a_recorder_killed_at_any_moment_of_stopping_does_no_harm(tmp_path: Path) -> None:
    with running("states.py", "asyncio_idle", python=same_version()) as target:
        before = target.look()
        for attempt in range(5):
            with recorder_of(target, tmp_path / str(attempt)) as recorder:
                assert recorder.stdin is not None
                assert recorder.stdout is not None
                assert recorder.stdout.readline() == "recording\n"
                recorder.stdin.write("stop\n")
                recorder.stdin.flush()
                assert recorder.stdout.readline() == "stopping\n"
                time.sleep(0.005 * attempt**2)  # as above
        assert eventually(lambda: is_untouched(target, before, memray=True), within_s=3.0), (before, target.look())


def test_signals_reach_a_target_that_is_being_entered() -> None:
    with running("states.py", "sleep", python=same_version()) as target:
        os.kill(target.target.pid, signal.SIGCHLD)
        with Session.open(target.target) as session:
            os.kill(target.target.pid, signal.SIGCHLD)
            session.start("echo")
