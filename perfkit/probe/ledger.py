"""Reads what only the inside of a process knows of its memory: Python's blocks and arenas, the C library's heap.

The interpreter prints the state of its arenas to a C stream: it gets one of ours, which no file is behind.
"""

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
_MAX_HELD_SHARE = 0.002
"""Part of the time for which the interpreter may be held up to walk its arenas: 0.4 ms for a million blocks."""
_SLOW_S = 0.005
"""What takes less is asked every time."""

_RESIDENT = ((b"\nVmRSS:", "rss"), (b"\nRssAnon:", "anon"), (b"\nRssFile:", "file"), (b"\nRssShmem:", "shmem"))
_ALLOCATORS = (b"jemalloc", b"tcmalloc", b"mimalloc", b"snmalloc", b"hoard")


class Recorder:
    """Reads the ledger every so often."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._cpu_ns = 0
        self._due: dict[float, float] = {}
        self._mallinfo: Callable[[], tuple[int, ...] | None] | None = None
        self._arenas: Callable[[], tuple[int, ...] | None] | None = None

    def start(self, every_s: float = 1.0) -> dict[str, Any]:
        """Start; return why the C library, or the interpreter's own allocator, is not asked, if it is not."""
        began_ns = time.thread_time_ns()
        self._mallinfo, reason = _in_c(_mallinfo)
        self._arenas, no_arenas = _in_c(_arenas)
        self._probe.spawn(self._run(every_s))
        self._cpu_ns += time.thread_time_ns() - began_ns
        return {"monotonic_ns": time.monotonic_ns(), "every_s": every_s, "no_mallinfo": reason, "no_arenas": no_arenas}

    def stop(self) -> dict[str, Any]:
        """Return what it cost."""
        self._mallinfo = self._arenas = None
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
        if self._mallinfo is not None and (answer := self._sparing(self._mallinfo, _MAX_SHARE)):
            row["in_use"], row["retained"] = answer
        if self._arenas is not None and (arenas := self._sparing(self._arenas, _MAX_HELD_SHARE)):
            row["arenas"], row["arenas_in_use"], row["arenas_free"] = arenas
        status = _content("/proc/self/status")
        for line, name in _RESIDENT:
            row[name] = int(status.partition(line)[2].split(None, 1)[0]) * 1024
        return row

    def _sparing(self, ask: Callable[[], tuple[int, ...] | None], share: float) -> tuple[int, ...] | None:
        """Return an answer, None when asking again so soon would take more than a share of the time."""
        now, began = time.monotonic(), time.thread_time()
        if now < self._due.get(share, 0.0):
            return None
        answer = ask()
        took = time.thread_time() - began
        self._due[share] = now + took / share if took > _SLOW_S else 0.0
        return answer


def _in_c(make: Callable[[Any], Any]) -> tuple[Any, str | None]:
    """Return what `make` makes of `_ctypes`, or None and why not; leaves the module as it was."""
    # `_ctypes` alone: importing `ctypes` takes milliseconds and leaves several modules behind.
    had = "_ctypes" in sys.modules
    try:
        return make(__import__("_ctypes")), None
    except ImportError:
        return None, "the interpreter was built without ctypes"
    except LookupError as error:
        return None, str(error.args[0])
    finally:
        if not had:
            sys.modules.pop("_ctypes", None)


def _mallinfo(c: Any) -> Callable[[], tuple[int, int]]:
    """Return a function that returns bytes in use and bytes kept by the C library's malloc."""
    if any(name in _content("/proc/self/maps") for name in _ALLOCATORS):
        raise LookupError("the process uses another allocator than the C library's")
    try:
        address = c.dlsym(c.dlopen(None, 0), "mallinfo2")
    except OSError:
        raise LookupError("the C library has no mallinfo2 (glibc before 2.33, or another library)") from None
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

    return read


def _arenas(c: Any) -> Callable[[], tuple[int, int, int] | None]:
    """Return a function that returns the bytes of the interpreter's arenas: all, in allocated blocks, in free ones."""
    if "t" in sys.abiflags:
        raise LookupError("without the GIL the interpreter has another allocator")
    pointer = type("pointer", (c._SimpleCData,), {"_type_": "P"})
    number = type("number", (c._SimpleCData,), {"_type_": "i"})

    def function(name: str, returns: Any, flags: int) -> Any:
        kind = type("function", (c.CFuncPtr,), {"_flags_": c.FUNCFLAG_CDECL | flags, "_restype_": returns})
        return kind(c.dlsym(c.dlopen(None, 0), name))

    try:
        fdopen, fclose = function("fdopen", pointer, 0), function("fclose", number, 0)
        # Exported, but private: the same since 3.4, and what sys._debugmallocstats() calls with stderr.
        # With FUNCFLAG_PYTHONAPI the GIL is held: nobody allocates while the arenas are walked.
        print_to = function("_PyObject_DebugMallocStats", number, c.FUNCFLAG_PYTHONAPI)
        os.close(os.memfd_create("perfkit"))
    except (OSError, AttributeError) as error:
        raise LookupError(f"it cannot be asked ({error})") from None

    def read() -> tuple[int, int, int] | None:
        descriptor = os.memfd_create("perfkit")
        try:
            # A stream has a descriptor of its own, which goes with it.
            stream = pointer(_value(fdopen(os.dup(descriptor), b"w")))
            print_to(stream)
            fclose(stream)
            return _arena_bytes(os.pread(descriptor, 1 << 16, 0).decode("ascii", "replace"))
        finally:
            os.close(descriptor)

    return read


def _arena_bytes(text: str) -> tuple[int, int, int] | None:
    """Return bytes of all arenas, in allocated blocks, and in free blocks and pools; None: there are no arenas.

    Source: https://github.com/python/cpython/blob/main/Objects/obmalloc.c
    """
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        value = value.strip().replace(",", "")
        if equals and value.isdigit():
            for words in ("bytes/arena", "in allocated blocks", "in available blocks", "unused pools"):
                if words in name:
                    found.setdefault(words, int(value))
    if len(found) < 4:
        return None
    free = found["in available blocks"] + found["unused pools"]
    return found["bytes/arena"], found["in allocated blocks"], free


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
