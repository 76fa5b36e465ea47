"""The local variables of frames, where they can be read without harm.

Two kinds of frame objects tell of variables that are not there, and asking for them is fatal: those of generators
that were closed (`is_intact`), and, in 3.13, those that memray has left behind (`may_lie`).
"""

from __future__ import annotations

import gc
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from perfkit.probe.graph_parts.blocks import Labels

_SUSPENDS = 0x20 | 0x80 | 0x200
"""CO_GENERATOR, CO_COROUTINE and CO_ASYNC_GENERATOR."""

_OF_EVERY_FRAME = (type(lambda: None), type((lambda: None).__code__), dict)
"""Types of what a frame refers to besides its variables: its function, its code, variables a debugger added."""


def may_lie() -> bool:
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
    """Reads local variables; `lie`: those of generators are left alone."""

    def __init__(self, variables: Labels, *, in_copy: bool, lie: bool) -> None:
        self._variables, self._in_copy, self.lie = variables, in_copy, lie

    def labels(self, frame: Any) -> dict[int, int]:
        """Return labels of the local variables of a frame."""
        if self.lie and frame.f_code.co_flags & _SUSPENDS:
            return {}
        values = frame.f_locals
        found = dict(zip(map(id, values.values()), map(self._variables.__getitem__, values)))  # noqa: B905
        if frame.f_code.co_flags & 1:
            self._let_go(values)
        return found

    def values(self, frame: Any) -> list[Any]:
        """Return what the local variables of a running frame hold; its namespace at module level."""
        if not frame.f_code.co_flags & 1:
            return [frame.f_globals]
        if self.lie and frame.f_code.co_flags & _SUSPENDS:
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
