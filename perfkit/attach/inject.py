"""The only place that decides how our code gets into a process, and sees to it that it does.

1. `sys.remote_exec`, where both sides run the same Python 3.14 or later;
2. else ptrace, by `injector.py`. A main thread that is seen to sleep in a system call is
   entered there at once. One that runs gets a pending call, which it carries out when it next
   executes bytecode; if that does not happen soon, we look again whether it sleeps.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from perfkit.attach import injector
from perfkit.attach.errors import AlreadyTraced, AttachDenied, AttachTimeout, TargetGone
from perfkit.attach.permission import denied, name_of
from perfkit.attach.rendezvous import Rendezvous
from perfkit.attach.target import Target, addresses, mappings, tracer_of

_CALLS = ("Py_AddPendingCall", "PyRun_SimpleString", "PyGILState_Ensure", "PyGILState_Release")
_C_LIBRARIES = ("libc.so", "libc-", "ld-musl", "libc.musl")
_SLEEPING = frozenset(
    {0, 7, 20, 23, 34, 35, 42, 43, 44, 45, 46, 47, 61, 73, 128, 130, 202, 230, 232, 247, 270, 271, 281, 288, 299, 426}
)
"""System calls in which a Python thread waits without the GIL, by number on x86-64.

read poll writev select pause nanosleep connect accept sendto recvfrom sendmsg recvmsg wait4 flock
rt_sigtimedwait rt_sigsuspend futex clock_nanosleep epoll_wait waitid pselect6 ppoll epoll_pwait
accept4 recvmmsg io_uring_enter. Source: https://github.com/torvalds/linux, syscall_64.tbl
"""
_WATCH_S = 0.03
_PATIENCE_S = 0.7
_CALL_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Injection:
    """How the code got in: remote_exec, pending_call or blocked_call, and how long the main thread was held."""

    method: str
    stopped_ns: int


@dataclass(frozen=True, slots=True)
class Attached:
    """A connection to the probe, and how it came about."""

    connection: socket.socket
    injection: Injection


def inject(target: Target, meeting: Rendezvous, *, timeout_s: float) -> Attached:
    """Return the connection of a process that was made to run the bootstrap.

    The target is stopped for a millisecond, its main thread only. If nothing comes of it,
    the target is as it was before, save for a page of memory; a pending call that it runs
    later finds nobody listening and ends.

    Raises:
        AlreadyTraced, AttachDenied, TargetGone: see there.
        AttachTimeout: it did not run our code in time.
    """
    until = time.monotonic() + timeout_s
    if _has_remote_exec(target):
        return _by_remote_exec(target, meeting, timeout_s)
    functions = _functions(target)
    stopped_ns = 0
    queued = False
    while True:
        blocked_in = _sleeps_in(target.pid)
        if blocked_in or not queued:
            answer = _run_injector(target, functions, meeting.bootstrap, blocked_in)
            stopped_ns += answer["stopped_ns"]
            if answer["outcome"] == "done":
                queued = queued or not blocked_in
            elif answer["outcome"] in ("refused", "gone"):
                _explain(target, answer)
            elif answer["outcome"] not in ("moved", "too_long"):
                raise AttachTimeout(target.pid, timeout_s, answer["detail"])
        left_s = until - time.monotonic()
        if met := meeting.accept(target, max(0.05, min(_PATIENCE_S, left_s))):
            method = "blocked_call" if blocked_in else "pending_call"
            return Attached(met[0], Injection(method, stopped_ns))
        if left_s <= 0:
            raise AttachTimeout(target.pid, timeout_s, "its main thread neither runs Python code nor sleeps")


def _functions(target: Target) -> dict[str, int]:
    """Return the addresses in the target of what the injector calls."""
    found = addresses(target, target.libpython, *_CALLS)
    for mapping in mappings(target.pid):
        if mapping.path.name.startswith(_C_LIBRARIES):
            found |= addresses(target, mapping.path, "mmap", "munmap")
            break
    else:
        found |= addresses(target, target.libpython, "mmap", "munmap")
    if missing := {*_CALLS, "mmap", "munmap"} - found.keys():
        raise AttachDenied(
            target.pid,
            why=f"its interpreter does not export {', '.join(sorted(missing))}",
            hint="Let perfkit start the program: `perfkit record -- python app.py`.",
        )
    return found


def _sleeps_in(pid: int) -> tuple[int, int] | None:
    """Return `(system call, stack pointer)` if the main thread sleeps without the GIL, else None.

    It must be in one and the same system call, without having been scheduled, for a while: a
    thread that waits for the GIL wakes up every 5 ms, one that is about to wake up is not caught.
    """
    before = _place(pid)
    if before is None or before[0] not in _SLEEPING:
        return None
    switches = _switches(pid)
    time.sleep(_WATCH_S)
    return before if _place(pid) == before and _switches(pid) == switches else None


def _place(pid: int) -> tuple[int, int] | None:
    """Return `(system call, stack pointer)` of the main thread, None while it runs."""
    try:
        fields = Path(f"/proc/{pid}/task/{pid}/syscall").read_text("ascii").split()
        return (int(fields[0]), int(fields[-2], 16)) if len(fields) > 3 else None
    except (OSError, ValueError):
        return None


def _switches(pid: int) -> str:
    """Return how often the main thread was scheduled, as text to compare."""
    try:
        return Path(f"/proc/{pid}/task/{pid}/status").read_text("ascii", "replace").partition("\nvoluntary")[2]
    except OSError:
        return ""


def _run_injector(
    target: Target, functions: dict[str, int], source: str, blocked_in: tuple[int, int] | None
) -> dict[str, Any]:
    """Return the injector's answer; it goes on by itself if we are interrupted."""
    request = {
        "pid": target.pid,
        "functions": functions,
        "source": source,
        "limit_s": _CALL_LIMIT_S,
        "blocked_in": blocked_in,
    }
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", injector.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    output, error = process.communicate(json.dumps(request).encode())
    if process.returncode:
        raise RuntimeError(f"the injector failed: {error.decode(errors='replace')}")
    answer: dict[str, Any] = json.loads(output)
    return answer


def _explain(target: Target, answer: dict[str, Any]) -> NoReturn:
    """Raise the error that says why the kernel did not let the injector in."""
    if answer["outcome"] == "gone" or not target.is_alive():
        raise TargetGone(target.pid)
    if tracer := tracer_of(target.pid):
        raise AlreadyTraced(target.pid, tracer, name_of(tracer))
    raise denied(target.pid)


def _has_remote_exec(target: Target) -> bool:
    """Whether `sys.remote_exec` works between us and the target: same minor version and kind of build."""
    ours = (sys.version_info[:2], not getattr(sys, "_is_gil_enabled", lambda: True)())
    return hasattr(sys, "remote_exec") and ours == (target.python[:2], target.free_threaded)


def _by_remote_exec(target: Target, meeting: Rendezvous, timeout_s: float) -> Attached:
    """Return the connection of a process that was asked to run a file, at its next safe point.

    Source: https://docs.python.org/3.14/library/sys.html#sys.remote_exec
    """
    with tempfile.TemporaryDirectory(prefix="perfkit-", dir=target.outside(Path("/tmp"))) as folder:  # noqa: S108
        script = Path(folder) / "bootstrap.py"
        script.write_text(meeting.bootstrap, "utf-8")
        # It is read by the target, which may be another user; the secrets in it are good for one use.
        status = Path(f"/proc/{target.pid}").stat()
        with suppress(PermissionError):
            for path in (Path(folder), script):
                os.chown(path, status.st_uid, status.st_gid)
        inside = Path("/tmp", *script.parts[-2:])  # noqa: S108
        try:
            sys.remote_exec(target.pid, str(script if target.in_our_mount_namespace else inside))  # type: ignore[attr-defined]
        except PermissionError:
            raise denied(target.pid) from None
        except ProcessLookupError:
            raise TargetGone(target.pid) from None
        met = meeting.accept(target, timeout_s)
    if met is None:
        raise AttachTimeout(target.pid, timeout_s, "its main thread does not reach a safe point")
    return Attached(met[0], Injection("remote_exec", 0))
