"""The only place that says what a process id is: a Python process, which version, may we attach."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfkit.attach.elf import Elf, NotElf, open_elf
from perfkit.attach.errors import NoSuchProcess, NotPython, ZombieProcess

# Not anchored to a NUL in front: the linker stores a string that ends another one only once.
_RELEASE = re.compile(rb"(?<![\w.])3\.(\d{1,2})\.(\d{1,2})(?:(?:a|b|rc)\d+)?\+?\x00")
_DOORS = ("Py_AddPendingCall", "PyRun_SimpleString", "PyGILState_Ensure", "PyGILState_Release")


NO_PYTHON = (0, 0, 0)
"""Version of a process that is not Python: collectors that look from outside can record it all the same."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running process: Python, or for collectors that look from outside any other.

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
        try:
            state, _parent, started = _stat(self.pid)
        except NoSuchProcess:
            return False
        return state not in "ZX" and started == self.started_ticks

    def describe(self) -> dict[str, Any]:
        """Return what the manifest stores of it: no arguments, no environment."""
        return {
            "pid": self.pid,
            "parent": self.parent,
            "program": self.program,
            "python": None if self.python == NO_PYTHON else self.version,
            "free_threaded": self.free_threaded,
            "in_our_mount_namespace": self.in_our_mount_namespace,
        }

    @property
    def version(self) -> str:
        """Version of its interpreter, such as 3.13.0t."""
        return ".".join(map(str, self.python)) + ("t" if self.free_threaded else "")

    def outside(self, path: Path) -> Path:
        """Return where we find a file that the target sees as `path`."""
        return path if self.in_our_mount_namespace else Path(f"/proc/{self.pid}/root{path}")


@dataclass(frozen=True, slots=True)
class Mapping:
    """One file that is mapped into a process: its first mapping."""

    path: Path
    start: int
    offset: int


def inspect(pid: int) -> Target:
    """Return the Python process with this id, reading /proc only.

    The version comes from the interpreter's file (`Py_Version`, or its version string in
    read-only data), so nothing of the target is run, stopped or attached to.

    Raises:
        NoSuchProcess: no process has this id.
        ZombieProcess: it has ended already.
        NotPython: it is a kernel thread or runs something else; names Python children, if any.
        AttachDenied: /proc does not show us what it runs.
    """
    state, parent, started = _stat(pid)
    if state in "ZX":
        raise ZombieProcess(pid, parent)
    program = _program(pid)
    ours = _same_namespace(pid, "mnt")
    try:
        executable = Path(f"/proc/{pid}/exe").readlink()
    except FileNotFoundError:
        raise NotPython(pid, program) from None
    except PermissionError:
        from perfkit.attach.permission import denied

        raise denied(pid) from None
    for mapping in mappings(pid):
        for file in _readable_as(pid, mapping.path, executable):
            with suppress(NotElf, OSError), open_elf(file) as elf:
                if release := _release(elf):
                    free_threaded = bool(elf.symbols("_Py_DecRefShared"))
                    return Target(pid, parent, started, program, executable, mapping.path, release, free_threaded, ours)
                break
    raise NotPython(pid, program, tuple(target.pid for target in children(pid)))


def inspect_any(pid: int) -> Target:
    """Return the process with this id, whatever it runs; one that is not Python has no version.

    Raises:
        NoSuchProcess, ZombieProcess, AttachDenied: see `inspect`.
    """
    try:
        return inspect(pid)
    except NotPython as error:
        _, parent, started = _stat(pid)
        executable = Path(f"/proc/{pid}/exe").readlink()
        ours = _same_namespace(pid, "mnt")
        return Target(pid, parent, started, error.program, executable, executable, NO_PYTHON, False, ours)


def children(pid: int) -> list[Target]:
    """Return the Python processes below a process (children, their children, ...), oldest first."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(NoSuchProcess):
                below.setdefault(_stat(int(entry.name))[1], []).append(int(entry.name))
    found: list[Target] = []
    waiting = sorted(below.get(pid, ()))
    while waiting:
        child = waiting.pop(0)
        waiting += sorted(below.get(child, ()))
        if _is_snapshot(child):
            continue
        with suppress(NoSuchProcess, NotPython, ZombieProcess, PermissionError):
            found.append(inspect(child))
    return sorted(found, key=lambda target: (target.started_ticks, target.pid))


def _is_snapshot(pid: int) -> bool:
    """Whether a process is a copy that `perfkit.probe.object_graph` made to look at a heap in peace."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text("utf-8").strip() == "perfkit-graph"
    return False


def mappings(pid: int) -> list[Mapping]:
    """Return the files mapped into a process, those with an interpreter's name first.

    Raises:
        NoSuchProcess: it is gone.
        AttachDenied: the kernel does not show them to us.
    """
    try:
        text = Path(f"/proc/{pid}/maps").read_text("utf-8", "surrogateescape")
    except PermissionError:
        from perfkit.attach.permission import denied

        raise denied(pid) from None
    except (FileNotFoundError, ProcessLookupError):
        raise NoSuchProcess(pid) from None
    found: dict[str, Mapping] = {}
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/"):
            path = fields[5].removesuffix(" (deleted)")
            start = int(fields[0].split("-")[0], 16)
            found.setdefault(path, Mapping(Path(path), start, int(fields[2], 16)))

    def likelihood(mapping: Mapping) -> int:
        name = mapping.path.name
        return 0 if name.startswith("libpython") else 1 if name.startswith("python") else 2

    return sorted(found.values(), key=likelihood)


def addresses(target: Target, file: Path, *names: str) -> dict[str, int]:
    """Return `{name: address in the target}` of those `names` that a file mapped there defines.

    Raises:
        NoSuchProcess, AttachDenied: see `mappings`.
        OSError: the file cannot be read from here.
    """
    for mapping in mappings(target.pid):
        if mapping.path == file:
            for place in _readable_as(target.pid, file, target.executable):
                with suppress(FileNotFoundError), open_elf(place) as elf:
                    bias = elf.bias(mapping.start, mapping.offset)
                    return {name: address + bias for name, address in elf.symbols(*names).items()}
    raise FileNotFoundError(f"{file} is not mapped into process {target.pid}")


def is_suspended(target: Target) -> bool:
    """Whether the target was stopped by a signal, such as Ctrl-Z."""
    return _stat(target.pid)[0] == "T"


def tracer_of(pid: int) -> int:
    """Return the process that traces this one, 0: none.

    Raises:
        NoSuchProcess: it is gone.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        raise NoSuchProcess(pid) from None
    return int(status.partition("\nTracerPid:")[2].split(maxsplit=1)[0])


def _release(elf: Elf) -> tuple[int, int, int] | None:
    """Return the version of the interpreter in a file, None if it holds none."""
    found = elf.symbols(*_DOORS, "Py_Version")
    if not all(name in found for name in _DOORS):
        return None
    if "Py_Version" in found:
        version = int.from_bytes(elf.at(found["Py_Version"], 8), "little")
        if version >> 24 == 3:
            return version >> 24, version >> 16 & 255, version >> 8 & 255
    if match := _RELEASE.search(elf.data):
        return 3, int(match[1]), int(match[2])
    return None


def _readable_as(pid: int, path: Path, executable: Path) -> list[Path]:
    """Return where to look for a file of the target: its own view first, then ours, then what it runs."""
    places = [Path(f"/proc/{pid}/root{path}")]
    if _same_namespace(pid, "mnt"):
        places.insert(0, path)
    if path == executable or str(executable).removesuffix(" (deleted)") == str(path):
        places.append(Path(f"/proc/{pid}/exe"))
    return [place for place in places if os.access(place, os.R_OK)]


def _stat(pid: int) -> tuple[str, int, int]:
    """Return `(state, parent, started_ticks)` of a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        raise NoSuchProcess(pid) from None
    # The name in parentheses may hold anything, even parentheses.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[19])


def _program(pid: int) -> str:
    """Return the name of the program a process runs: without arguments, they may hold secrets."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        name = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        raise NoSuchProcess(pid) from None
    words = [word for word in words if word]
    script = next((word for word in words[1:] if word.endswith(b".py")), b"")
    if b"-m" in words[1:-1]:
        return words[words.index(b"-m") + 1].decode("utf-8", "replace")
    return Path(os.fsdecode(script)).name or name


def _same_namespace(pid: int, kind: str) -> bool:
    """Whether a process shares a namespace with us; True where we may not know."""
    try:
        return Path(f"/proc/{pid}/ns/{kind}").readlink() == Path(f"/proc/self/ns/{kind}").readlink()
    except OSError:
        return True


def shares_network(target: Target) -> bool:
    """Whether the target is in our network namespace, so that abstract sockets reach it."""
    return _same_namespace(target.pid, "net")
