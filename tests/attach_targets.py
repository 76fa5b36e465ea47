"""Processes to attach to: every interpreter found here, in every state; ready when they are yielded."""

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perfkit.attach.target import Target, inspect, tracer_of

PROGRAMS = Path(__file__).parent / "targets" / "attach"
_VERSIONS = ("3.10", "3.11", "3.12", "3.13")


def interpreter(version: str) -> Path:
    """Return an interpreter of that version, bare of packages; skips the test where there is none."""
    for folder in sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*")):
        if (folder / "bin" / "python").exists():
            return folder / "bin" / "python"
    pytest.skip(f"no Python {version} in ~/.pyenv/versions")


def same_version() -> Path:
    """Return an interpreter of our own minor version, which has neither perfkit nor memray."""
    return interpreter(f"{sys.version_info[0]}.{sys.version_info[1]}")


every_version = pytest.mark.parametrize("version", _VERSIONS)


def gunicorn_alone(folder: Path) -> Path:
    """Return the folder with nothing but gunicorn in it, which every interpreter can import: it is pure Python."""
    for name in ("gunicorn", "packaging"):
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        (folder / name).symlink_to(Path(found.origin).parent)
    return folder


@dataclass
class Running:
    """A process that was started to be attached to."""

    process: "subprocess.Popen[str]"
    target: Target

    def look(self) -> dict[str, Any]:
        """Return what the process says is in it (states.py only)."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("look\n")
        self.process.stdin.flush()
        seen: dict[str, Any] = json.loads(self.process.stdout.readline())
        return seen


@contextmanager
def running(program: str, *arguments: str, python: Path, ends_with: int | None = None) -> Iterator[Running]:
    """Yield a process that runs one of the programs, when it is ready; it must end as told, or by `ends_with`."""
    process = subprocess.Popen(
        [str(python), str(PROGRAMS / program), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:1] == ["ready"]
        target = inspect(int(words[1]) if len(words) > 1 else process.pid)
        yield Running(process, target)
    finally:
        if process.poll() is None and program == "states.py":
            assert process.stdin is not None
            process.stdin.close()
        elif process.poll() is None:
            process.terminate()
        code = process.wait(10)
        process.stdout.close()
        if not process.stdin.closed:
            process.stdin.close()
    expected = (0, -15) if ends_with is None else (ends_with,)
    assert code in expected, f"the target ended with {code}"


def eventually(condition: Callable[[], bool], within_s: float = 2.0) -> bool:
    """Whether a condition comes true in time."""
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def is_untouched(running_: Running, before: dict[str, Any], *, memray: bool = False) -> bool:
    """Whether the process looks as it did before, and nobody traces it.

    With `memray`, one pipe more is forgiven: the stack unwinder in memray's shared library opens
    it once and uses it for as long as the library is mapped, which is for good.
    """
    after = running_.look()
    if memray:
        new = sorted(set(after["descriptors"]) - set(before["descriptors"]))
        try:
            places = {Path(f"/proc/{running_.target.pid}/fd/{number}").readlink() for number in new}
        except FileNotFoundError:  # closed since: not settled yet
            return False
        if len(new) == 2 and len(places) == 1 and str(*places).startswith("pipe:"):
            after["descriptors"] = before["descriptors"]
    return tracer_of(running_.target.pid) == 0 and after == before
