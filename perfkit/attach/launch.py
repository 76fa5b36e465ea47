"""The only place that starts a program with the probe in it: no ptrace rights needed."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from typing import IO

from perfkit.attach.errors import NoSuchProcess, NotPython, TargetGone
from perfkit.attach.rendezvous import rendezvous
from perfkit.attach.session import Session
from perfkit.attach.target import Target, children, inspect
from perfkit.errors import CannotRecord

_POLL_S = 0.1


class CommandFailed(CannotRecord):
    """A command could not be started, or ended before there was anything to record."""

    hint = "Run the command by itself first; after `--` it stands as you would type it in a shell."

    def __init__(self, command: Sequence[str], why: str) -> None:
        super().__init__(f"{command[0]}: {why}")
        self.command = tuple(command)


@contextmanager
def launch(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
    timeout_s: float = 10.0,
    end_wait_s: float = 10.0,
) -> Iterator[tuple["subprocess.Popen[bytes]", Session]]:
    """Yield `(process, session)` of a command, with the probe in the first Python it starts.

    `session.target` is that Python, which is another process than `process` where the command
    is a wrapper. The probe comes in through a `sitecustomize` that steps aside again; if the
    interpreter is told to ignore it (`python -I`, `-S`), it is attached to like any other. At
    the end a command that still runs is asked to end with SIGTERM, and never killed.

    Args:
        command: program and arguments.
        env: its environment; None: ours.
        output: where what it says goes; None: where ours goes.
        timeout_s: how long Python may take to start.
        end_wait_s: how long to wait for it after SIGTERM.

    Raises:
        CommandFailed: it cannot be started, or ended before Python was up.
        NotPython: it runs no Python.
        AttachDenied, ...: it ignores `sitecustomize` and cannot be attached to.
    """
    environment = dict(os.environ if env is None else env)
    startup = str(resources.files("perfkit.probe").joinpath("startup"))
    if "PYTHONPATH" in environment:
        environment["PERFKIT_PYTHONPATH"] = environment["PYTHONPATH"]
        environment["PYTHONPATH"] = startup + os.pathsep + environment["PYTHONPATH"]
    else:
        environment["PYTHONPATH"] = startup
    with rendezvous(None) as meeting:
        environment["PERFKIT_BOOTSTRAP"] = meeting.bootstrap
        try:
            process = subprocess.Popen(list(command), env=environment, stdout=output, stderr=output)
        except OSError as error:
            raise CommandFailed(command, error.strerror or str(error)) from error
        try:
            until = time.monotonic() + timeout_s
            met = None
            while met is None and process.poll() is None and time.monotonic() < until:
                met = meeting.accept(None, _POLL_S)
            if met is None and process.poll() is not None:
                raise CommandFailed(
                    command, f"it ended with exit code {process.returncode} before it could be recorded"
                )
            if met is not None:
                try:
                    session = Session(inspect(met[1]), met[0], method="launched", stopped_ns=0)
                except NoSuchProcess:
                    raise CommandFailed(command, "it ended before it could be recorded") from None
            else:
                session = Session.open(_python_of(process.pid))
            try:
                with session:
                    yield process, session
            finally:
                # A shell that ran it as a child does not pass the signal on.
                if session.target.pid != process.pid and session.target.is_alive():
                    os.kill(session.target.pid, signal.SIGTERM)
        finally:
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(end_wait_s)


def _python_of(pid: int) -> Target:
    """Return the Python process that a command is or has started."""
    try:
        return inspect(pid)
    except NotPython:
        below = children(pid)
        if not below:
            raise
        return below[0]
    except NoSuchProcess:
        raise TargetGone(pid) from None
