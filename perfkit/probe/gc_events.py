"""Notes every garbage collection of the target, and between them the collector's counters and settings.

The two callbacks write numbers into memory that was set aside before: they take no lock, keep
nothing the collector would have to track, and never raise. The interpreter runs one collection
at a time, whatever the thread, so there is one writer; the probe's thread is the one reader.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from _thread import get_native_id, interrupt_main
from time import monotonic_ns, thread_time_ns

from perfkit.probe.names import OWN_FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

WIDTH = 10
"""Numbers per collection: start_ns, pause_ns, generation, manual, stack, what it says at its end, cpu_ns."""
ROOM = 1 << 13
"""Collections there is room for between two drains."""

_BYTES = 8 * WIDTH
_COUNTS_WIDTH = 5
_COUNTS_ROOM = 256
_UNKNOWN = -1
_MAX_FRAMES = 40
_MAX_STACKS = 2000
_CALIBRATIONS = 50
_LOOK_BACK_BYTES = 60
"""A call's name is loaded at most this far before it: 10 code units, and as much for each of a few arguments."""
_SLOW_FROZEN = 500
"""Counting frozen objects walks all of them: wait this many times as long before doing it again."""
_IDLE, _OPENED, _BEGUN, _CLOSING = range(4)
"""How far a collection is: between two; `first` and `last` ran at its start; `first` ran at its end."""

_FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()
_DEFERRED = sys.version_info >= (3, 12)
"""Automatic collections wait for the next safe point of the interpreter instead of running inside the allocation."""
_INCREMENTAL = (3, 14, 0) <= sys.version_info[:3] <= (3, 14, 4)


class Watch:
    """Two functions in `gc.callbacks`, and the ring they write to.

    `first` runs before and `last` after those of other libraries, so that what these cost is
    outside of the pause that is measured.
    """

    __slots__ = (
        "_first", "_last", "_pid", "_stack_codes", "_stack_numbers", "_threshold", "_write",
        "cut_short", "generation", "interrupted", "lost", "manual", "new_stacks", "ring", "stack", "start_cpu_ns",
        "start_ns",         "step", "written",
    )  # fmt: skip

    def __init__(self, threshold: Callable[[], tuple[int, ...]] = gc.get_threshold, room: int = ROOM) -> None:
        self.ring = memoryview(bytearray(8 * WIDTH * room))
        self._write = _struct(f"{WIDTH}q").pack_into
        self.written = 0
        self.lost = 0
        self.step = _IDLE
        self.start_ns = 0
        self.start_cpu_ns = 0
        self.interrupted = False
        self.cut_short = False
        self.generation = 0
        self.manual = 0
        self.stack = _UNKNOWN
        self.new_stacks: list[tuple[int, list[Any]]] = []
        self._stack_numbers: dict[tuple[int, ...], int] = {}
        self._stack_codes: list[Any] = []
        self._threshold = threshold
        self._pid = os.getpid()
        # Looked up once: each access to a method makes a new object.
        self._first, self._last = self.first, self.last

    def first(self, phase: str, info: dict[str, int]) -> None:
        """Note the end of a collection, before other callbacks run; at its start, who asked for it."""
        try:
            now_ns = monotonic_ns()
            step = self.step
            if phase == "start":
                self.step = _OPENED
                if step == _CLOSING:
                    self._was_cut_short()
                self.generation = generation = info["generation"]
                counts, thresholds = gc.get_count(), self._threshold()
                frame = sys._getframe().f_back
                self.manual = manual = _is_manual(generation, counts, thresholds, frame)
                self.stack = self._number(frame) if manual == 1 or generation == 2 else _UNKNOWN
            elif step == _BEGUN:
                self.step = _CLOSING
                ring = self.ring
                self._write(
                    ring, self.written * _BYTES % len(ring),
                    self.start_ns, now_ns - self.start_ns, self.generation, self.manual, self.stack,
                    info["collected"], info["uncollectable"], get_native_id(), info.get("candidates", _UNKNOWN),
                    thread_time_ns() - self.start_cpu_ns,
                )  # fmt: skip
                self.written += 1
            elif step == _OPENED:
                self.step = _CLOSING
                self._was_cut_short()
        except KeyboardInterrupt:
            self.interrupted = True
        except Exception:  # noqa: BLE001 - it would be printed into the target's standard error
            self.lost += 1
            self.manual = self.stack = _UNKNOWN

    def last(self, phase: str, info: dict[str, int]) -> None:
        """Note the start of a collection, after other callbacks ran."""
        try:
            if phase == "start":
                if self.step == _OPENED:
                    self.step = _BEGUN
                self.start_cpu_ns = thread_time_ns()
                self.start_ns = monotonic_ns()
                return
            step, self.step = self.step, _IDLE
            if step == _BEGUN:
                self._was_cut_short()
            # A forked child has our callbacks, but nobody who would take them out again.
            if self.generation and os.getpid() != self._pid:
                self.remove()
        except KeyboardInterrupt:
            self.interrupted = True

    def _was_cut_short(self) -> None:
        """Note that one of our functions did not run, because a signal's handler raised at its beginning."""
        self.lost += 1
        self.cut_short = get_native_id() == self._pid  # handlers run in the main thread

    def install(self) -> None:
        """Put both functions in place; collections that are under way in other threads are not disturbed."""
        gc.callbacks.append(self._last)
        _wait_while(_is_any_running)
        gc.callbacks.insert(0, self._first)

    def remove(self) -> None:
        """Take both functions out again, between two collections: else others would be skipped in this one."""
        callbacks, first, last = gc.callbacks, self._first, self._last
        for _attempt in range(20):
            _wait_while(lambda: bool(self.step))
            if first not in callbacks or last not in callbacks:
                break
            front, back = callbacks.index(first), callbacks.index(last)
            try:
                # No call and no jump back in here: no other thread, and no collection, comes between.
                if not self.step and callbacks[front] is first and callbacks[back] is last:
                    del callbacks[back], callbacks[front]
                    return
            except IndexError:  # somebody cleared the list just now
                continue
        for one in (first, last):
            while one in callbacks:
                callbacks.remove(one)

    def give_back_interrupt(self) -> None:
        """Raise Ctrl-C in the main thread again when the interpreter dropped it because one of our functions ran.

        A signal that comes during a collection is handled as soon as Python code runs again, and
        that is ours: at its first instruction, where nothing can be caught. What was raised is
        known then only if no handler but that of SIGINT can have raised it.
        """
        interrupted, self.interrupted = self.interrupted, False
        cut_short, self.cut_short = self.cut_short, False
        if cut_short and not interrupted:
            signal = __import__("_signal")
            handlers = [signal.getsignal(number) for number in range(1, 65)]
            interrupted = [each for each in handlers if callable(each)] == [signal.default_int_handler]
        if interrupted:
            interrupt_main()

    def are_in_place(self) -> bool:
        """Whether nobody took our functions out, as `gc.callbacks.clear()` would."""
        return self._first in gc.callbacks and self._last in gc.callbacks

    def is_ours(self, callback: Any) -> bool:
        """Whether a callback is one of the two."""
        return callback is self._first or callback is self._last

    def _number(self, frame: FrameType | None) -> int:
        """Return the number of a stack, which is told once."""
        key: list[int] = []
        frames: list[FrameType] = []
        while frame is not None and len(frames) < _MAX_FRAMES:
            key += (id(frame.f_code), frame.f_lasti)
            frames.append(frame)
            frame = frame.f_back
        if not frames or frames[-1].f_code.co_filename == OWN_FILE:
            return _UNKNOWN
        number = self._stack_numbers.get(tuple(key))
        if number is None:
            number = len(self._stack_numbers)
            if number >= _MAX_STACKS:
                return _UNKNOWN
            # Keeps their ids from being used again.
            self._stack_codes += [each.f_code for each in frames]
            self._stack_numbers[tuple(key)] = number
            self.new_stacks.append((number, _described(frames)))
        return number


class Recorder:
    """Takes what the callbacks wrote, and reads the counters in between."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._watch = Watch()
        self._taken = 0
        self._lost = 0
        self._put_back = 0
        self._cpu_ns = 0
        self._counts = memoryview(bytearray(8 * _COUNTS_WIDTH * _COUNTS_ROOM)).cast("q")
        self._readings = 0
        self._frozen_due = 0.0
        self._settings: dict[str, Any] = {}
        self._others: list[Any] = []
        self._changes: list[tuple[int, str, Any]] = []

    def start(self, counts_per_s: float = 10.0, drains_per_s: float = 4.0) -> dict[str, Any]:
        """Start; return what one collection costs, and how many the interpreter counted before."""
        began_ns = time.thread_time_ns()
        cost_ns = _cost_of_one()
        self._watch.install()
        unseen = self._unseen()
        self._every_s = 1.0 / counts_per_s
        self._per_drain = max(1, min(_COUNTS_ROOM, round(counts_per_s / drains_per_s)))
        self._probe.spawn(self._run())
        self._cpu_ns += time.thread_time_ns() - began_ns
        return {
            "monotonic_ns": monotonic_ns(),
            "os_tid": get_native_id(),
            "unseen": unseen,
            "cost_per_collection_ns": cost_ns,
            "counts_per_s": counts_per_s,
        }

    def stop(self) -> dict[str, Any]:
        """Take the callbacks out; return how many collections there were and what it cost."""
        began_ns = time.thread_time_ns()
        self._look()
        unseen = self._unseen()
        self._watch.remove()
        self._watch.give_back_interrupt()
        self._drain()
        self._cpu_ns += time.thread_time_ns() - began_ns
        return {
            "monotonic_ns": monotonic_ns(),
            "unseen": unseen,
            "seen": self._watch.written,
            "lost": self._lost + self._watch.lost,
            "put_back": self._put_back,
            "cost_ns": self._cpu_ns,
        }

    def _run(self) -> Iterator[float]:
        """Read the counters, and send everything every few readings."""
        due = time.monotonic()
        while True:
            began_ns = time.thread_time_ns()
            self._look()
            if self._readings >= self._per_drain:
                self._drain()
            self._cpu_ns += time.thread_time_ns() - began_ns
            now = time.monotonic()
            due = max(due + self._every_s, now)
            yield due - now

    def _look(self) -> None:
        """Read the counters and the settings; nothing it makes is tracked by the collector for long."""
        self._watch.give_back_interrupt()
        counts, at = gc.get_count(), self._readings * _COUNTS_WIDTH
        row = self._counts
        row[at], row[at + 1], row[at + 2], row[at + 3] = monotonic_ns(), counts[0], counts[1], counts[2]
        row[at + 4] = _UNKNOWN
        now = time.monotonic()
        if now >= self._frozen_due:
            row[at + 4] = self._note("gc.frozen_objects", gc.get_freeze_count())
            self._frozen_due = now + max(1.0, _SLOW_FROZEN * (time.monotonic() - now))
        self._readings += 1
        self._note("gc.enabled", gc.isenabled())
        self._note("gc.thresholds", gc.get_threshold())
        self._note("gc.debug", gc.get_debug())
        if not self._watch.are_in_place():
            self._watch.remove()
            self._watch.install()
            self._put_back += 1
        others = [each for each in gc.callbacks if not self._watch.is_ours(each)]
        if others != self._others or "gc.callbacks" not in self._settings:
            self._others = others
            self._note("gc.callbacks", [_callback_name(each) for each in others])

    def _note(self, name: str, value: Any) -> Any:
        """Note a setting if it changed; return its value."""
        if self._settings.get(name, self) != value:
            self._settings[name] = value
            self._changes.append((monotonic_ns(), name, value))
        return value

    def _drain(self) -> None:
        """Send what there is."""
        watch, ring = self._watch, self._watch.ring.cast("q")
        room = len(ring) // WIDTH
        written = watch.written
        # The slot after the newest may be being written to.
        overwritten = max(0, written - self._taken - (room - 1))
        self._lost += overwritten
        since, self._taken = self._taken + overwritten, written
        row: dict[str, Any] = {}
        if since < written:
            begin, end = since % room * WIDTH, written % room * WIDTH
            row["events"] = ring[begin:end].tolist() if begin < end else [*ring[begin:], *ring[:end]]
        if watch.new_stacks:
            row["stacks"], watch.new_stacks = watch.new_stacks, []
        if self._readings:
            row["counts"] = self._counts[: self._readings * _COUNTS_WIDTH].tolist()
            self._readings = 0
        if self._changes:
            row["settings"], self._changes = self._changes, []
        dropped = self._probe.dropped
        if row:
            # So that a recorder which never sees the end knows them too.
            row["lost"], row["cost_ns"] = self._lost + watch.lost, self._cpu_ns
            self._probe.emit(row)
        if self._probe.dropped != dropped:
            self._lost += written - since

    def _unseen(self) -> int:
        """Return how many collections the interpreter has counted, since it began, that the callbacks did not see."""
        watch, counted, written = self._watch, 0, 0
        for _attempt in range(10):
            _wait_while(lambda: bool(watch.step))
            written = watch.written
            counted = sum(generation["collections"] for generation in gc.get_stats())
            if not watch.step and written == watch.written:
                break
        return counted - written


def _is_manual(generation: int, counts: tuple[int, ...], thresholds: tuple[int, ...], frame: FrameType | None) -> int:
    """Return 1 for a call of gc.collect(), 0 for a collection of the interpreter's own, -1: cannot be told.

    The interpreter collects a generation when its counter is above its threshold, and looks at
    that only because the counter of the youngest has just passed its own. Where both hold, or where
    what it does is put off (3.12 and later), the caller's instruction decides.
    """
    if _FREE_THREADED:
        return _UNKNOWN
    if not gc.isenabled() or not thresholds[0]:
        return 1
    if not _INCREMENTAL and counts[generation] <= thresholds[generation]:
        return 1
    if counts[0] <= thresholds[0] and not _DEFERRED:
        return 1
    return int(frame is not None and _calls_collect(frame))


def _calls_collect(frame: FrameType) -> bool:
    """Whether the instruction a frame is at may be a call of gc.collect: its name was loaded just before."""
    code, names = frame.f_code, frame.f_code.co_names
    if "collect" not in names:
        return False
    if "gc" not in names and frame.f_globals.get("collect") is not gc.collect:
        return False
    units = code.co_code[max(0, frame.f_lasti - _LOOK_BACK_BYTES) : frame.f_lasti]
    number = names.index("collect")
    for at in range(0, len(units), 2):
        shift = _NAME_SHIFTS.get(units[at])
        if shift is not None and units[at + 1] >> shift == number & 0xFF >> shift:
            return True
    return False


def _imported(module: str, name: str, *others: str) -> Any:
    """Return what a module of the standard library defines; the module, and `others` it imports, are gone again."""
    new = [each for each in (module, *others) if each not in sys.modules]
    try:
        return getattr(__import__(module), name)
    finally:
        for each in new:
            sys.modules.pop(each, None)


def _name_shifts() -> dict[int, int]:
    """Return, for each instruction that loads a name, by how many bits its argument is more than the name's number."""
    opmap: dict[str, int] = _imported("opcode", "opmap", "_opcode", "_opcode_metadata")
    version = sys.version_info[:2]
    shifts = {
        "LOAD_NAME": 0,
        "LOAD_METHOD": 0,
        "LOAD_GLOBAL": int(version >= (3, 11)),
        "LOAD_ATTR": int(version >= (3, 12)),
    }
    return {opmap[name]: shift for name, shift in shifts.items() if name in opmap}


_NAME_SHIFTS = _name_shifts()
_struct = _imported("_struct", "Struct")


def _described(frames: list[FrameType]) -> list[Any]:
    """Return function, file and line of each frame, outermost first, as one flat list."""
    flat: list[Any] = []
    for frame in reversed(frames):
        code = frame.f_code
        flat += (getattr(code, "co_qualname", code.co_name), code.co_filename, frame.f_lineno)
    return flat


def _callback_name(callback: Any) -> str:
    """Return module and name of a function that somebody registered."""
    kind = type(callback)
    name = getattr(callback, "__qualname__", kind.__qualname__)
    return f"{getattr(callback, '__module__', None) or kind.__module__}.{name}"


def _is_any_running() -> bool:
    """Whether a thread is inside of another library's callback: the interpreter is going through the list."""
    codes = {id(getattr(each, "__code__", None)) for each in gc.callbacks} - {id(None)}
    if not codes:
        return False
    frames = list(sys._current_frames().values())
    try:
        while frames:
            each: FrameType | None = frames.pop()
            while each is not None:
                if id(each.f_code) in codes:
                    return True
                each = each.f_back
        return False
    finally:
        frames.clear()  # ours is among them: a frame that holds itself is left to the collector


def _wait_while(condition: Callable[[], bool], at_most_s: float = 1.0) -> None:
    """Give the GIL away until a condition does not hold any more, or it takes too long."""
    until = time.monotonic() + at_most_s
    while condition() and time.monotonic() < until:
        time.sleep(0.0005)


def _cost_of_one() -> int:
    """Return what the callbacks cost per collection, in nanoseconds: the least of some tries, without the target's."""
    watch = Watch(threshold=lambda: (-1, -1, -1), room=_CALIBRATIONS)
    least_ns = 1 << 62
    for _ in range(_CALIBRATIONS):
        began_ns = monotonic_ns()
        info = {"generation": 0, "collected": 0, "uncollectable": 0}
        watch.first("start", info)
        watch.last("start", info)
        info = {"generation": 0, "collected": 0, "uncollectable": 0}
        watch.first("stop", info)
        watch.last("stop", info)
        least_ns = min(least_ns, monotonic_ns() - began_ns)
    return least_ns
