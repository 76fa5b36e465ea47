"""`perfkit doctor`: what works here and for one process, asked of the very functions that recording asks."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from perfkit.attach import permission, pyspy
from perfkit.attach.cgroup import memory_cgroup
from perfkit.attach.target import Target, inspect
from perfkit.collectors import collectors
from perfkit.errors import PerfkitError

OLDEST_PYTHON = (3, 11)
_MIB = 1 << 20
_LITTLE_DISK_BYTES = 1024 * _MIB
"""A recording of a minute is some megabytes, memray's capture of a busy service up to some hundred."""
_TOOL_TIMEOUT_S = 10.0
WORKS = "works on this process"
"""What is said of a collector that needs nothing."""


@dataclass(frozen=True, slots=True)
class Check:
    """One answer of the doctor.

    `ok` is True when it works, False when a recording would be refused or lack something, None
    when it cannot be told or is only worth knowing. `what` says what was found, `remedy` what
    to do about it, empty when nothing needs to be done.
    """

    name: str
    ok: bool | None
    what: str
    remedy: str = ""


def diagnose(pid: int | None = None, *, output: Path | None = None, start_kernel: bool = False) -> list[Check]:
    """Return what works here, and, with a process id, what recording that process would refuse.

    Nothing is attached to and nothing of the target is run, stopped or changed.

    Args:
        pid: the process to be recorded.
        output: where a recording would be written; the current folder by default.
        start_kernel: also start a Jupyter kernel, which takes some seconds.
    """
    checks = [*_host(output or Path.cwd()), *_tools(), *_rights()]
    if start_kernel:
        checks.append(_kernel())
    if pid is not None:
        checks += _target(pid)
    return checks


def _host(output: Path) -> Iterator[Check]:
    """Yield what this machine and interpreter are."""
    python = platform.python_version()
    if sys.version_info[:2] >= OLDEST_PYTHON:
        yield Check("python", True, f"perfkit runs on Python {python}")
    else:
        yield Check("python", False, f"perfkit runs on Python {python}", "Install perfkit on Python 3.11 or later.")
    if sys.platform == "linux":
        yield Check("system", True, f"Linux {platform.release()} on {platform.machine()}")
    else:
        yield Check(
            "system", False, f"{platform.system()} is not supported", "Record on Linux; read profiles anywhere."
        )
    folder = next(folder for folder in (output.absolute(), *output.absolute().parents) if folder.exists())
    free_bytes = shutil.disk_usage(folder).free
    remedy = (
        "" if os.access(folder, os.W_OK) else f"Choose a folder that you may write to with -o; {folder} is not one."
    )
    if not remedy and free_bytes < _LITTLE_DISK_BYTES:
        remedy = "Free some space, or write elsewhere with -o."
    yield Check("disk", not remedy, f"{free_bytes // _MIB:,} MiB free in {folder}", remedy)


def _tools() -> Iterator[Check]:
    """Yield the programs and packages that recording and reporting use."""
    program = pyspy.binary()
    if program is None:
        missing = pyspy.PySpyMissing()
        yield Check("py-spy", False, str(missing), missing.hint)
    else:
        yield _program("py-spy", [str(program), "--version"])
    for package, use in (("memray", "the heap collector"), ("ipykernel", "reports"), ("papermill", "reports")):
        try:
            yield Check(package, True, f"{package} {version(package)}")
        except PackageNotFoundError:
            yield Check(package, False, f"{package} is not installed; {use} need it", f"`pip install {package}`")


def _program(name: str, command: list[str]) -> Check:
    """Return whether a program runs here: a wheel for another C library is installed, but does not."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Check(name, False, f"{command[0]} does not run: {error}", f"`pip install --force-reinstall {name}`")
    return Check(name, True, answer.stdout.strip())


def _rights() -> Iterator[Check]:
    """Yield what the kernel lets us do to processes in general."""
    scope_file = Path("/proc/sys/kernel/yama/ptrace_scope")
    powerful = permission._may_ptrace()
    user = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
    yield Check(
        "capability",
        True if powerful else None,
        f"{user}, {'with' if powerful else 'without'} CAP_SYS_PTRACE",
        "" if powerful else "Only your own processes can be recorded; others with `sudo perfkit ...`.",
    )
    if not scope_file.exists():
        yield Check("ptrace_scope", True, "this kernel has no Yama: own processes can be attached to")
        return
    scope = int(scope_file.read_text("ascii"))
    free = scope == 0 or (powerful and scope < 3)
    yield Check(
        "ptrace_scope",
        free,
        f"kernel.yama.ptrace_scope={scope}",
        "" if free else "`sudo sysctl kernel.yama.ptrace_scope=0`, or start the program with `perfkit record -- ...`.",
    )


def _kernel() -> Check:
    """Return whether a Jupyter kernel starts, as it must for a report."""
    from jupyter_client.manager import start_new_kernel

    try:
        manager, client = start_new_kernel(startup_timeout=30, kernel_name="python3")
    except (RuntimeError, OSError, LookupError) as error:
        return Check("kernel", False, f"no Jupyter kernel starts: {error}", "`pip install --force-reinstall ipykernel`")
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    return Check("kernel", True, "a Jupyter kernel starts")


def _target(pid: int) -> Iterator[Check]:
    """Yield what recording this process would meet."""
    try:
        target = inspect(pid)
    except PerfkitError as error:
        yield Check("process", False, str(error), error.hint)
        return
    yield Check("process", True, f"{target.program} runs Python {target.version}, started by process {target.parent}")
    yield _attach(target)
    for name, collector in collectors().items():
        problem = collector.problem(target)
        if problem is not None:
            yield Check(name, False, str(problem), getattr(problem, "hint", ""))
        elif collector.group == "cpu" and (caution := pyspy.caution(target)):
            yield Check(name, None, caution, "Compare its samples with process_stats, or use a lower rate_hz.")
        else:
            yield Check(name, True, WORKS)
    yield Check(
        "namespace",
        True if target.in_our_mount_namespace else None,
        "it sees the same files as we do" if target.in_our_mount_namespace else "it lives in another container",
        "" if target.in_our_mount_namespace else "Paths in the profile are those inside the container.",
    )
    yield _limit(pid)


def _attach(target: Target) -> Check:
    """Return whether code could be put into the process."""
    problem = permission.preflight(target)
    if problem is not None:
        return Check("attach", False, str(problem), getattr(problem, "hint", ""))
    return Check("attach", True, "perfkit may enter it")


def _limit(pid: int) -> Check:
    """Return how much memory the process may use."""
    group = memory_cgroup(pid)
    if group is None:
        return Check("memory limit", None, "no memory cgroup can be seen: when memory runs out is not foretold")
    reading = group.read()
    used = "" if reading.used_bytes is None else f"{reading.used_bytes // _MIB:,} MiB used, "
    limit = "no limit" if reading.limit_bytes is None else f"limit {reading.limit_bytes // _MIB:,} MiB"
    return Check("memory limit", True, f"{used}{limit} (cgroup version {group.version})")
