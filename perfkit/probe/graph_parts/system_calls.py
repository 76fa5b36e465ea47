"""System calls with the GIL held: what a copy of the process may use, where nobody would give the GIL back to it."""

from __future__ import annotations

import os
import sys
from array import array

_NUMBERS = {
    "x86_64": {
        "clone": 56, "write": 1, "close": 3, "dup3": 292, "close_range": 436, "prctl": 157, "setpriority": 141,
        "prlimit64": 302, "exit_group": 231, "openat": 257, "nanosleep": 35, "process_vm_readv": 310,
    },
    "aarch64": {
        "clone": 220, "write": 64, "close": 57, "dup3": 24, "close_range": 436, "prctl": 167, "setpriority": 140,
        "prlimit64": 261, "exit_group": 94, "openat": 56, "nanosleep": 101, "process_vm_readv": 270,
    },
}  # fmt: skip
"""Source: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h of Linux."""

_ARGUMENTS = 6


class SystemCalls:
    """Makes system calls by name: `calls("close", 3)` returns what libc's `syscall` does, -1 for an error.

    Raises:
        KeyError: the numbers of this machine's calls are not known.
        ImportError: the interpreter was built without ctypes.
    """

    def __init__(self) -> None:
        self._numbers = _NUMBERS[os.uname().machine]
        had = "_ctypes" in sys.modules
        c = __import__("_ctypes")
        try:
            long_ = type("perfkit probe long", (c._SimpleCData,), {"_type_": "l"})
            flags = c.FUNCFLAG_CDECL | c.FUNCFLAG_PYTHONAPI
            function = type("perfkit probe function", (c.CFuncPtr,), {"_flags_": flags, "_restype_": long_})
            self._call = function(c.dlsym(c.dlopen(None, 0), "syscall"))
            self._call.argtypes = (long_,) * (1 + _ARGUMENTS)
        finally:
            if not had:
                sys.modules.pop("_ctypes", None)

    def __call__(self, name: str, *arguments: int) -> int:
        """Make one call, with at most six arguments."""
        result: int = self._call(self._numbers[name], *arguments, *(0,) * (_ARGUMENTS - len(arguments)))
        return result


class Memory:
    """Reads memory of this process; an address where there is nothing is no crash.

    Raises:
        KeyError, ImportError: as for `SystemCalls`.
    """

    def __init__(self) -> None:
        self._call = SystemCalls()
        self._value, self._from = array("Q", (0,)), array("Q", (0, 8))
        self._to = array("Q", (self._value.buffer_info()[0], 8))
        self._vectors = self._to.buffer_info()[0], self._from.buffer_info()[0]

    def word(self, address: int) -> int:
        """Return the eight bytes at an address as a number; 0 where they cannot be read."""
        self._from[0] = address
        to, from_ = self._vectors
        return self._value[0] if self._call("process_vm_readv", os.getpid(), to, 1, from_, 1) == 8 else 0
