"""Calls C functions in another process, through ptrace; run as a program of its own.

Why not gdb: gdb 13 fails on processors with AMX (`Couldn't write extended state status: Bad
address`) and then leaves the target with a broken system call, of which it dies. And gdb
holds all threads for 80-600 ms; this holds one thread for about a millisecond.

A program of its own, because from the first call until the registers are restored it must not
be interrupted: it runs in its own session, ignores signals that ask it to end, prints only
after it has let go, and finishes when the recorder that started it has died. It is standard
library only and imports nothing of perfkit.

Usage: `python -I -S injector.py` with a JSON request on standard input, a JSON answer on
standard output; see `inject`.

Source: https://man7.org/linux/man-pages/man2/ptrace.2.html
"""

import ctypes
import errno
import json
import os
import signal
import sys
import time
from typing import Any

_CONT, _DETACH, _GETREGSET, _SETREGSET, _SEIZE, _INTERRUPT = 7, 17, 0x4204, 0x4205, 0x4206, 0x4207
_NT_PRSTATUS, _NT_X86_XSTATE = 1, 0x202
_WALL = 0x40000000
_REGISTERS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi",
    "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
)  # fmt: skip
_CS_64_BIT = 0x33
_DIRECTION_AND_TRAP = 0x500
_RED_ZONE_BYTES = 128
_SPARE_BYTES = 1024
_FUTEX = 202
_MASK = (1 << 64) - 1
RETURN_ADDRESS = 0x10
"""Where calls return to: a place nobody may map, so that the kernel stops the thread there."""


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size_bytes", ctypes.c_size_t))


class _Registers(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in _REGISTERS)


class Gone(Exception):
    """The target ended."""


class TookTooLong(Exception):
    """The target did not stop, or a call in it did not return, in time."""


class Moved(Exception):
    """The thread is not where it was when it was decided to enter it there."""


class Crashed(Exception):
    """A call in the target raised a fatal signal; the target was put back to where it was."""


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def _ptrace(request: int, pid: int, address: int | None = None, data: Any = None) -> None:
    """Do one ptrace request.

    Raises:
        Gone: there is no such thread any more.
        OSError: the kernel refused.
    """
    if _libc.ptrace(request, pid, address, data) == -1:
        code = ctypes.get_errno()
        if code == errno.ESRCH:
            raise Gone
        raise OSError(code, os.strerror(code))


class Held:
    """The main thread of a process, stopped; `release` puts it back to where it was."""

    def __init__(self, pid: int, limit_s: float) -> None:
        self.pid = pid
        self.limit_s = limit_s
        self.since_ns = 0
        _ptrace(_SEIZE, pid)
        self.since_ns = time.monotonic_ns()
        _ptrace(_INTERRUPT, pid)
        # A signal that was on its way comes first; it is delivered, our stop follows.
        while (number := self._wait()) is not None:
            _ptrace(_CONT, pid, None, number)
        self._registers = self._get_registers()
        # The whole extended state: a called function may use any vector register.
        self._extended = ctypes.create_string_buffer(1 << 16)
        vector = _Vector(ctypes.addressof(self._extended), len(self._extended))
        _ptrace(_GETREGSET, pid, _NT_X86_XSTATE, ctypes.byref(vector))
        self._extended_bytes = vector.size_bytes
        if self._registers.cs != _CS_64_BIT:
            self.release()
            raise OSError(errno.ENOEXEC, "not a 64-bit process")

    def expect(self, system_call: int, stack_pointer: int) -> None:
        """Make sure that the thread is in this system call, at this place of its stack.

        Raises:
            Moved: it is not.
        """
        if (self._registers.orig_rax, self._registers.rsp) != (system_call, stack_pointer):
            raise Moved

    def write(self, address: int, data: bytes) -> None:
        """Write into its memory."""
        descriptor = os.open(f"/proc/{self.pid}/mem", os.O_WRONLY)
        try:
            os.pwrite(descriptor, data, address)
        finally:
            os.close(descriptor)

    def call(self, function: int, *arguments: int) -> int:
        """Call a function in the thread, with up to six integers; return what it returns.

        Raises:
            TookTooLong: it did not return; the thread may be released all the same.
            Crashed: it raised a fatal signal.
            Gone: the process ended.
        """
        registers = _Registers.from_buffer_copy(self._registers)
        # Below the red zone, aligned as at a function's first instruction.
        registers.rsp = ((self._registers.rsp - _RED_ZONE_BYTES - _SPARE_BYTES) & -16) - 8
        self.write(registers.rsp, RETURN_ADDRESS.to_bytes(8, "little"))
        for name, value in zip(("rdi", "rsi", "rdx", "rcx", "r8", "r9"), arguments, strict=False):
            setattr(registers, name, value & _MASK)
        registers.rip = function
        registers.rax = 0
        # Not in a system call any more: else the kernel would restart the one it interrupted.
        registers.orig_rax = _MASK
        registers.eflags &= ~_DIRECTION_AND_TRAP
        self._set_registers(registers)
        _ptrace(_CONT, self.pid)
        until = time.monotonic() + self.limit_s
        while True:
            number = self._wait(until)
            registers = self._get_registers()
            if number == signal.SIGSEGV and registers.rip == RETURN_ADDRESS:
                return int(registers.rax)
            if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE):
                raise Crashed(signal.Signals(number).name)
            _ptrace(_CONT, self.pid, None, number or 0)

    def release(self) -> int:
        """Put every register back, let the thread go, and return for how long it was held, nanoseconds."""
        self._set_registers(self._registers)
        vector = _Vector(ctypes.addressof(self._extended), self._extended_bytes)
        _ptrace(_SETREGSET, self.pid, _NT_X86_XSTATE, ctypes.byref(vector))
        _ptrace(_DETACH, self.pid)
        return time.monotonic_ns() - self.since_ns

    def _wait(self, until: float | None = None) -> int | None:
        """Wait for it to stop; return the signal that is about to be delivered, None for our own stop.

        Raises:
            TookTooLong: it did not; it is stopped now nevertheless if it was in a call.
        """
        calling = until is not None
        until = time.monotonic() + self.limit_s if until is None else until
        spins = 0
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG | _WALL)
            if pid:
                break
            if time.monotonic() > until:
                if calling:
                    self._interrupt_call()
                raise TookTooLong
            spins += 1
            time.sleep(0 if spins < 50 else 0.0002)
        if not os.WIFSTOPPED(status):
            raise Gone
        return None if status >> 16 else os.WSTOPSIG(status)

    def _interrupt_call(self) -> None:
        """Stop a call that does not return, at a moment when it may be abandoned: while it waits.

        A thread that runs may hold a lock of the interpreter for some microseconds; one that
        sleeps in futex() does not hold the lock it waits for.
        """
        for _attempt in range(1000):
            _ptrace(_INTERRUPT, self.pid)
            while True:
                _pid, status = os.waitpid(self.pid, _WALL)
                if not os.WIFSTOPPED(status):
                    raise Gone
                if status >> 16:
                    break
                _ptrace(_CONT, self.pid, None, os.WSTOPSIG(status))
            if self._get_registers().orig_rax == _FUTEX:
                return
            _ptrace(_CONT, self.pid)
            time.sleep(0.001)
        _ptrace(_INTERRUPT, self.pid)
        os.waitpid(self.pid, _WALL)

    def _get_registers(self) -> _Registers:
        registers = _Registers()
        vector = _Vector(ctypes.addressof(registers), ctypes.sizeof(registers))
        _ptrace(_GETREGSET, self.pid, _NT_PRSTATUS, ctypes.byref(vector))
        return registers

    def _set_registers(self, registers: _Registers) -> None:
        vector = _Vector(ctypes.addressof(registers), ctypes.sizeof(registers))
        _ptrace(_SETREGSET, self.pid, _NT_PRSTATUS, ctypes.byref(vector))


def queue(held: Held, functions: dict[str, int], source: bytes) -> int:
    """Let the main thread run `source` as soon as it executes bytecode; needs neither GIL nor heap."""
    # PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
    buffer = held.call(functions["mmap"], 0, len(source), 3, 0x22, -1, 0)
    if buffer > _MASK - 4096:
        raise MemoryError("mmap failed in the target")
    held.write(buffer, source)
    return held.call(functions["Py_AddPendingCall"], functions["PyRun_SimpleString"], buffer)


def run(held: Held, functions: dict[str, int], source: bytes) -> int:
    """Run `source` in the main thread now; it must be blocked in a system call, without the GIL."""
    buffer = held.call(functions["mmap"], 0, len(source), 3, 0x22, -1, 0)
    if buffer > _MASK - 4096:
        raise MemoryError("mmap failed in the target")
    held.write(buffer, source)
    state = held.call(functions["PyGILState_Ensure"])
    result = held.call(functions["PyRun_SimpleString"], buffer)
    held.call(functions["PyGILState_Release"], state & 0xFFFFFFFF)
    held.call(functions["munmap"], buffer, len(source))
    return result


def inject(request: dict[str, Any]) -> dict[str, Any]:
    """Return what became of a request: `{"outcome": ..., "stopped_ns": ..., "detail": ...}`.

    Args:
        request: `pid`; `functions`, addresses in the target; `source`, Python text; `limit_s` for one
            call; `blocked_in`, None or `[system call, stack pointer]`, where the main thread sleeps.

    Returns:
        `outcome` is done, gone, refused, moved, too_long, crashed or failed.
    """
    source = request["source"].encode() + b"\0"
    started_ns = time.monotonic_ns()
    stopped_ns = 0
    try:
        held = Held(request["pid"], request["limit_s"])
    except Gone:
        return {"outcome": "gone", "stopped_ns": 0, "detail": ""}
    except TookTooLong:
        return {"outcome": "too_long", "stopped_ns": time.monotonic_ns() - started_ns, "detail": "it does not stop"}
    except OSError as error:
        return {"outcome": "refused", "stopped_ns": 0, "detail": f"{error.strerror}"}
    outcome, detail = "done", ""
    try:
        if request["blocked_in"]:
            held.expect(*request["blocked_in"])
            result = run(held, request["functions"], source)
        else:
            result = queue(held, request["functions"], source)
        if result:
            outcome, detail = "failed", f"the interpreter answered {result}"
    except Moved:
        outcome = "moved"
    except TookTooLong:
        outcome, detail = "too_long", "a call did not return"
    except (Crashed, OSError, MemoryError) as error:
        outcome, detail = "crashed", str(error)
    except Gone:
        return {"outcome": "gone", "stopped_ns": time.monotonic_ns() - held.since_ns, "detail": ""}
    try:
        stopped_ns = held.release()
    except Gone:
        outcome = "gone"
    return {"outcome": outcome, "stopped_ns": stopped_ns, "detail": detail}


def main() -> None:
    """Read a request, carry it out, print the answer."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    answer = inject(json.load(sys.stdin))
    try:
        sys.stdout.write(json.dumps(answer))
        sys.stdout.flush()
    except OSError:
        os._exit(0)  # whoever asked is gone; the target is free already


if __name__ == "__main__":
    main()
