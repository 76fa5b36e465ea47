"""Reads what only the inside of a process knows of its memory: the interpreter's blocks and the C library's heap."""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_MAX_SHARE = 0.005
"""Part of the time for which the C library's heap may be locked to be counted: rarer when it takes longer."""

_RESIDENT = ((b"\nVmRSS:", "rss"), (b"\nRssAnon:", "anon"), (b"\nRssFile:", "file"), (b"\nRssShmem:", "shmem"))
_ALLOCATORS = (b"jemalloc", b"tcmalloc", b"mimalloc", b"snmalloc", b"hoard")


class Recorder:
    """Reads the ledger every so often."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._cpu_ns = 0
        self._mallinfo_due = 0.0

    def start(self, every_s: float = 1.0) -> dict[str, Any]:
        """Start; return why the C library is not asked, if it is not."""
        began_ns = time.thread_time_ns()
        self._mallinfo, reason = _mallinfo()
        self._probe.spawn(self._run(every_s))
        self._cpu_ns += time.thread_time_ns() - began_ns
        return {"monotonic_ns": time.monotonic_ns(), "every_s": every_s, "no_mallinfo": reason}

    def stop(self) -> dict[str, Any]:
        """Return what it cost."""
        self._mallinfo = None
        return {"monotonic_ns": time.monotonic_ns(), "cost_ns": self._cpu_ns}

    def _run(self, every_s: float) -> Iterator[float]:
        """Send one row per reading; a reading that was missed is left out, so that the schedule never drifts."""
        due = time.monotonic()
        while True:
            began_ns = time.thread_time_ns()
            self._probe.emit(self._read())
            self._cpu_ns += time.thread_time_ns() - began_ns
            now = time.monotonic()
            due += every_s * max(1, -(-(now - due) // every_s))
            yield max(0.0, due - now)

    def _read(self) -> dict[str, int | None]:
        """Return one reading: all of it from the same few hundred microseconds."""
        row: dict[str, int | None] = {"at": time.monotonic_ns(), "blocks": sys.getallocatedblocks()}
        began = time.monotonic()
        if self._mallinfo is not None and began >= self._mallinfo_due:
            row["in_use"], row["retained"] = self._mallinfo()
            took = time.monotonic() - began
            self._mallinfo_due = began + took / _MAX_SHARE if took > _MAX_SHARE else 0.0
        status = _content("/proc/self/status")
        for line, name in _RESIDENT:
            row[name] = int(status.partition(line)[2].split(None, 1)[0]) * 1024
        return row


def _mallinfo() -> tuple[Callable[[], tuple[int, int]] | None, str | None]:
    """Return a function that returns bytes in use and bytes kept by the C library's malloc; or None and why not."""
    if any(name in _content("/proc/self/maps") for name in _ALLOCATORS):
        return None, "the process uses another allocator than the C library's"
    # `_ctypes` alone: importing `ctypes` takes milliseconds and leaves several modules behind.
    had = "_ctypes" in sys.modules
    try:
        c = __import__("_ctypes")
        address = c.dlsym(c.dlopen(None, 0), "mallinfo2")
    except ImportError:
        return None, "the interpreter was built without ctypes"
    except OSError:
        return None, "the C library has no mallinfo2 (glibc before 2.33, or another library)"
    finally:
        if not had:
            sys.modules.pop("_ctypes", None)
    number = type("size_t", (c._SimpleCData,), {"_type_": "L"})
    # Source: https://man7.org/linux/man-pages/man3/mallinfo.3.html
    names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    answer = type("mallinfo2", (c.Structure,), {"_fields_": [(name, number) for name in names]})
    # Without FUNCFLAG_PYTHONAPI the GIL is free while malloc's arenas are walked.
    kind = type("function", (c.CFuncPtr,), {"_flags_": c.FUNCFLAG_CDECL, "_restype_": answer})
    function: Callable[[], Any] = kind(address)

    def read() -> tuple[int, int]:
        info = function()
        return _value(info.uordblks) + _value(info.hblkhd), _value(info.fordblks)

    return read, None


def _value(number: Any) -> int:
    """Return a field of a structure, which is a number or, being of a type of ours, holds one."""
    return int(getattr(number, "value", number))


def _content(file: str) -> bytes:
    """Return the bytes of a file of /proc, without the machinery of `open`."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        parts = []
        while part := os.read(descriptor, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)
