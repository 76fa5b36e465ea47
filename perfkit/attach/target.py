"""The only place that says what a process id is: a Python process, which version, may we attach."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """A running Python process.

    `started_ticks` (field 22 of /proc/PID/stat) tells it from another process that got the
    same id later. `python` is (major, minor, micro); `libpython` is the file that holds the
    interpreter's symbols (the executable itself when it is linked statically).
    """

    pid: int
    parent: int
    started_ticks: int
    program: str
    executable: Path
    libpython: Path
    python: tuple[int, int, int]
    free_threaded: bool = False
    in_our_mount_namespace: bool = True

    def is_alive(self) -> bool:
        """Whether the same process still runs (a zombie does not)."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Return what the manifest stores of it: no arguments, no environment."""
        raise NotImplementedError


def inspect(pid: int) -> Target:
    """Return the Python process with this id, reading /proc only.

    Raises:
        NoSuchProcess, NotPython, ...: see the helpers' errors.
    """
    raise NotImplementedError
