"""Asks event loops, a few times a second, to run a tiny callback, and notes how late they did.

`call_soon_threadsafe` is the one way into a loop that every loop allows from another thread.
A loop is never asked again before it has answered.
"""

from __future__ import annotations

import gc
import sys
import time
from _weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_MAX_LOOPS = 16
_MAX_TASKS = 500
_SEARCH_EVERY_S = 1.0
_SMALL_HEAP_BLOCKS = 1_500_000
_PATIENCE_S = 0.5


class Watched:
    """One event loop, and the callback it was asked to run."""

    def __init__(self, loop: Any, number: int) -> None:
        self.loop = _reference(loop)
        self.number = number
        self.asked_ns = 0
        self.ran_ns = 0
        self._handle: Any = None

    def ask(self, loop: Any) -> bool:
        """Ask the loop to run the callback; return whether it can."""
        self.ran_ns, self.asked_ns = 0, time.monotonic_ns()
        try:
            self._handle = loop.call_soon_threadsafe(self._ran)
        except RuntimeError:  # it is closed
            self.asked_ns = 0
            return False
        return True

    def _ran(self) -> None:
        """Run in the loop's thread."""
        self.ran_ns = time.monotonic_ns()

    def answer_ns(self) -> int | None:
        """Return how late the callback ran, None if it has not; the loop may be asked again then."""
        if not self.ran_ns:
            return None
        lag_ns, self.asked_ns, self._handle = self.ran_ns - self.asked_ns, 0, None
        return lag_ns

    def take_back(self) -> None:
        """Make the loop forget the callback."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        if type(handle).__module__.startswith("asyncio."):
            # Its `cancel` also forgets what to call, which the loop may be about to do in its thread.
            handle._cancelled = True
        else:
            handle.cancel()


class Recorder:
    """Asks every loop it can find."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._cpu_ns = 0
        self._watched: list[Watched] = []
        self._loops = 0
        self._answers: list[int] = []
        self._new: list[tuple[int, str]] = []
        self._searched_heap = False
        self._search_due = 0.0

    def start(self, asks_per_s: float = 10.0, sends_per_s: float = 1.0) -> dict[str, Any]:
        """Start; return how many loops were found."""
        began_ns = time.thread_time_ns()
        self._search()
        self._probe.spawn(self._run(1.0 / asks_per_s, max(1, round(asks_per_s / sends_per_s))), last=True)
        self._cpu_ns += time.thread_time_ns() - began_ns
        return {"monotonic_ns": time.monotonic_ns(), "asks_per_s": asks_per_s, "loops": self._loops}

    def stop(self) -> dict[str, Any]:
        """Wait shortly for the answers that are still due, and leave nothing in the loops."""
        began_ns = time.thread_time_ns()
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until and any(each.asked_ns and not each.ran_ns for each in self._watched):
            time.sleep(0.001)
        unanswered = 0
        for each in self._watched:
            asked_ns = each.asked_ns
            if self._collect(each) is None and asked_ns and _is_running(each.loop()):
                self._answers += (each.number, asked_ns, time.monotonic_ns() - asked_ns)
                unanswered += 1
            each.take_back()
        self._watched.clear()
        self._send()
        self._cpu_ns += time.thread_time_ns() - began_ns
        return {
            "monotonic_ns": time.monotonic_ns(),
            "loops": self._loops,
            "unanswered": unanswered,
            "cost_ns": self._cpu_ns,
        }

    def _run(self, every_s: float, per_send: int) -> Iterator[float]:
        """Ask every loop that has answered, a few times a second."""
        due, rounds = time.monotonic(), 0
        while True:
            began_ns = time.thread_time_ns()
            now = time.monotonic()
            if now >= self._search_due:
                self._search()
            for each in list(self._watched):
                self._ask(each)
            rounds += 1
            if rounds % per_send == 0:
                self._send()
            self._cpu_ns += time.thread_time_ns() - began_ns
            now = time.monotonic()
            due = max(due + every_s, now) if self._watched else max(self._search_due, now)
            yield due - now

    def _ask(self, watched: Watched) -> None:
        """Take the answer of a loop and ask again."""
        loop = watched.loop()
        if loop is None or loop.is_closed():
            self._watched.remove(watched)
        elif watched.asked_ns and self._collect(watched) is None:
            if not loop.is_running():  # it was stopped: how long for is not its lag
                watched.take_back()
                watched.asked_ns = 0
        elif loop.is_running() and not watched.ask(loop):
            self._watched.remove(watched)

    def _collect(self, watched: Watched) -> int | None:
        """Note the answer of a loop, None if it has none."""
        asked_ns = watched.asked_ns
        lag_ns = watched.answer_ns() if asked_ns else None
        if lag_ns is not None:
            self._answers += (watched.number, asked_ns, lag_ns)
        return lag_ns

    def _send(self) -> None:
        """Send what there is."""
        row: dict[str, Any] = {}
        if self._new:
            row["loops"], self._new = self._new, []
        if self._answers:
            row["answers"], self._answers = self._answers, []
        if row:
            self._probe.emit(row)

    def _search(self) -> None:
        """Add the loops that are not known yet."""
        self._search_due = time.monotonic() + _SEARCH_EVERY_S
        if "asyncio.events" not in sys.modules:
            return
        known = {id(each.loop()) for each in self._watched}
        for loop in self._found():
            if id(loop) in known or len(self._watched) >= _MAX_LOOPS or loop.is_closed():
                continue
            known.add(id(loop))
            self._new.append((self._loops, f"{type(loop).__module__}.{type(loop).__qualname__}"))
            self._watched.append(Watched(loop, self._loops))
            self._loops += 1

    def _found(self) -> list[Any]:
        """Return event loops: of tasks; else of frames that run one; else of the whole heap, once, if it is small."""
        found = _loops_of_tasks()
        if not found and not self._watched:
            found = _loops_of_frames()
            if not found and not self._searched_heap and sys.getallocatedblocks() < _SMALL_HEAP_BLOCKS:
                self._searched_heap = True
                found = _loops_of_heap()
        return found


def _loops_of_tasks() -> list[Any]:
    """Return the loops of asyncio's tasks."""
    tasks = sys.modules.get("asyncio.tasks")
    found: dict[int, Any] = {}
    for name in ("_all_tasks", "_scheduled_tasks"):
        known = getattr(tasks, name, None)
        # The set inside of a WeakSet: copied in one go, while no other thread can change it.
        references = list(known.data) if known is not None else []
        for reference in references[:: 1 + len(references) // _MAX_TASKS]:
            task = reference()
            if task is not None:
                loop = task.get_loop()
                found[id(loop)] = loop
    return list(found.values())


def _loops_of_frames() -> list[Any]:
    """Return the loops that are being run by methods written in Python."""
    kinds = _kinds()
    found: dict[int, Any] = {}
    frames = list(sys._current_frames().values())
    while frames:  # none is left over: a frame that holds itself, as ours would, is left to the collector
        frame: Any = frames.pop()
        while frame is not None:
            if frame.f_code.co_name == "run_forever" and frame.f_code.co_varnames[:1] == ("self",):
                values = frame.f_locals
                loop = values.get("self")
                # Up to 3.12 the frame keeps this snapshot, and with it the values, until it returns; it may be
                # the target's own, from `locals()`. Held by the frame, by us, and by the call that counts.
                if type(values) is dict and sys.getrefcount(values) <= 3:
                    values.clear()
                if type(loop) in kinds:
                    found[id(loop)] = loop
            frame = frame.f_back
    return list(found.values())


def _loops_of_heap() -> list[Any]:
    """Return the loops among all objects: uvloop's, in a process that has no task, are nowhere else."""
    kinds = _kinds()
    return [each for each in gc.get_objects() if type(each) in kinds]


def _kinds() -> set[type]:
    """Return the classes of event loops there are."""
    waiting: list[type] = [sys.modules["asyncio.events"].AbstractEventLoop]
    found: set[type] = set()
    while waiting:
        kind = waiting.pop()
        if kind not in found:
            found.add(kind)
            waiting += type.__subclasses__(kind)
    return found


def _is_running(loop: Any) -> bool:
    """Whether a loop is there and runs."""
    return loop is not None and bool(loop.is_running())


def _reference(loop: Any) -> Callable[[], Any]:
    """Return a function that returns the loop as long as somebody else has it, where it lets us."""
    try:
        return ref(loop)
    except TypeError:
        return lambda: loop
