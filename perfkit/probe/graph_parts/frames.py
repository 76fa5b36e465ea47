"""The local variables of frames, where they can be read without harm.

Two kinds of frame objects tell of variables that are not there, and asking for them is fatal: those of generators
that were closed (`is_intact`), and, in 3.13, those that memray has left behind (`doubt`).
"""

from __future__ import annotations

import gc
import sys
from contextlib import suppress

from perfkit.probe.graph_parts.system_calls import Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from perfkit.probe.graph_parts.blocks import Labels

_SUSPENDS = 0x20 | 0x80 | 0x200
"""CO_GENERATOR, CO_COROUTINE and CO_ASYNC_GENERATOR."""

_OF_EVERY_FRAME = (type(lambda: None), type((lambda: None).__code__), dict)
"""Types of what a frame refers to besides its variables: its function, its code, variables a debugger added."""


_POINTER = 24
"""Where a frame object says which frame it stands for. Source: CPython 3.13, struct _frame in pycore_frame.h"""
_OWN_DATA = range(32, 256)
"""How far after its own beginning that is once the call is over: then the object keeps its variables itself."""


class Doubt:
    """Tells which frame objects stand for the frame that they should.

    A generator is made out of the frame of its function's call. In 3.13, memray may ask for that frame's object while
    the generator's memory is allocated; the object moves into the generator, but goes on referring to the frame of the
    call. Its variables are those of whoever has that memory now, and reading them crashed targets.
    """

    def __init__(self) -> None:
        self._memory: Memory | None = None
        with suppress(ImportError, KeyError, OSError, AttributeError):
            self._memory = Memory()
        example: Any = (each for each in ())  # type: ignore[var-annotated]
        if not self.stands_for(example.gi_frame, example):
            self._memory = None

    def stands_for(self, frame: Any, generator: Any) -> bool:
        """Whether a generator's frame object refers to the frame inside of that generator."""
        return id(generator) < self._frame_of(frame) < id(generator) + sys.getsizeof(generator, 0)

    def keeps_its_own(self, frame: Any) -> bool:
        """Whether a frame object has the variables of its frame in itself, since the call is over."""
        return self._frame_of(frame) - id(frame) in _OWN_DATA

    def _frame_of(self, frame: Any) -> int:
        """Return the address of the frame that a frame object stands for; 0 where that cannot be read."""
        return 0 if self._memory is None else self._memory.word(id(frame) + _POINTER)


def doubt() -> Doubt | None:
    """Return what to ask about frame objects where some may lie: after memray, whose library stays mapped, in 3.13."""
    if sys.hexversion < 0x030D0000:
        return None
    with open("/proc/self/maps", "rb") as file:  # noqa: PTH123 - pathlib may take the target 5 ms
        return Doubt() if b"_memray" in file.read() else None


def is_intact(frame: Any) -> bool:
    """Whether the local variables that a frame object tells of are there: asking a frame for freed ones is fatal.

    From 3.12.4 on, `close()` of a generator or coroutine lets go of its variables and leaves them in its frame.
    Such a frame refers to none of them, whether it still belongs to the generator or has outlived it. What
    waits or runs is asked through its generator and its thread.

    Source: https://github.com/python/cpython/issues/125723, https://github.com/python/cpython/pull/118277
    """
    if sys.hexversion < 0x030C0000 or not frame.f_code.co_flags & _SUSPENDS:
        return True
    return any(type(each) not in _OF_EVERY_FRAME for each in gc.get_referents(frame))


class Frames:
    """Reads local variables; where there is doubt, only of frame objects that are seen to tell the truth."""

    def __init__(self, variables: Labels, *, in_copy: bool, doubt: Doubt | None) -> None:
        self._variables, self._in_copy, self._doubt = variables, in_copy, doubt
        self._lies: set[int] = set()
        """Frame objects of generators that are running, and not what they refer to."""
        self._admitted: set[int] = set()
        """The other frames that are being executed."""

    def look_at_running(self, generators: list[Any], attribute: str) -> None:
        """Note which of the frames that are being executed belong to a generator and lie."""
        if self._doubt is None:
            return
        is_running = attribute.replace("_frame", "_running")
        for each in generators:
            if getattr(each, is_running) and not self._doubt.stands_for(frame := getattr(each, attribute), each):
                self._lies.add(id(frame))

    def admit(self, frame: Any) -> bool:
        """Whether a frame that is being executed can be read; if not, nor can those that called it."""
        if id(frame) in self._lies:
            return False
        self._admitted.add(id(frame))
        return True

    def is_readable(self, frame: Any) -> bool:
        """Whether a frame object that something refers to can be read."""
        return self._doubt is None or id(frame) in self._admitted or self._doubt.keeps_its_own(frame)

    def of_suspended(self, generator: Any, attribute: str) -> Any:
        """Return the frame of a generator or coroutine, None: it has none, or none that can be read."""
        frame = getattr(generator, attribute)
        if frame is None or self._doubt is None or self._doubt.stands_for(frame, generator):
            return frame
        return None

    def labels(self, frame: Any) -> dict[int, int]:
        """Return labels of the local variables of a frame."""
        values = frame.f_locals
        found = dict(zip(map(id, values.values()), map(self._variables.__getitem__, values)))  # noqa: B905
        if frame.f_code.co_flags & 1:
            self._let_go(values)
        return found

    def values(self, frame: Any) -> list[Any]:
        """Return what the local variables of a running frame hold; its namespace at module level."""
        if not frame.f_code.co_flags & 1:
            return [frame.f_globals]
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
