"""The only place that tells in advance whether the kernel lets us into a process."""

import os
import platform
from pathlib import Path

from perfkit.attach.errors import (
    AlreadyTraced,
    AttachDenied,
    NoSuchProcess,
    NotPython,
    SuspendedProcess,
    TargetGone,
    UnsupportedInterpreter,
)
from perfkit.attach.target import NO_PYTHON, Target, is_suspended, tracer_of

OLDEST = (3, 10)
_SYS_PTRACE = 1 << 19


def preflight(target: Target) -> Exception | None:
    """Return why perfkit could not get into the process now, or None; touches nothing.

    The kernel's own answer is asked for by opening /proc/PID/mem, which needs the very
    right that attaching needs (PTRACE_MODE_ATTACH); nothing is read from it.

    Source: https://man7.org/linux/man-pages/man2/ptrace.2.html (Ptrace access mode checking)
    """
    if not target.is_alive():
        return TargetGone(target.pid)
    if target.python == NO_PYTHON:
        return NotPython(target.pid, target.program)
    if target.python[:2] < OLDEST:
        return UnsupportedInterpreter(
            target.pid,
            target.version,
            "the oldest that perfkit supports is 3.10",
            hint="Run the service on a newer Python; 3.10 to 3.13 were tested.",
        )
    if target.free_threaded and target.python[:2] < (3, 14):
        return UnsupportedInterpreter(
            target.pid,
            target.version,
            "without the GIL it cannot be entered from a debugger safely",
            hint="Start it with `perfkit record -- python ...`, or use Python 3.14t.",
        )
    if platform.machine() != "x86_64" and target.python < (3, 14):
        return UnsupportedInterpreter(
            target.pid,
            target.version,
            f"on {platform.machine()} perfkit can only enter Python 3.14 or later",
            hint="Let perfkit start the program: `perfkit record -- python app.py`.",
        )
    if is_suspended(target):
        return SuspendedProcess(target.pid)
    try:
        if tracer := tracer_of(target.pid):
            return AlreadyTraced(target.pid, tracer, name_of(tracer))
        descriptor = os.open(f"/proc/{target.pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except (NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return TargetGone(target.pid)
    except PermissionError:
        return denied(target.pid)
    os.close(descriptor)
    return None


def denied(pid: int) -> AttachDenied:
    """Return the refusal to attach, with the reason found and the exact command that lifts it."""
    owner = _owner(pid)
    if owner is not None and owner != os.geteuid() and os.geteuid() != 0:
        return AttachDenied(pid, why=f"it belongs to user {owner}", hint="Try again with `sudo perfkit ...`.")
    scope = _ptrace_scope()
    if scope == 3:
        return AttachDenied(
            pid,
            why="this kernel forbids it until the next boot (kernel.yama.ptrace_scope=3)",
            hint="Start the program with perfkit instead: `perfkit record -- python app.py`.",
        )
    if os.geteuid() == 0 and not _may_ptrace():
        return AttachDenied(
            pid,
            why="this container lacks the capability SYS_PTRACE",
            hint="Start it with `docker run --cap-add=SYS_PTRACE` "
            "(Kubernetes: `securityContext.capabilities.add: [SYS_PTRACE]`).",
        )
    if scope:
        return AttachDenied(
            pid,
            why=f"the kernel allows it for children only (kernel.yama.ptrace_scope={scope})",
            hint="Allow it with `sudo sysctl kernel.yama.ptrace_scope=0`, then try again; or use `sudo perfkit ...`.",
        )
    return AttachDenied(pid, why="permission denied", hint="Try again with `sudo perfkit ...`.")


def _owner(pid: int) -> int | None:
    """Return the effective user of a process, None when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    except OSError:
        return None
    return int(status.partition("\nUid:")[2].split()[1])


def _ptrace_scope() -> int:
    """Return Yama's setting, 0 where there is none."""
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text("ascii"))
    except OSError:
        return 0


def _may_ptrace() -> bool:
    """Whether we have CAP_SYS_PTRACE."""
    status = Path("/proc/self/status").read_text("ascii")
    return bool(int(status.partition("\nCapEff:")[2].split()[0], 16) & _SYS_PTRACE)


def name_of(pid: int) -> str:
    """Return the name of a process, for people."""
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "another process"
