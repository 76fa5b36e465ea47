"""Targets that run as another user, or in namespaces of their own, as in a container."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perfkit.attach.session import Session
from perfkit.attach.staging import staging
from perfkit.attach.target import children, inspect
from tests.attach_targets import PROGRAMS, Running

pytestmark = [
    pytest.mark.attach,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may change users and namespaces"),
    pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="no interpreter that all users can reach"),
]


@contextmanager
def elsewhere(command: list[str], **options: object) -> Iterator[Running]:
    """Yield a process that was started by a command, directly or below it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if line != "ready\n":
            pytest.skip("this machine does not allow namespaces")
        below = children(process.pid)
        yield Running(process, below[0] if below else inspect(process.pid))
    finally:
        for child in children(process.pid):
            os.kill(child.pid, signal.SIGKILL)  # the first process of a namespace ignores SIGTERM
        if process.poll() is None:
            process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def program() -> Iterator[Path]:
    """The sleeping program, where every user can read it."""
    copy = Path(shutil.copy(PROGRAMS / "alone.py", f"/tmp/perfkit-test-{os.getpid()}-{time.monotonic_ns()}.py"))
    copy.chmod(0o644)
    yield copy
    copy.unlink()


def _check(target: Running, folder: Path) -> None:
    with Session.open(target.target) as session:
        session.start("echo")
        assert session.call("echo", here=1) == {"here": 1}
    with staging(target.target, folder) as place:
        assert place.is_temporary
        (place.here / "written").write_text("by the target")
    assert (folder / "written").read_text() == "by the target"
    assert not place.here.exists()


def test_a_process_of_another_user(program: Path, tmp_path: Path) -> None:
    command = ["/usr/bin/python3", str(program)]
    with elsewhere(command, user=65534, group=65534, extra_groups=[]) as target:
        _check(target, tmp_path)


def test_a_process_with_its_own_files_network_and_process_ids(program: Path, tmp_path: Path) -> None:
    inside = f"cp {program} /mnt/program.py; mount -t tmpfs none /tmp; exec /usr/bin/python3 /mnt/program.py"
    command = ["unshare", "-m", "-n", "-p", "-f", "sh", "-c", f"mount -t tmpfs none /mnt; {inside}"]
    with elsewhere(command) as target:
        assert not target.target.in_our_mount_namespace
        _check(target, tmp_path)
