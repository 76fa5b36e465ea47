"""Counts the target's threads by what they run, where they are now, and who started them.

Frames of other threads are held for the few microseconds in which they are looked at, and only
those of some threads per reading. Who starts a thread is noted by a function in the place of
`threading.Thread.start`, which is put back at the end. Threads that Python does not know are
counted by the name that the operating system has for them.
"""

from __future__ import annotations

import _thread
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

_MAX_DEPTH = 64
_MAX_STACKS = 2000
_MAX_GROUPS = 400
_MAX_STARTS = 20_000
_MAX_NATIVE = 1000
_OTHER = "[other threads]"
_UNNAMED = "[not started by threading]"
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")


class Recorder:
    """Counts threads every so often."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._cpu_ns = 0
        self._readings = 0
        self._longest_ns = 0
        self._first_seen: dict[tuple[Any, Any], int] = {}
        self._stacks: dict[tuple[Any, ...], int] = {}
        self._new_stacks: list[tuple[int, list[Any]]] = []
        self._starts: dict[int | None, tuple[int, int]] = {}
        self._put_back: Any = None

    def start(
        self, every_s: float = 1.0, looked_at: int = 200, max_share: float = 0.01, starts: bool = True
    ) -> dict[str, Any]:
        """Start; return whether it is noted who starts threads."""
        self._looked_at = looked_at
        if starts and "threading" in sys.modules:
            self._put_back = _replace_start(sys.modules["threading"].Thread, self._note_start)
        self._probe.spawn(self._run(every_s, max_share))
        return {"monotonic_ns": time.monotonic_ns(), "every_s": every_s, "starts": self._put_back is not None}

    def stop(self) -> dict[str, Any]:
        """Return how many readings there were and what they cost."""
        if self._put_back is not None:
            self._put_back()
        self._starts.clear()
        return {
            "monotonic_ns": time.monotonic_ns(),
            "readings": self._readings,
            "longest_ns": self._longest_ns,
            "cost_ns": self._cpu_ns,
        }

    def _run(self, every_s: float, max_share: float) -> Iterator[float]:
        """Take one reading after the other, further apart when they would cost more than their share."""
        while True:
            began_ns = time.thread_time_ns()
            self._probe.emit(self._reading())
            took_ns = time.thread_time_ns() - began_ns
            self._cpu_ns += took_ns
            self._readings += 1
            self._longest_ns = max(self._longest_ns, took_ns)
            yield max(every_s, took_ns / 1e9 / max_share)

    def _reading(self) -> dict[str, Any]:
        """Return the counts of all threads but our own."""
        at_ns = time.monotonic_ns()
        known = _known_threads()
        places, unknown, step = self._places(known)
        groups: dict[tuple[Any, ...], list[int]] = {}
        seen: dict[tuple[Any, Any], int] = {}
        threads = [(ident, _described(thread)) for ident, thread in known.items()]
        threads += [(ident, (_UNNAMED, None, None, None, 0)) for ident in unknown]
        for ident, (name, function, is_daemon, native_id, identity) in threads:
            first_ns = seen[ident, native_id] = self._first_seen.get((ident, native_id), at_ns)
            key = name, function, is_daemon, places.get(ident), self._starts.get(identity, (None,))[0]
            _count(groups, key, at_ns - first_ns)
        self._first_seen = seen
        self._forget_starts({described[4] for _ident, described in threads})
        natives = {described[3] for _ident, described in threads}
        for name, count in _native(natives, len(unknown)):
            groups.setdefault((name, None, None, None, None), [0, 0])[0] += count
        row: dict[str, Any] = {"at": at_ns, "looked_at_each": step}
        row["groups"] = [[*key, *counts] for key, counts in groups.items()]
        if self._new_stacks:
            row["stacks"], self._new_stacks = self._new_stacks, []
        return row

    def _forget_starts(self, living: set[int]) -> None:
        """Forget who started threads that are gone: the next ones may get their addresses.

        One that is being started now is not among the living yet, so it stays for a reading.
        """
        for identity, entry in list(self._starts.items()):
            if identity not in living and entry[1] < self._readings and self._starts.get(identity) is entry:
                self._starts.pop(identity, None)

    def _places(self, known: dict[int, Any]) -> tuple[dict[int, int | None], list[int], int]:
        """Return where some of the threads are, the threads that `threading` does not know, and one in how many."""
        frames, here = sys._current_frames(), sys._getframe()
        # By the frame, not by get_ident(): gevent puts its own in the place of that.
        for ident in [ident for ident, frame in frames.items() if frame is here]:
            del frames[ident]
            known.pop(ident, None)
        # A frame that holds itself is garbage for the collector, and with it all frames of the target that it holds.
        del here
        step = max(1, -(-len(frames) // self._looked_at))
        places = {ident: self._stack(frame) for index, (ident, frame) in enumerate(frames.items()) if not index % step}
        unknown = [ident for ident in frames if ident not in known]
        frames.clear()
        return places, unknown, step

    def _stack(self, frame: FrameType | None) -> int | None:
        """Return the number of a stack, which is told once."""
        frames: list[FrameType] = []
        while frame is not None and len(frames) < _MAX_DEPTH:
            frames.append(frame)
            frame = frame.f_back
        key = tuple([(each.f_code, each.f_lasti) for each in frames])
        number = self._stacks.get(key)
        if number is None and len(self._stacks) < _MAX_STACKS:
            number = self._stacks[key] = len(self._stacks)
            flat: list[Any] = []
            for each in reversed(frames):
                code = each.f_code
                flat += (getattr(code, "co_qualname", code.co_name), code.co_filename, each.f_lineno)
            self._new_stacks.append((number, flat))
        return number

    def _note_start(self, thread: Any, frame: FrameType) -> None:
        """Note who starts a thread; runs in the target's own threads."""
        began_ns = time.thread_time_ns()
        if len(self._starts) < _MAX_STARTS:
            number = self._stack(frame)
            if number is not None:
                self._starts[id(thread)] = number, self._readings
        self._cpu_ns += time.thread_time_ns() - began_ns


def _replace_start(of: Any, note: Any) -> Any:
    """Put a function in the place of `Thread.start` that tells us first; return what puts it back."""
    # gevent puts a class that has no `start` of its own in the place of threading's.
    of = next(each for each in of.__mro__ if "start" in each.__dict__)
    # What the class itself holds is put back: a library's wrapper may give another object to each who asks for it.
    held, original = of.__dict__["start"], of.start
    notes = [note]
    process = os.getpid()

    def start(self: Any, *arguments: Any, **more: Any) -> Any:
        try:
            if os.getpid() != process:  # a forked child has it too, but nobody who would take it out
                put_back()
            for each in notes:
                each(self, sys._getframe(1))
        except Exception:  # noqa: BLE001 - the thread must start all the same; that its starter is unknown shows
            notes.clear()
        return original(self, *arguments, **more)

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(start, name, getattr(original, name, getattr(start, name)))

    def put_back() -> None:
        # Somebody may have wrapped ours meanwhile: then it stays below theirs, and does nothing.
        notes.clear()
        if of.__dict__.get("start") is start:
            of.start = held

    of.start = start
    return put_back


def _known_threads() -> dict[int, Any]:
    """Return the threads that `threading` knows, by their identifier."""
    threading = sys.modules.get("threading")
    return dict(getattr(threading, "_active", None) or {})


def _described(thread: Any) -> tuple[str, str | None, bool | None, int | None, int]:
    """Return name, function, whether it is a daemon, id of the operating system, and address of a thread.

    Nothing of the target's own runs for it: attributes are read where the object keeps them.
    """
    try:
        values = object.__getattribute__(thread, "__dict__")
    except AttributeError:
        values = {}
    kind = type(thread)
    target = values.get("_target") or (values.get("function") if "finished" in values else None)
    if target is not None:
        function: str | None = _function(target)
    elif kind.__module__ == "threading":
        function = None
    else:
        function = f"{kind.__module__}.{kind.__qualname__}.run"
    native = values.get("_native_id")
    is_daemon = values.get("_daemonic")
    return (
        masked(str(values.get("_name", kind.__name__))),
        function,
        is_daemon if isinstance(is_daemon, bool) else None,
        native if isinstance(native, int) else None,
        id(thread),
    )


def _function(target: Any) -> str:
    """Return the dotted name of what a thread calls."""
    for _ in range(4):
        if type(target).__name__ != "partial":
            break
        target = target.func
    kind = type(target)
    if kind.__name__ in (
        "function",
        "method",
        "builtin_function_or_method",
        "method-wrapper",
        "cython_function_or_method",
    ):
        return f"{getattr(target, '__module__', None) or 'builtins'}.{getattr(target, '__qualname__', kind.__name__)}"
    return f"{kind.__module__}.{kind.__qualname__}"


def _count(groups: dict[tuple[Any, ...], list[int]], key: tuple[Any, ...], age_ns: int) -> None:
    """Add one thread to its group; beyond the bound, to the one of the others."""
    group = groups.get(key)
    if group is None:
        if len(groups) >= _MAX_GROUPS:
            key = (_OTHER, None, None, None, None)
        group = groups.setdefault(key, [0, 0])
    group[0] += 1
    group[1] = max(group[1], age_ns)


def _native(known: set[Any], unknown: int) -> Iterator[tuple[str, int]]:
    """Yield `(name, threads)` of the threads that run no Python.

    Args:
        known: ids of the operating system of the threads that `threading` knows.
        unknown: how many more run Python: which of the others they are, nobody can tell, but they
            have the name of the process.
    """
    ours = _thread.get_native_id()
    others = [tid for tid in os.listdir("/proc/self/task") if int(tid) != ours and int(tid) not in known]  # noqa: PTH208
    process = _comm("/proc/self/comm")
    # The name of the process comes first, so that the unknown ones are taken out of it.
    counts: dict[str | None, int] = {process: 0}
    for tid in others[:_MAX_NATIVE]:
        name = _comm(f"/proc/self/task/{tid}/comm")
        counts[name] = counts.get(name, 0) + 1
    counts.pop(None, None)  # they ended just now
    if len(others) > _MAX_NATIVE:
        counts[_OTHER] = len(others) - _MAX_NATIVE
    for name, count in counts.items():
        hidden = min(unknown, count)
        unknown -= hidden
        if count > hidden:
            yield f"[native] {name}", count - hidden


def _comm(file: str) -> str | None:
    """Return the operating system's name of a thread, masked, None: it is gone."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return masked(os.read(descriptor, 64).decode("utf-8", "replace").strip())
    except OSError:
        return None
    finally:
        os.close(descriptor)


def masked(name: str) -> str:
    """Return a name with the parts that number things replaced, so that things of one kind have one name.

    >>> masked("ThreadPoolExecutor-0_12"), masked("Thread-7 (serve)"), masked("job 3f2a-9bc1"), masked("worker12")
    ('ThreadPoolExecutor-#_#', 'Thread-# (serve)', 'job #-#', 'worker#')
    """
    parts: list[str] = []
    word = ""
    for character in name + "\0":
        if character.isalnum():
            word += character
            continue
        parts.append(_masked_word(word))
        parts.append(character)
        word = ""
    return "".join(parts)[:-1]


def _masked_word(word: str) -> str:
    """Return `#` for a number, also a hexadecimal one, else the word with its runs of digits replaced."""
    if not any(character.isdigit() for character in word):
        return word
    if set(word) <= _HEXADECIMAL:
        return "#"
    out = ""
    for character in word:
        if not character.isdigit():
            out += character
        elif not out.endswith("#"):
            out += "#"
    return out
