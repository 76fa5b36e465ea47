"""The only place that runs py-spy: where it is, what it cannot read, one window of sampling, one dump.

py-spy reads the target's memory (process_vm_readv) and never stops it here, so a py-spy that
outlives its recorder is harmless; every window is bounded and ends by itself.
"""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from perfkit.attach.errors import NoSuchProcess, NotPython, UnsupportedInterpreter
from perfkit.attach.permission import denied
from perfkit.attach.target import NO_PYTHON, Target
from perfkit.errors import CannotRecord

NEWEST_PYTHON = (3, 15)
"""Newest interpreter whose layout py-spy 0.4.3 carries. Source: py-spy's src/python_bindings."""

_WITHOUT_CPU = "Leave CPU sampling out with `--collect`, or run the service on CPython 3.10 to 3.14 with the GIL."
_SAMPLING = "Sampling process"
_ATTACH_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 20.0
_DUMP_TIMEOUT_S = 5.0
_POLL_S = 0.005
_NICE = 10
"""py-spy gives way to the target where both want the same core, but still gets the 4 % of one that it needs: its
weight beside a busy process is 110 to 1024. Source: sched_prio_to_weight in the kernel's kernel/sched/core.c"""
_PTHREAD_BYTES = 1024
"""How far into libc's structure its thread id is looked for; it is at 720 in glibc on x86-64."""


class PySpyMissing(CannotRecord):
    """The py-spy program is not installed beside this interpreter, nor on PATH."""

    hint = "Install it with `pip install py-spy` into perfkit's environment."

    def __init__(self) -> None:
        super().__init__("py-spy is not installed")


class PySpyFailed(CannotRecord):
    """py-spy gave up before it had taken a sample; `said` is what it printed."""

    hint = "Run `perfkit doctor --pid PID`; it tells what py-spy needs."

    def __init__(self, pid: int, said: str) -> None:
        super().__init__(f"py-spy could not sample process {pid}: {said or 'it said nothing'}")
        self.pid = pid
        self.said = said


def binary() -> Path | None:
    """Return the py-spy program: beside this interpreter first, so that its version is perfkit's, else from PATH."""
    beside = Path(sys.executable).parent / "py-spy"
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("py-spy")
    return Path(found) if found else None


def problem(target: Target) -> CannotRecord | None:
    """Return why py-spy cannot sample the target, or None; nothing is touched."""
    if binary() is None:
        return PySpyMissing()
    if target.python == NO_PYTHON:
        return NotPython(target.pid, target.program)
    reason = None
    if target.free_threaded:  # https://github.com/benfred/py-spy/issues/711
        reason = "py-spy cannot read the stacks of an interpreter without the GIL"
    elif target.python[:2] > NEWEST_PYTHON:
        reason = f"py-spy reads Python up to {'.'.join(map(str, NEWEST_PYTHON))}"
    if reason is not None:
        return UnsupportedInterpreter(target.pid, target.version, reason, hint=_WITHOUT_CPU)
    return memory_problem(target.pid)


def caution(target: Target) -> str | None:
    """Return what to expect less of py-spy with this interpreter, or None."""
    if (3, 14, 5) <= target.python < (3, 15):  # https://github.com/benfred/py-spy/issues/855
        return "py-spy 0.4.3 looks for thread names anew at every sample of Python 3.14.5 and later: it may fall behind"
    return None


def memory_problem(pid: int) -> CannotRecord | None:
    """Return why this process may not read the memory of another, or None.

    Opening /proc/PID/mem asks the kernel the question that process_vm_readv asks
    (PTRACE_MODE_ATTACH) without reading anything. Source: man 2 ptrace, "Ptrace access mode checking".
    """
    try:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC))
    except PermissionError:
        return denied(pid)
    except FileNotFoundError:
        return NoSuchProcess(pid)
    return None


class Window:
    """One run of `py-spy record`: samples until it is stopped or its bound is reached, then writes one file.

    `file` is the chrometrace, `meta` a sidecar that relates it to CLOCK_MONOTONIC: it is
    written before py-spy starts and completed when it has ended.
    """

    def __init__(self, pid: int, folder: Path, number: int, *, rate_hz: int, bound_s: int) -> None:
        program = binary()
        if program is None:
            raise PySpyMissing
        self.pid = pid
        self.file = folder / f"window-{number:03d}.json"
        self.meta = folder / f"window-{number:03d}.meta.json"
        self._log = folder / f"window-{number:03d}.log"
        self._facts: dict[str, Any] = {"rate_hz": rate_hz, "bound_s": bound_s, "spawned_ns": time.monotonic_ns()}
        self._save()
        # A file and not a pipe: py-spy dies of a broken pipe, and with it the window, when its recorder is killed.
        # A session of its own: Ctrl-C is for the recorder, which then stops py-spy.
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(program, "record", "--pid", str(pid), "--idle", "--nonblocking", "--full-filenames"),
                    *("--format", "chrometrace", "--rate", str(rate_hz), "--duration", str(bound_s)),
                    *("--output", str(self.file)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _give_way(self._process)

    @property
    def said(self) -> str:
        """What py-spy printed so far."""
        return self._log.read_text("utf-8", "replace").strip()

    @property
    def ended(self) -> bool:
        """Whether py-spy has exited; reaps it and completes the sidecar."""
        if self._process.returncode is None:
            # wait4 instead of poll(): it tells the CPU time of this very child.
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self._facts["ended_ns"] = time.monotonic_ns()
                self._facts["exit_code"] = self._process.returncode
                self._facts["cpu_ns"] = round((usage.ru_utime + usage.ru_stime) * 1e9)
                self._facts["said"] = self.said
                with suppress(OSError):  # the disk is full: the window is what counts
                    self._save()
                    self._log.unlink()
        return self._process.returncode is not None

    def wait_until_sampling(self, abandon: Callable[[], bool] = lambda: False) -> bool:
        """Return whether py-spy attached; False when it exited, is too slow, or `abandon()` says so."""
        deadline = time.monotonic() + _ATTACH_TIMEOUT_S
        while not self.ended:
            if _SAMPLING in self.said:
                return True
            if abandon() or time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return bool(self._facts["exit_code"] == 0)  # the target ended at once; what there was is written

    def stop(self) -> None:
        """End the window: SIGINT makes py-spy write its file; only a py-spy that is stuck gets SIGTERM and SIGKILL."""
        for number, patience_s in ((signal.SIGINT, _STOP_TIMEOUT_S), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0)):
            if self.ended:
                return
            self._facts.setdefault("stopped_ns", time.monotonic_ns())
            self._process.send_signal(number)
            deadline = time.monotonic() + patience_s
            while not self.ended and time.monotonic() < deadline:
                time.sleep(_POLL_S)

    def failure(self) -> PySpyFailed:
        """Return the error that says why this window came to nothing."""
        said = self.said if not self.ended else self._facts["said"]
        lines = [line.removeprefix("Error: ").removeprefix("Reason: ") for line in said.splitlines() if line.strip()]
        return PySpyFailed(self.pid, "; ".join(lines[:2]))

    def _save(self) -> None:
        """Write the sidecar, complete or not at all."""
        temporary = self.meta.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._facts, sort_keys=True), "utf-8")
        temporary.replace(self.meta)


def dump(pid: int) -> list[dict[str, Any]]:
    """Return one snapshot of every thread of a process: ids, name, active, owns_gil, and its innermost frame.

    Empty when py-spy could not take it: the process is gone or was changing too fast.
    """
    program = binary()
    if program is None:
        return []
    try:
        with subprocess.Popen(
            [program, "dump", "--pid", str(pid), "--nonblocking", "--json", "--full-filenames"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            _give_way(process)
            try:
                threads = json.loads(process.communicate(timeout=_DUMP_TIMEOUT_S)[0])
            finally:
                process.kill()
    except (subprocess.SubprocessError, ValueError):
        return []
    _complete_ids(pid, threads)
    kept = ("thread_id", "os_thread_id", "thread_name", "active", "owns_gil", "os_tid_is_ours")
    return [
        {name: thread.get(name) for name in kept}
        | {"leaf": [thread["frames"][0][name] for name in ("name", "filename", "line")] if thread["frames"] else None}
        for thread in threads
    ]


def _give_way(process: "subprocess.Popen[bytes]") -> None:
    """Lower the priority of a py-spy that was just started, before it has threads."""
    with suppress(OSError):  # it has ended already
        os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)


def _complete_ids(pid: int, threads: list[dict[str, Any]]) -> None:
    """Fill in the thread ids of the operating system, which py-spy does not know before Python 3.11.

    A pthread id is the address of a structure of libc that holds the kernel's id somewhere. Where,
    is learned from the main thread, whose id is the process's, and checked against /proc/PID/task.
    """
    unknown = [thread for thread in threads if thread.get("os_thread_id") is None]
    # Nameless when the program never imported `threading`; then it has one thread.
    main = next((thread for thread in unknown if thread.get("thread_name") == "MainThread"), None)
    main = unknown[0] if main is None and len(unknown) == 1 else main
    if main is None:
        return
    try:
        tids = {int(name) for name in os.listdir(f"/proc/{pid}/task")}  # noqa: PTH208
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        offset = os.pread(memory, _PTHREAD_BYTES, main["thread_id"]).find(struct.pack("@i", pid))
        for thread in unknown if offset >= 0 else ():
            (tid,) = struct.unpack("@i", os.pread(memory, 4, thread["thread_id"] + offset))
            if tid in tids:
                thread["os_thread_id"], thread["os_tid_is_ours"] = tid, True
    except (OSError, struct.error):
        return
    finally:
        os.close(memory)
