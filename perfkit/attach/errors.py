"""The only place for the reasons why perfkit cannot get into a process, each with its remedy."""

from perfkit.errors import CannotRecord


class NoSuchProcess(CannotRecord, ProcessLookupError):
    """No process has this id."""

    hint = "List the Python processes with `pgrep -a python`, then try again with one of their ids."

    def __init__(self, pid: int) -> None:
        super().__init__(f"there is no process {pid}")
        self.pid = pid


class ZombieProcess(CannotRecord):
    """The process has ended and only waits for its parent to notice."""

    def __init__(self, pid: int, parent: int) -> None:
        super().__init__(f"process {pid} has ended already (zombie)")
        self.hint = f"Its parent is process {parent}; look there for a replacement: `pgrep -a -P {parent}`."
        self.pid = pid
        self.parent = parent


class NotPython(CannotRecord):
    """The process does not run a Python interpreter."""

    def __init__(self, pid: int, program: str, children: tuple[int, ...] = ()) -> None:
        super().__init__(f"process {pid} ({program}) is not a Python process")
        if children:
            self.hint = f"It has Python below it: try `perfkit record --pid {children[0]}`."
        else:
            self.hint = (
                "Name the process of the interpreter itself: `pgrep -a python` lists them. "
                "Sockets and process figures of any program: `--collect sockets,process`."
            )
        self.pid = pid
        self.program = program
        self.children = children


class UnsupportedInterpreter(CannotRecord):
    """The interpreter is one that perfkit cannot get into."""

    def __init__(self, pid: int, version: str, reason: str, *, hint: str) -> None:
        super().__init__(f"process {pid} runs Python {version}: {reason}", hint=hint)
        self.pid = pid
        self.version = version


class AttachDenied(CannotRecord, PermissionError):
    """The kernel refuses to let us look into the process."""

    def __init__(self, pid: int, *, why: str, hint: str) -> None:
        super().__init__(f"cannot attach to process {pid}: {why}", hint=hint)
        self.pid = pid


class AlreadyTraced(CannotRecord):
    """Another debugger or tracer holds the process; two at once would hurt it."""

    def __init__(self, pid: int, tracer_pid: int, tracer: str) -> None:
        super().__init__(f"process {pid} is held by {tracer} (process {tracer_pid}) already")
        self.hint = f"Wait until {tracer} is done, or end it with `kill -INT {tracer_pid}`."
        self.pid = pid
        self.tracer_pid = tracer_pid
        self.tracer = tracer


class SuspendedProcess(CannotRecord):
    """The process was suspended (SIGSTOP, Ctrl-Z) and runs nothing at all."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"process {pid} is suspended")
        self.hint = f"Let it go on with `kill -CONT {pid}`, then try again."
        self.pid = pid


class AttachTimeout(CannotRecord, TimeoutError):
    """The process did not run our code in time; it was left as it was."""

    def __init__(self, pid: int, timeout_s: float, why: str) -> None:
        super().__init__(f"process {pid} did not answer within {timeout_s:g} s: {why}")
        self.hint = f"See where it hangs with `py-spy dump --nonblocking --pid {pid}`, then try again."
        self.pid = pid
        self.timeout_s = timeout_s


class TargetGone(CannotRecord):
    """The process ended, or let go of the probe, while perfkit was using it."""

    hint = "What was recorded until then is kept; `perfkit check DIR` reads it."

    def __init__(self, pid: int) -> None:
        super().__init__(f"process {pid} is gone")
        self.pid = pid


class ProbeSilent(TargetGone):
    """The process lives, but the probe in it did not answer in time; treat it as gone."""

    hint = "Its interpreter may be held up by one long call; see where with `py-spy dump --nonblocking --pid PID`."

    def __init__(self, pid: int, timeout_s: float) -> None:
        super().__init__(pid)
        self.args = (f"the probe in process {pid} did not answer within {timeout_s:g} s",)
        self.timeout_s = timeout_s


class ProbeFailed(CannotRecord):
    """The probe inside the target answered with an error."""

    def __init__(self, pid: int, recorder: str, kind: str, message: str) -> None:
        super().__init__(f"{recorder} in process {pid}: {message or kind}")
        self.pid = pid
        self.recorder = recorder
        self.kind = kind
