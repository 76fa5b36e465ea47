"""A copy of the process that does some work in peace, made without anyone noticing.

The copy is made by the bare `clone` system call, not by `os.fork()`, because of what a fork does
to others:

* Hooks of `os.register_at_fork` run the application's code in both processes; C libraries' hooks
  stop their threads (OpenBLAS) or wait for running calls (gRPC). `clone` runs none of them.
* `PyOS_AfterFork_Child` throws away the other threads' states, which finalizes what their locals
  and thread-locals hold: a database connection would say goodbye on a socket that the target uses.
* An exit signal of 0 instead of SIGCHLD: no handler of the target is called, and a supervisor's
  `waitpid(-1)` neither sees nor reaps the copy. We reap it ourselves, with `__WALL`.

What the copy must do without in return: it never lets go of the GIL (the lock's condition
variables count threads that are gone, and wait for them), thus every system call goes through
`_ctypes` with the GIL held, and nothing that lets go of it by itself is used, such as joining a
MiB of bytes; it does not collect garbage, import, or take locks. The memory allocator's locks may
have been held by a thread without the GIL: then the copy hangs, is ended, and slices take over.
Tracers that write to shared memory, such as memray, must be off: then slices are used, too.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from array import array
from contextlib import suppress

from perfkit.probe.graph_parts.blocks import block
from perfkit.probe.graph_parts.system_calls import SystemCalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Work = Callable[[Callable[[Any], None], dict[int, Any]], None]
    """Gets a function that writes to the copy's file, and the frame that each thread was at."""

_LONGEST_REST_NS = 500_000_000
_WALL = 0x40000000
_NICE = 10
"""A tenth of what the target gets where they compete; at 19 a busy machine would let it wait for minutes."""


class Copy:
    """A child process that is a copy of this one, with this thread only; see the module's docstring."""

    def __init__(self, share: float, interval_s: float) -> None:
        self._call = SystemCalls()
        self.pid = self.made_ns = self.signal = 0
        self.why: str | None = None
        self.stopped_ns = 0
        self._share, self._rested_ns = share, time.monotonic_ns()
        self._interval_s = interval_s

    @property
    def rests(self) -> bool:
        """Whether it sleeps between two pieces of work."""
        return self._share < 1

    def make(self, work: Work, descriptor: int, cpu_s: float) -> Iterator[float]:
        """Make the copy and let it do the work; `pid` is 0 if there is none, and `why` says why not."""
        interval_s = sys.getswitchinterval()
        try:
            # A thread that waits for the GIL asks for it once per interval, and the copy must not be
            # born with that request: nobody is left to take it. After this rest, which lets everyone
            # have the GIL, the longer interval holds for all who wait, and it begins anew. Where it
            # passes all the same, on a busy machine or while a large process is copied, the copy
            # stands still from the start, and another one is made with a longer interval.
            sys.setswitchinterval(max(interval_s, self._interval_s))
            yield 2 * min(interval_s, self._interval_s) + 0.001
            began_ns = self.made_ns = time.monotonic_ns()
            collects = gc.isenabled()
            # Signals to the process group must not reach the copy: their handlers write to a descriptor.
            mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
            try:
                gc.disable()
                threads = sys._current_frames()
                pid = self._call("clone")
                if pid == 0:
                    self._be_the_copy(work, descriptor, cpu_s, threads)
                threads.clear()
            finally:
                if collects:
                    gc.enable()
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self.stopped_ns = time.monotonic_ns() - began_ns
            if pid < 0:
                self.why = "no permission, no process or no memory left"
            self.pid = max(0, pid)
        finally:
            sys.setswitchinterval(interval_s)

    def _be_the_copy(self, work: Work, descriptor: int, cpu_s: float, threads: dict[int, Any]) -> None:
        """Do the work and end; runs in the copy only, and never returns."""
        call = self._call
        code = 1
        try:
            call("prctl", 1, 9)  # PR_SET_PDEATHSIG, SIGKILL: never outlive the probe's thread
            call("dup3", descriptor, 0)
            if call("close_range", 1, 0xFFFFFFFF):
                for number in range(1, 65536):
                    call("close", number)
            call("setpriority", 0, 0, _NICE)
            name = array("B", b"perfkit-graph\0")
            call("prctl", 15, name.buffer_info()[0])
            for limit, value in ((4, 0), (0, max(1, int(cpu_s)))):  # no core dump; so many seconds of CPU
                values = array("Q", (value, value))
                call("prlimit64", 0, limit, values.buffer_info()[0])
            self._be_the_first_to_go()
            work(self._put, threads)
            code = 0
        except BaseException as error:  # noqa: BLE001 - whatever it is must not reach the application's code
            self._put(block("X", f"{type(error).__name__}: {error}".encode("utf-8", "replace")))
        finally:
            while True:
                call("exit_group", code)

    def _be_the_first_to_go(self) -> None:
        """When memory runs out, the kernel should end the copy rather than the target."""
        path = array("B", b"/proc/self/oom_score_adj\0")
        score = array("B", b"1000")
        number = self._call("openat", -100, path.buffer_info()[0], os.O_WRONLY)
        if number >= 0:
            self._call("write", number, score.buffer_info()[0], len(b"1000"))
            self._call("close", number)

    def _put(self, data: Any) -> None:
        """Write bytes to the copy's only descriptor, with the GIL held."""
        buffer = array("B", data)
        address, left = buffer.buffer_info()
        while left:
            written = self._call("write", 0, address, left)
            if written <= 0:
                raise OSError("cannot write")
            address, left = address + written, left - written
        self._rest()

    def _rest(self) -> None:
        """Sleep in proportion to the work since the last rest, where the target pays for our CPU time."""
        worked_ns = time.monotonic_ns() - self._rested_ns
        if self._share < 1:
            rest = array("q", (0, min(_LONGEST_REST_NS, int(worked_ns * (1 / self._share - 1)))))
            self._call("nanosleep", rest.buffer_info()[0])
        self._rested_ns = time.monotonic_ns()

    def is_done(self) -> bool:
        """Whether the copy has ended; `why` is None if it did all of its work."""
        if self.pid:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG | _WALL)
            except ChildProcessError:
                self.pid, self.why = 0, self.why or "somebody else waited for it"
                return True
            if not pid:
                return False
            self.pid, self.signal = 0, status & 0x7F
            if status and self.why is None:
                self.why = f"it ended with status {status}"
        return True

    def is_running(self) -> bool:
        """Whether the copy runs, would if it were its turn, or waits for a disk: it has nothing else to wait for."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:  # noqa: PTH123
                return file.read().rpartition(b") ")[2][:1] in b"RDZX"
        except OSError:
            return True

    def end(self, why: str | None = None) -> None:
        """End the copy if it still runs, and wait for it."""
        if self.pid and not self.is_done():
            self.why = why or "it was not needed any more"
            os.kill(self.pid, 9)
            with suppress(ChildProcessError):
                os.waitpid(self.pid, _WALL)
            self.pid = 0
