"""Writes down every object of the target and what it refers to, in a copy of the process or in slices.

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
import json
import os
import signal
import sys
import time
from _thread import get_ident
from array import array
from collections import OrderedDict, defaultdict, deque
from contextlib import suppress
from io import StringIO
from itertools import accumulate, chain, filterfalse, repeat
from operator import add, sub

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

MAGIC = b"perfkit graph 1\n"
"""A file is this, then blocks: one letter, eight bytes of length, content; numbers in the machine's order."""

_OWN = "perfkit probe"
_BATCH = 4096
_SMALL_BATCH = 256
"""In slices: fewer lists at a time than make the collector run."""
_SLICE_NS = 5_000_000
_PAUSE_S = 0.006
_LARGE_ITEMS = 4096
_FLUSH_BYTES = 1 << 20
_IMMORTAL = 1 << 29
_NAMED_ITEMS = 16
_MAX_NAMES = 200_000
_INTERVALS_S = (0.1, 0.3, 0.9)
"""For how long a thread must wait for the GIL before it asks for it, while a copy is made: longer than that takes."""
_HUNG_S = 1.0
_HUNG_AT_BIRTH_S = 0.3
_HUNG = "it waited for a lock that nobody can release"
_LONGEST_REST_NS = 500_000_000
_WALL = 0x40000000
_NICE = 10
"""A tenth of what the target gets where they compete; at 19 a busy machine would let it wait for minutes."""

_CRASHES = (4, 6, 7, 8, 11)
"""SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV: what ends a process that touches what is not there."""
_SUSPENDS = 0x20 | 0x80 | 0x200
"""CO_GENERATOR, CO_COROUTINE and CO_ASYNC_GENERATOR."""

_CALLS = {
    # clone, write, close, dup3, close_range, prctl, setpriority, prlimit64, exit_group, openat, nanosleep
    "x86_64": (56, 1, 3, 292, 436, 157, 141, 302, 231, 257, 35),
    "aarch64": (220, 64, 57, 24, 436, 167, 140, 261, 94, 56, 101),
}


def type_name(kind: type) -> str:
    """Return module.qualname of a type, whatever its metaclass overrides."""
    try:
        module = type.__dict__["__module__"].__get__(kind)
        return f"{module}.{type.__dict__['__qualname__'].__get__(kind)}"
    except AttributeError:
        return str(type.__dict__["__name__"].__get__(kind))


class Recorder:
    """Takes snapshots when asked to."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._rows: dict[int, dict[str, Any]] = {}
        self._copy: Copy | None = None
        self._busy = self._under_way = False

    def start(self) -> dict[str, Any]:
        """Return the clock; nothing is recorded until a snapshot is asked for."""
        if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
            raise RuntimeError("the object graph needs CPython with its global lock")
        return {"monotonic_ns": time.monotonic_ns()}

    def call(self, take: int | None = None, give_up_copy: str | None = None, **options: Any) -> dict[str, Any]:
        """Begin snapshot number `take`, end the copy for a reason, or return what is known of the finished ones.

        Options: `file` to write, `fork` whether a copy may be made, `max_objects`, `max_seconds`,
        `share` of one CPU for slices, `copy_share` for the copy.
        """
        if give_up_copy is not None and self._copy is not None:
            self._copy.end(give_up_copy)
        if take is None:
            return {"rungs": list(self._rows.values()), "busy": self._busy, "under_way": self._under_way}
        if self._busy:
            raise RuntimeError("a snapshot is being taken already")
        self._busy, self._under_way = True, False
        self._probe.spawn(self._snapshot(take, **options))
        return {"monotonic_ns": time.monotonic_ns()}

    def stop(self) -> dict[str, Any]:
        """End the copy, if there is one; return what is known of the snapshots."""
        if self._copy is not None:
            self._copy.end()
        return {"rungs": list(self._rows.values()), "monotonic_ns": time.monotonic_ns()}

    def _snapshot(
        self,
        rung: int,
        file: str,
        fork: bool = True,
        max_objects: int = 20_000_000,
        max_seconds: float = 120.0,
        share: float = 0.5,
        copy_share: float = 1.0,
    ) -> Iterator[float]:
        """Take one snapshot; what came of it is in `_rows`."""
        row: dict[str, Any] = {"rung": rung, "file": os.path.basename(file), "monotonic_ns": time.monotonic_ns()}  # noqa: PTH119
        if _has_stale_frames():
            _stale.add(True)
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                if fork:
                    yield from self._in_copy(descriptor, row, max_objects, max_seconds, copy_share)
                if row.get("mode") is None:
                    yield from self._in_slices(descriptor, row, max_objects, max_seconds, share)
            finally:
                os.close(descriptor)
        except Exception as error:  # noqa: BLE001 - it is the recorder's to know
            row["problem"] = f"{type(error).__name__}: {error}"
        finally:
            row["took_ns"] = time.monotonic_ns() - row["monotonic_ns"]
            self._busy = False
            self._rows[rung] = row
        self._probe.emit(row)

    def _in_copy(
        self, descriptor: int, row: dict[str, Any], max_objects: int, max_seconds: float, copy_share: float
    ) -> Iterator[float]:
        """Let a copy of the process write the file; sets `mode` if it did."""
        if why := _tracer():
            row["no_copy"] = why
            return
        row["stopped_ns"] = 0
        for interval_s in _INTERVALS_S:
            try:
                copy = self._copy = Copy(copy_share, interval_s)
            except (ImportError, OSError, KeyError) as error:
                row["no_copy"] = f"{type(error).__name__}: {error}"
                return
            yield from copy.make(lambda write: _write_all(write, max_objects), descriptor, max_seconds)
            row["stopped_ns"] += copy.stopped_ns
            row["at_ns"], self._under_way = copy.made_ns, bool(copy.pid)
            if not copy.pid:
                row["no_copy"] = f"clone failed ({copy.why})"
                return
            try:
                yield from self._wait_for(copy, descriptor, max_seconds)
            finally:
                copy.end()
                self._copy = None
            if copy.why is None:
                row["mode"] = "copy"
                return
            row["no_copy"] = copy.why
            if copy.signal in _CRASHES:
                # The same walk would do the same to the target.
                raise RuntimeError(f"the copy of the process crashed ({copy.why})")
            was_hung_at_birth = copy.why == _HUNG and not os.fstat(descriptor).st_size
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            if not was_hung_at_birth:
                return

    def _wait_for(self, copy: Copy, descriptor: int, max_seconds: float) -> Iterator[float]:
        """Wait until a copy is done; end it when it takes too long or waits for what nobody can give."""
        until = ran_at = time.monotonic()
        until += max_seconds
        # A copy that rests is asleep at times; another one is not, least of all before it has written anything.
        patience_s = _HUNG_S if copy.rests else _HUNG_AT_BIRTH_S
        while not copy.is_done():
            now = time.monotonic()
            if copy.is_running():
                ran_at = now
            if now >= until:
                copy.end(f"it took longer than {max_seconds:g} s")
            elif now - ran_at > patience_s:
                if patience_s == _HUNG_S or not os.fstat(descriptor).st_size:
                    copy.end(_HUNG)
                patience_s = _HUNG_S
            yield 0.05

    def _in_slices(
        self, descriptor: int, row: dict[str, Any], max_objects: int, max_seconds: float, share: float
    ) -> Iterator[float]:
        """Write the file from within the target, a few milliseconds at a time."""
        row["mode"], longest_ns, cost_ns = "slices", 0, 0
        self._under_way = True
        until = time.monotonic() + max_seconds
        walk = _walk(lambda data: _write_to(descriptor, data), max_objects, in_copy=False)
        try:
            while True:
                began_ns = time.thread_time_ns()
                finished = next(walk, self) is self
                took_ns = time.thread_time_ns() - began_ns
                longest_ns, cost_ns = max(longest_ns, took_ns), cost_ns + took_ns
                if finished:
                    break
                if time.monotonic() > until:
                    raise TimeoutError(f"it took longer than {max_seconds:g} s")
                yield max(_PAUSE_S, took_ns / 1e9 * (1 / share - 1))
        finally:
            walk.close()  # type: ignore[attr-defined]
            row["longest_hold_ns"], row["cost_ns"] = longest_ns, cost_ns


class Copy:
    """A child process that is a copy of this one, with this thread only; see the module's docstring."""

    def __init__(self, share: float, interval_s: float) -> None:
        (self._clone, self._write, self._close, self._dup3, self._close_range, self._prctl, self._setpriority,
         self._prlimit, self._exit, self._openat, self._nanosleep) = _CALLS[os.uname().machine]  # fmt: skip
        self._syscall = _syscall()
        self.pid = self.made_ns = self.signal = 0
        self.why: str | None = None
        self.stopped_ns = 0
        self._share, self._rested_ns = share, time.monotonic_ns()
        self._interval_s = interval_s

    @property
    def rests(self) -> bool:
        """Whether it sleeps between two pieces of work."""
        return self._share < 1

    def make(self, work: Callable[[Callable[[Any], None]], None], descriptor: int, cpu_s: float) -> Iterator[float]:
        """Make the copy and let it do `work(write)`; `pid` is 0 if there is none, and `why` says why not."""
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
                pid = self._syscall(self._clone, 0, 0, 0, 0, 0)
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

    def _be_the_copy(self, work: Callable[[Any], None], descriptor: int, cpu_s: float, threads: dict[int, Any]) -> None:
        """Do the work and end; runs in the copy only, and never returns."""
        call = self._syscall
        code = 1
        try:
            call(self._prctl, 1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL: never outlive the probe's thread
            call(self._dup3, descriptor, 0, 0, 0, 0)
            if call(self._close_range, 1, 0xFFFFFFFF, 0, 0, 0):
                for number in range(1, 65536):
                    call(self._close, number, 0, 0, 0, 0)
            call(self._setpriority, 0, 0, _NICE, 0, 0)
            name = array("B", b"perfkit-graph\0")
            call(self._prctl, 15, name.buffer_info()[0], 0, 0, 0)
            for limit, value in ((4, 0), (0, max(1, int(cpu_s)))):  # no core dump; so many seconds of CPU
                values = array("Q", (value, value))
                call(self._prlimit, 0, limit, values.buffer_info()[0], 0, 0)
            self._be_the_first_to_go()
            _threads.update(threads)
            work(self._put)
            code = 0
        except BaseException as error:  # noqa: BLE001 - whatever it is must not reach the application's code
            self._put(_block("X", f"{type(error).__name__}: {error}".encode("utf-8", "replace")))
        finally:
            while True:
                call(self._exit, code, 0, 0, 0, 0)

    def _be_the_first_to_go(self) -> None:
        """When memory runs out, the kernel should end the copy rather than the target."""
        path = array("B", b"/proc/self/oom_score_adj\0")
        score = array("B", b"1000")
        number = self._syscall(self._openat, -100, path.buffer_info()[0], 1, 0, 0)
        if number >= 0:
            self._syscall(self._write, number, score.buffer_info()[0], 4, 0, 0)
            self._syscall(self._close, number, 0, 0, 0, 0)

    def _put(self, data: Any) -> None:
        """Write bytes to the copy's only descriptor, with the GIL held."""
        buffer = array("B", data)
        address, left = buffer.buffer_info()
        while left:
            written = self._syscall(self._write, 0, address, left, 0, 0)
            if written <= 0:
                raise OSError("cannot write")
            address, left = address + written, left - written
        self._rest()

    def _rest(self) -> None:
        """Sleep in proportion to the work since the last rest, where the target pays for our CPU time."""
        worked_ns = time.monotonic_ns() - self._rested_ns
        if self._share < 1:
            rest = array("q", (0, min(_LONGEST_REST_NS, int(worked_ns * (1 / self._share - 1)))))
            self._syscall(self._nanosleep, rest.buffer_info()[0], 0, 0, 0, 0)
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


def _syscall() -> Callable[..., int]:
    """Return libc's syscall(), called with the GIL held."""
    had = "_ctypes" in sys.modules
    c = __import__("_ctypes")
    try:
        long_ = type("perfkit probe long", (c._SimpleCData,), {"_type_": "l"})
        flags = c.FUNCFLAG_CDECL | c.FUNCFLAG_PYTHONAPI
        function = type("perfkit probe function", (c.CFuncPtr,), {"_flags_": flags, "_restype_": long_})
        found = function(c.dlsym(c.dlopen(None, 0), "syscall"))
        found.argtypes = (long_,) * 6
    finally:
        if not had:
            sys.modules.pop("_ctypes", None)
    call: Callable[..., int] = found
    return call


def _tracer() -> str | None:
    """Return what is at work in the target that a copy would get into the way of, or None."""
    tracker = getattr(sys.modules.get("memray"), "Tracker", None)
    hook = getattr(sys.modules.get("threading"), "_profile_hook", None)
    if tracker is not None and hook is not None:
        return "memray is at work, and a copy would write into its file"
    return None


_threads: dict[int, Any] = {}
"""The target's threads, as they were when the copy was made."""


_stale: set[bool] = set()
"""Not empty: frames of generators may lie, see below. A set, so that the copy and the walk need no `global`."""


def _has_stale_frames() -> bool:
    """Whether frame objects of generators may refer to memory that is gone.

    A generator is made out of the frame of its function's call. In 3.13, memray asks for that frame's object while the
    generator's memory is allocated; the object moves into the generator, but goes on referring to the frame of the
    call. Its variables are those of whoever has that memory now, and reading them crashed targets. memray's library
    stays mapped when it has done.
    """
    if sys.hexversion < 0x030D0000:
        return False
    with open("/proc/self/maps", "rb") as file:  # noqa: PTH123 - pathlib may take the target 5 ms
        return b"_memray" in file.read()


def _write_to(descriptor: int, data: Any) -> None:
    """Write all of some bytes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _block(kind: str, *parts: Any) -> bytearray:
    """Return one block of the file."""
    block = bytearray(9)
    block[:1] = kind.encode()
    for part in parts:
        block += part  # b"".join() lets go of the GIL when it has more than 1 MiB to copy
    block[1:9] = (len(block) - 9).to_bytes(8, sys.byteorder)
    return block


def _write_all(write: Callable[[Any], None], max_objects: int) -> None:
    """Walk without a rest."""
    gc.unfreeze()
    for _slice in _walk(write, max_objects, in_copy=True):
        pass


class Strings(dict):  # type: ignore[type-arg]
    """Numbers for texts, 0 is none; `new` holds those that were not written yet."""

    def __init__(self) -> None:
        self.new: list[str] = []

    def __missing__(self, text: str) -> int:
        number = self[text] = len(self) + 1
        self.new.append(text)
        return number


class Labels(dict):  # type: ignore[type-arg]
    """Numbers of labels by key, made when first asked for."""

    def __init__(self, strings: Strings, form: str, identifiers_only: bool) -> None:
        self._strings, self._form, self._identifiers_only = strings, form, identifiers_only

    def __missing__(self, key: Any) -> int:
        if type(key) is not str or len(key) > 40 or (self._identifiers_only and not key.isidentifier()):
            return 0
        if len(self) >= _MAX_NAMES:
            return 0
        number: int = self._strings[self._form.format(key)]
        self[key] = number
        return number


class Kind:
    """What the walk needs to know of a type."""

    __slots__ = ("constant_bytes", "get_dict", "has_values", "is_own", "length", "number", "slots", "value_names")

    def __init__(self, kind: type, number: int, name: str) -> None:
        self.number = number
        self.is_own = name.startswith(_OWN)
        mro = type.__dict__["__mro__"].__get__(kind)
        spaces = [type.__dict__["__dict__"].__get__(base) for base in mro]
        self.length = next((_LENGTHS[base] for base in mro if base in _LENGTHS), None)
        sizer = next(space["__sizeof__"] for space in spaces if "__sizeof__" in space)
        varies = type.__dict__["__itemsize__"].__get__(kind) or sizer is not object.__dict__["__sizeof__"]
        # Python code of the target is not run: then the basic size has to do.
        is_python = hasattr(sizer, "__code__") or hasattr(sizer, "__func__")
        flags = type.__dict__["__flags__"].__get__(kind)
        self.constant_bytes: int | None = None
        if is_python or not varies:
            # As sys.getsizeof does: what stands before the object for the collector, and for its `__dict__`.
            before = 16 * bool(flags & _IS_COLLECTED) + 16 * bool(flags & _HAS_PREHEADER)
            self.constant_bytes = type.__dict__["__basicsize__"].__get__(kind) + before
        self.has_values = bool(flags & _HAS_MANAGED_DICT) and (
            sys.version_info < (3, 13) or bool(flags & _HAS_INLINE_VALUES)
        )
        self.get_dict = None
        self.slots: list[tuple[Any, str]] = []
        for space in spaces:
            descriptor = space.get("__dict__")
            if self.get_dict is None and type(descriptor) is _GETSET and not issubclass(kind, type):
                self.get_dict = descriptor.__get__
            for slot, member in space.items():
                if type(member) is _MEMBER and len(self.slots) < _NAMED_ITEMS:
                    self.slots.append((member.__get__, slot))
        # Names of attributes, from an example: only where they cannot be had from each object.
        self.value_names: tuple[str, ...] | None = None

    def learn_names(self, kind: type, example: dict[Any, Any]) -> None:
        """Note the names of attributes that can be read without running the target's code."""
        mro = type.__dict__["__mro__"].__get__(kind)
        spaces = [type.__dict__["__dict__"].__get__(base) for base in mro]
        self.value_names = tuple(
            key for key in example if type(key) is str and not any(key in space for space in spaces)
        )


_IS_COLLECTED, _HAS_MANAGED_DICT, _HAS_INLINE_VALUES = 1 << 14, 1 << 4, 1 << 2
_HAS_PREHEADER = _HAS_MANAGED_DICT | 1 << 3
"""Flags of types: Py_TPFLAGS_HAVE_GC, _MANAGED_DICT, _INLINE_VALUES, _PREHEADER. Source: CPython, Include/object.h"""


def _values_bytes(count: int) -> int:
    """Return what the attributes of an instance take beside it while nobody has asked for its `__dict__`.

    There is room for those that instances of its class have, and for one more.
    Source: CPython, new_values() in Objects/dictobject.c of 3.11 and 3.12, _PyInlineValuesSize() of 3.13
    """
    if sys.hexversion < 0x030D0000:
        return (count + 10) // 8 * 8 + 8 * (count + 1)
    return 8 + (9 * (count + 1) + 7) // 8 * 8


_GETSET = type(type(lambda: None).__dict__["__code__"])
_MEMBER = type(type(lambda: None).__dict__["__globals__"])
_FUNCTION = type(lambda: None)
_MODULE = type(gc)
_LENGTHS: dict[type, Callable[[Any], int]] = {
    dict: dict.__len__, list: list.__len__, set: set.__len__, frozenset: frozenset.__len__, deque: deque.__len__,
    OrderedDict: OrderedDict.__len__, tuple: tuple.__len__, str: str.__len__, bytes: bytes.__len__,
    bytearray: bytearray.__len__,
}  # fmt: skip


_OF_EVERY_FRAME = (_FUNCTION, type((lambda: None).__code__), dict)
"""Types of what a frame refers to besides its variables: its function, its code, variables a debugger added."""


async def _coroutine() -> None: ...


async def _asynchronous() -> Any:
    yield


_coroutine_ = _coroutine()
_namespace_of: Callable[[Any], Any] = _MODULE.__dict__["__dict__"].__get__  # type: ignore[index]
_SUSPENDED = {
    type(_ for _ in range(0)): "gi_frame",
    type(_coroutine_): "cr_frame",
    type(_asynchronous()): "ag_frame",
}
_coroutine_.close()
del _coroutine_


class Walk:
    """One walk over all objects, writing blocks as it goes."""

    def __init__(self, write: Callable[[Any], None], *, in_copy: bool) -> None:
        self._put, self._in_copy = write, in_copy
        self._began_ns = time.thread_time_ns()
        self._waiting = bytearray(MAGIC)
        self._strings = Strings()
        self._attributes = Labels(self._strings, ".{}", identifiers_only=False)
        self._keys = Labels(self._strings, "[{!r}]", identifiers_only=True)
        self._variables = Labels(self._strings, "{}", identifiers_only=False)
        self._kinds: dict[type, Kind] = {}
        self._namespaces: set[int] = set()
        self._closures: dict[int, tuple[str, ...]] = {}
        self._seen: set[int] = set()
        """Untracked objects that refer to others: they are entered once."""
        self._found: list[Any] = []
        self._own: list[int] = []
        self._named: list[tuple[int, str, str]] = []
        self._beside: array[int] | None = None
        """What the attributes of the instances take that are being written."""
        self._counted: frozenset[type] = frozenset()
        """Types that a list of ours refers to once."""
        self.objects = self.references = 0
        self._labelled_kinds: dict[type, Callable[[Any], dict[int, Any]]] = {
            _FUNCTION: self._of_function,
            type(_walk.__code__): self._of_code,
            type(sys._getframe()): self._of_frame,
            **{kind: self._of_suspended(frame) for kind, frame in _SUSPENDED.items()},
        }
        if task := getattr(sys.modules.get("_asyncio"), "Task", None):
            self._labelled_kinds[task] = self._of_task
        label = self._strings
        self._is_key, self._is_dict, self._is_class = label["<key>"], label["<dict>"], label["<class>"]

    # --- writing ---

    def emit(self, kind: str, *parts: Any) -> None:
        """Add a block to what is waiting; new texts come before what uses them."""
        if self._strings.new:
            new, self._strings.new = self._strings.new, []
            self._waiting += _block("S", json.dumps(new).encode())
        self._waiting += _block(kind, *parts)
        if len(self._waiting) >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        self._put(self._waiting)
        self._waiting = bytearray()

    def kind(self, kind: type) -> Kind:
        """Return what is known of a type."""
        known = self._kinds.get(kind)
        if known is None:
            name = type_name(kind)
            known = self._kinds[kind] = Kind(kind, self._strings[name], name)
        return known

    def roots(self, rows: Iterable[tuple[int, str, str]]) -> None:
        """Write which objects are roots, and what they are called."""
        strings = self._strings
        ids, why, names = array("q"), array("I"), array("I")
        for number, root, name in rows:
            ids.append(number)
            why.append(strings[root] if root else 0)
            names.append(strings[name])
        self.emit("R", len(ids).to_bytes(8, sys.byteorder), ids, why, names)

    # --- objects ---

    def group(self, kind: type, objects: list[Any]) -> Iterator[None]:
        """Write all objects of one type, those that are tracked; empties the list."""
        known = self.kind(kind)
        size = _BATCH if self._in_copy else _SMALL_BATCH
        while objects:
            part = objects[-size:]
            del objects[-size:]
            large = []
            if known.length is not None:
                large = [each for each in part if known.length(each) > _LARGE_ITEMS]
            if large:
                part = [each for each in part if known.length(each) <= _LARGE_ITEMS]  # type: ignore[misc]
            if part:
                self._objects(known, kind, part, self._reference_counts(kind, part))
            del part
            yield from self._enter_found()
            while large:
                each = large.pop()
                yield from self._large(known, each, sys.getrefcount(each) - _BASE_ALONE)
            each = None
            yield from self.rest()

    def rest(self) -> Iterator[None]:
        """Let others work if it was our turn for long enough; never in the copy, where there is nobody else."""
        if not self._in_copy and time.thread_time_ns() - self._began_ns > _SLICE_NS:
            yield
            self._began_ns = time.thread_time_ns()

    def _reference_counts(self, kind: type, part: list[Any]) -> array[int]:
        """Return the reference counts of a batch without our own references; -1 for immortal objects."""
        counts = array("q", map(sys.getrefcount, part))
        if issubclass(kind, type):
            ours = [(each in self._counted) + (each in self._kinds) for each in part]
            counts = array("q", map(sub, counts, ours))
        return array("i", [count - _BASE if count < _IMMORTAL else -1 for count in counts])

    def _objects(self, known: Kind, kind: type, part: list[Any], counts: array[int]) -> None:
        """Write a batch of objects of one type and what they refer to."""
        ids = array("q", map(id, part))
        targets, labels, degrees = self._references(known, kind, part)
        if kind is StringIO:
            # What is in it is in no size: a byte for each character at least, four once it was read.
            self._beside = array("q", map(_characters, part))
        uniform, beside = known.constant_bytes, self._beside
        sizes = array("q") if uniform is not None else array("q", map(sys.getsizeof, part, repeat(0)))
        if beside is not None:
            sizes = array("q", map(add, repeat(uniform) if uniform is not None else sizes, beside))
            uniform = self._beside = None
        items = b"" if known.length is None else array("q", map(known.length, part))
        header = array(
            "q",
            (len(ids), known.number, -1 if uniform is None else uniform, known.length is not None,
             len(targets), labels is not None),
        )  # fmt: skip
        self.emit("O", header, ids, counts, sizes, items, degrees, targets, labels if labels is not None else b"")
        self.objects += len(ids)
        self.references += len(targets)
        if known.is_own:
            self._own += ids

    def _large(self, known: Kind, each: Any, count: int) -> Iterator[None]:
        """Write one container with very many items, in parts."""
        ids, nothing = array("q", (id(each),)), array("I", (0,))
        size = sys.getsizeof(each, 0) if known.constant_bytes is None else known.constant_bytes
        sizes, items = array("q", (size,)), array("q", (known.length(each),))  # type: ignore[misc]
        header = array("q", (1, known.number, -1, 1, 0, 0))
        counts = array("i", (count if count < _IMMORTAL else -1,))
        self.emit("O", header, ids, counts, sizes, items, nothing)
        self.objects += 1
        yield from self.rest()
        number = id(each)
        if issubclass(type(each), dict):
            is_namespace = number in self._namespaces
            keys, values = list(dict.keys(each)), list(dict.values(each))
            yield from self.rest()
            while values:
                part, names = values[-_BATCH:], keys[-_BATCH:]
                del values[-_BATCH:], keys[-_BATCH:]
                if is_namespace:
                    self._more(number, part, array("I", map(self._attributes.__getitem__, names)))
                else:
                    self._more(number, names, array("I", repeat(self._is_key, len(names))))
                    self._more(number, part, None)
                del part, names
                yield from self._enter_found()
                yield from self.rest()
        else:
            referents = gc.get_referents(each)
            yield from self.rest()
            while referents:
                part = referents[-_BATCH:]
                del referents[-_BATCH:]
                self._more(number, part, None)
                del part
                yield from self._enter_found()
                yield from self.rest()

    def _more(self, number: int, referents: list[Any], labels: array[int] | None) -> None:
        """Write more references of one object."""
        targets = array("q", map(id, referents))
        header = array("q", (number, len(targets), labels is not None))
        self.emit("A", header, targets, labels if labels is not None else b"")
        self.references += len(targets)
        self._note(dict(zip(targets, referents)))  # noqa: B905 - 3.10 has it, but it is slower

    def _references(self, known: Kind, kind: type, part: list[Any]) -> tuple[array[int], array[int] | None, array[int]]:
        """Return what each object refers to: identities, labels or None, and how many each has."""
        if issubclass(kind, dict):
            return self._of_dicts(kind, part)
        labelled = self._labelled_kinds.get(kind)
        if labelled is not None:
            return self._labelled(part, labelled)
        if issubclass(kind, type):
            return self._labelled(part, self._of_type)
        if issubclass(kind, _MODULE):
            return self._labelled(part, self._of_module)
        if known.get_dict is not None or known.slots:
            return self._of_instances(known, kind, part)
        lists = list(map(gc.get_referents, part))
        targets, _none, degrees = self._plain(lists)
        if kind is tuple and (labels := self._of_closures(part, targets, degrees)):
            return targets, labels, degrees
        return targets, None, degrees

    def _plain(self, lists: list[list[Any]]) -> tuple[array[int], None, array[int]]:
        """Return references that have no labels."""
        flat = list(chain.from_iterable(lists))
        targets = array("q", map(id, flat))
        self._note(dict(zip(targets, flat)))  # noqa: B905
        return targets, None, array("I", map(len, lists))

    def _labelled(
        self, part: list[Any], names: Callable[[Any], dict[int, Any]]
    ) -> tuple[array[int], array[int], array[int]]:
        """Return references with labels that a function knows, by identity of what is referred to."""
        targets, labels, degrees = array("q"), array("I"), array("I")
        noted: dict[int, Any] = {}
        for each in part:
            referents = gc.get_referents(each)
            known = names(each)
            ids = list(map(id, referents))
            if extra := known.pop(-1, None):
                referents += extra
                ids += map(id, extra)
            targets.extend(ids)
            labels.extend(map(known.get, ids, repeat(0)))
            degrees.append(len(ids))
            noted.update(zip(ids, referents))  # noqa: B905
        self._note(noted)
        return targets, labels, degrees

    def _of_instances(self, known: Kind, kind: type, part: list[Any]) -> tuple[array[int], array[int], array[int]]:
        """Return the references of instances, with the names of their attributes.

        From 3.11 on an instance refers to its values directly until somebody asks for its
        `__dict__`; asking would cost the target memory, so only the copy does.
        """
        targets, labels, degrees = array("q"), array("I"), array("I")
        attributes, namespaces = self._attributes, self._namespaces
        is_dict, is_class = self._is_dict, self._is_class
        class_id = id(kind)
        noted: dict[int, Any] = {}
        get_dict, slots = known.get_dict, known.slots
        beside = self._beside = array("q") if known.has_values else None
        lists = list(map(gc.get_referents, part))
        for each, referents in zip(part, lists):  # noqa: B905
            ids = list(map(id, referents))
            names = {class_id: is_class}
            values_bytes = 0
            if get_dict is not None:
                space = None
                if self._in_copy or sys.version_info < (3, 11):
                    space = get_dict(each)
                else:
                    space = self._space_in_slices(known, each, referents, get_dict)
                if type(space) is dict:
                    if id(space) in ids:
                        names[id(space)] = is_dict
                        namespaces.add(id(space))
                    else:
                        names.update(zip(map(id, space.values()), map(attributes.__getitem__, space)))  # noqa: B905
                        values_bytes = _values_bytes(len(space))
            if beside is not None:
                beside.append(values_bytes)
            for get, slot in slots:
                try:
                    names[id(get(each))] = attributes[slot]
                except AttributeError:
                    continue
            targets.extend(ids)
            labels.extend(map(names.get, ids, repeat(0)))
            degrees.append(len(ids))
            noted.update(zip(ids, referents))  # noqa: B905
        lists.clear()
        self._note(noted)
        return targets, labels, degrees

    def _space_in_slices(
        self, known: Kind, each: Any, referents: list[Any], get_dict: Callable[[Any], Any]
    ) -> dict[str, Any] | None:
        """Return names and values of an instance without making it a dictionary, but for a few examples."""
        if known.value_names is None:
            example: dict[str, Any] = get_dict(each)
            known.learn_names(type(each), example)
            return example
        for referent in referents:
            if type(referent) is dict and next(iter(referent), None) in known.value_names:
                # It looks like its `__dict__`: it has one already.
                found: dict[str, Any] = get_dict(each)
                return found
        found = {}
        for name in known.value_names:
            try:
                found[name] = object.__getattribute__(each, name)
            except AttributeError:
                continue
        return found

    def _of_dicts(self, kind: type, part: list[Any]) -> tuple[array[int], array[int], array[int]]:
        """Return keys and values: attributes of namespaces by name, keys of data only where they look like names."""
        targets, labels, degrees = array("q"), array("I"), array("I")
        namespaces, attributes, settings = self._namespaces, self._attributes, self._keys
        noted: dict[int, Any] = {}
        is_exact, key_label = kind is dict, self._is_key
        for each in part:
            values = list(dict.values(each))
            ids = list(map(id, values))
            count = len(ids)
            if is_exact and id(each) in namespaces:
                labels.extend(map(attributes.__getitem__, each))
            else:
                keys = list(dict.keys(each))
                if count <= _NAMED_ITEMS and all(type(key) is str for key in keys):
                    labels.extend(map(settings.__getitem__, keys))
                else:
                    labels.extend(repeat(0, count))
                labels.extend(repeat(key_label, count))
                ids += map(id, keys)
                values += keys
                if not is_exact:
                    known = set(ids)
                    others = [one for one in gc.get_referents(each) if id(one) not in known]
                    labels.extend(repeat(0, len(others)))
                    ids += map(id, others)
                    values += others
            targets.extend(ids)
            degrees.append(len(ids))
            noted.update(zip(ids, values))  # noqa: B905
        self._note(noted)
        return targets, labels, degrees

    def _of_function(self, function: Any) -> dict[int, int]:
        """Return labels of what a function refers to."""
        module = str(function.__globals__.get("__name__", "?"))
        self._named.append((id(function), "", f"{module}.{function.__qualname__}"))
        if module.startswith(_OWN):
            self._own.append(id(function))
        names = {id(function.__globals__): self._strings["<globals>"], id(function.__code__): self._strings["<code>"]}
        if (closure := function.__closure__) is not None:
            names[id(closure)] = self._strings["<closure>"]
            self._closures[id(closure)] = function.__code__.co_freevars
        if function.__defaults__ is not None:
            names[id(function.__defaults__)] = self._strings["<defaults>"]
        return names

    def _of_closures(self, part: list[tuple[Any, ...]], targets: array[int], degrees: array[int]) -> array[int] | None:
        """Return labels for the cells of closures among some tuples, the names of their variables; None: no closure."""
        closures = self._closures
        found = [place for place, number in enumerate(map(id, part)) if number in closures]
        if not found:
            return None
        starts = [0, *accumulate(degrees)]
        labels = array("I", bytes(4 * starts[-1]))
        for place in found:
            # By identity: the collector goes through a tuple from its end.
            names = dict(zip(map(id, part[place]), map(self._variables.__getitem__, closures[id(part[place])])))  # noqa: B905
            mine = slice(starts[place], starts[place + 1])
            labels[mine] = array("I", map(names.get, targets[mine], repeat(0)))
        return labels

    def _of_task(self, task: Any) -> dict[int, int]:
        """Return the label of a task's coroutine."""
        return {id(task.get_coro()): self._strings["<coroutine>"]}

    def _of_code(self, code: Any) -> dict[int, Any]:
        """Return what a code object refers to, which it does not say by itself."""
        return {-1: [code.co_consts, code.co_names], id(code.co_consts): self._strings["<constants>"]}

    def _of_module(self, module: Any) -> dict[int, int]:
        """Return the label of a module's namespace, and note that it is one."""
        space = _namespace_of(module)
        if type(space) is dict:
            self._namespaces.add(id(space))
            return {id(space): self._is_dict}
        return {}

    def _of_type(self, kind: Any) -> dict[int, Any]:
        """Return labels of what a class refers to, and note its namespace."""
        space = type.__dict__["__dict__"].__get__(kind)
        inner = gc.get_referents(space)
        self._named.append((id(kind), "", type_name(kind)))
        names: dict[int, Any] = {id(base): self._strings["<base>"] for base in type.__dict__["__bases__"].__get__(kind)}
        if inner and type(inner[0]) is dict:
            names[id(inner[0])] = self._is_dict
            self._namespaces.add(id(inner[0]))
            if not gc.is_tracked(kind):  # a static type refers to it too, but does not say so
                names[-1] = [inner[0]]
        names[id(type.__dict__["__mro__"].__get__(kind))] = self._strings["<mro>"]
        return names

    def _of_suspended(self, attribute: str) -> Callable[[Any], dict[int, int]]:
        """Return a function that labels the local variables of a generator or coroutine."""
        code = attribute.replace("_frame", "_code")

        def names(each: Any) -> dict[int, int]:
            if _stale:  # what is read from the generator itself is right
                if getattr(each, code).co_filename == "<perfkit probe>":
                    self._own.append(id(each))
                return {}
            frame = getattr(each, attribute)
            if frame is None:
                return {}
            if str(frame.f_globals.get("__name__", "")).startswith(_OWN):
                self._own.append(id(each))
            # Up to 3.10 the frame is an object between the generator and its variables.
            return {**self._locals_of(frame), id(frame): self._strings["<frame>"]}

        return names

    def _of_frame(self, frame: Any) -> dict[int, int]:
        """Return labels of the local variables of a frame that something refers to, where they can be read."""
        return {} if _stale or not _is_intact(frame) else self._locals_of(frame)

    def _locals_of(self, frame: Any) -> dict[int, int]:
        """Return labels of the local variables of a frame."""
        if _stale and frame.f_code.co_flags & _SUSPENDS:
            return {}
        values = frame.f_locals
        found = dict(zip(map(id, values.values()), map(self._variables.__getitem__, values)))  # noqa: B905
        if frame.f_code.co_flags & 1:
            self._let_go(values)
        return found

    # --- what is found on the way ---

    def _note(self, referents: dict[int, Any]) -> None:
        """Keep those referents that the collector does not list."""
        self._found += filterfalse(gc.is_tracked, referents.values())

    def _enter_found(self) -> Iterator[None]:
        """Write the untracked objects found so far; those that refer to others are entered too."""
        while self._found:
            waiting, self._found = self._found, []
            by_kind: dict[type, list[Any]] = defaultdict(list)
            for each in waiting:
                by_kind[type(each)].append(each)
            waiting.clear()
            for kind, objects in by_kind.items():
                known = self.kind(kind)
                if kind not in _ATOMS:
                    entered = []
                    for each in objects:
                        if id(each) not in self._seen:
                            self._seen.add(id(each))
                            entered.append(each)
                    if entered:
                        self._objects(known, kind, entered, array("i", repeat(-1, len(entered))))
                    continue
                ids = array("q", map(id, objects))
                sizes = array("q", map(sys.getsizeof, objects))
                self.emit("U", array("q", (len(ids), known.number)), ids, sizes)
            by_kind.clear()
            yield from self.rest()

    # --- what is not found through the collector ---

    def count(self, kinds: frozenset[type]) -> None:
        """Note which types a list and this set refer to; their reference counts are read less these."""
        self._counted = kinds

    def static_types(self) -> None:
        """Write the types that are part of the interpreter or a library, which the collector does not list."""
        waiting: list[type] = [object]
        found: dict[int, Any] = {}
        while waiting:
            kind = waiting.pop()
            if id(kind) not in found:
                found[id(kind)] = kind
                waiting += type.__subclasses__(kind)
        static = {number: kind for number, kind in found.items() if not gc.is_tracked(kind)}
        self.roots([(number, "native", type_name(kind)) for number, kind in static.items()])
        self._note(static)

    def frames(self) -> None:
        """Write the frames that are being executed, by any thread but ours."""
        part: list[Any] = []
        rows = []
        for thread, frame in list((_threads or sys._current_frames()).items()):
            each: Any = frame
            while each is not None:
                if not str(each.f_globals.get("__name__", "")).startswith(_OWN):
                    part.append(each)
                    code = each.f_code
                    name = getattr(code, "co_qualname", code.co_name)
                    rows.append((id(each), "frame", f"{each.f_globals.get('__name__', '?')}.{name}"))
                elif thread == get_ident() and each.f_globals is not globals():
                    rows += [(id(value), "perfkit", "") for value in self._values_of(each)]
                each = each.f_back
        del each, frame
        self.roots(rows)
        # What a running frame refers to it does not say itself from 3.11 on.
        ids, targets, labels, degrees = array("q", map(id, part)), array("q"), array("I"), array("I")
        noted: dict[int, Any] = {}
        for each in part:
            values = self._values_of(each)
            names = self._locals_of(each)
            keys = list(map(id, values))
            targets.extend(keys)
            labels.extend(map(names.get, keys, repeat(0)))
            degrees.append(len(keys))
            noted.update(zip(keys, values))  # noqa: B905
            del values
        known = self.kind(type(sys._getframe()))
        sizes = array("q", map(sys.getsizeof, part))
        header = array("q", (len(ids), known.number, -1, 0, len(targets), 1))
        self.emit("O", header, ids, array("i", repeat(-1, len(ids))), sizes, degrees, targets, labels)
        self._note(noted)

    def _values_of(self, frame: Any) -> list[Any]:
        """Return what the local variables of a running frame hold; its namespace at module level."""
        if not frame.f_code.co_flags & 1:
            return [frame.f_globals]
        if _stale and frame.f_code.co_flags & _SUSPENDS:
            return []
        values = frame.f_locals
        found = list(values.values())
        self._let_go(values)
        return found

    def _let_go(self, values: Any) -> None:
        """Empty the snapshot of a frame's variables: up to 3.12 the frame keeps it, and with it the values.

        Not in a copy of the process, and not where the target has it in its own hands, from `locals()`: it is
        held by the frame, by who calls this, as an argument here, and by the call that counts.
        """
        if type(values) is dict and not self._in_copy and sys.getrefcount(values) <= 4:
            values.clear()

    def names(self) -> None:
        """Write the names of functions and classes."""
        if self._named:
            self.roots(self._named)
            self._named.clear()

    def finish(self) -> None:
        """Write which objects are the probe's own, and the end."""
        self.roots((number, "perfkit", "") for number in self._own)
        self.emit("E", json.dumps({"objects": self.objects, "references": self.references}).encode())
        self.flush()


_ATOMS = frozenset(
    (str, bytes, int, float, bool, complex, type(None), bytearray, range, type(...), type(NotImplemented))
)


def _characters(file: Any) -> int:
    """Return how much was written into a text file in memory; 0 when it is closed."""
    try:
        return StringIO.tell(file)
    except ValueError:
        return 0


def _is_intact(frame: Any) -> bool:
    """Whether the local variables that a frame object tells of are there: asking a frame for freed ones is fatal.

    From 3.12.4 on, `close()` of a generator or coroutine lets go of its variables and leaves them in its frame.
    Such a frame refers to none of them, whether it still belongs to the generator or has outlived it. What
    waits or runs is asked through its generator and its thread.

    Source: https://github.com/python/cpython/issues/125723, https://github.com/python/cpython/pull/118277
    """
    if sys.hexversion < 0x030C0000 or not frame.f_code.co_flags & _SUSPENDS:
        return True
    return any(type(each) not in _OF_EVERY_FRAME for each in gc.get_referents(frame))


def _walk(write: Callable[[Any], None], max_objects: int, *, in_copy: bool) -> Iterator[None]:
    """Walk over all objects, yielding where it may rest."""
    objects = gc.get_objects()
    if len(objects) > max_objects:
        raise OverflowError(f"{len(objects)} objects are more than the limit of {max_objects}")
    walk = Walk(write, in_copy=in_copy)
    if not in_copy:
        yield
    groups: dict[type, list[Any]] = defaultdict(list)
    each: Any = None
    while objects:
        part = objects[-2 * _BATCH :]
        del objects[-2 * _BATCH :]
        for each in part:
            groups[type(each)].append(each)
        each = None
        part.clear()
        yield from walk.rest()
    del objects
    order = sorted(groups.items(), key=lambda pair: _turn(pair[0]))
    groups.clear()
    walk.roots(_modules())
    yield from walk.rest()
    walk.roots(_tasks())
    walk.static_types()
    yield from walk.rest()
    walk.frames()
    walk.count(frozenset(kind for kind, _objects in order))
    for kind, group in order:
        yield from walk.group(kind, group)
        walk.names()
    walk.finish()


def _turn(kind: type) -> int:
    """Return when a type's turn is: what names others comes first, dictionaries last."""
    if issubclass(kind, dict):
        return 3
    if kind is tuple:
        return 2
    return 0 if issubclass(kind, type) or issubclass(kind, _MODULE) or kind is _FUNCTION else 1


def _base() -> tuple[int, int]:
    """Return the reference counts that the walk reads of an object nobody else refers to: in a batch, and alone."""
    objects = [object()]
    part = objects[-1:]
    del objects[-1:]
    in_batch = array("q", map(sys.getrefcount, part))[0]
    each = part.pop()
    return in_batch, sys.getrefcount(each)


_BASE, _BASE_ALONE = _base()


def _modules() -> Iterator[tuple[int, str, str]]:
    """Yield identity, what it belongs to, and name of each module."""
    standard = sys.stdlib_module_names
    for name, module in list(sys.modules.items()):
        if not issubclass(type(module), _MODULE):
            continue
        file = _namespace_of(module).get("__file__")
        if name != "__main__" and name.partition(".")[0] in standard:
            why = "stdlib"
        elif type(file) is str and ("site-packages" in file or "dist-packages" in file):
            why = "library"
        else:
            why = "module"
        yield id(module), why, str(name)


def _tasks() -> Iterator[tuple[int, str, str]]:
    """Yield identity and name of asyncio's tasks that are not done; of their coroutines also why they are told."""
    tasks = sys.modules.get("asyncio.tasks")
    for known in ("_scheduled_tasks", "_all_tasks"):
        try:
            alive = list(getattr(tasks, known, ()))
        except RuntimeError:  # it changed while we looked
            continue
        for task in alive:
            coroutine = task.get_coro()
            name = str(getattr(coroutine, "__qualname__", "?"))
            yield id(task), "", name
            yield id(coroutine), "task", name
