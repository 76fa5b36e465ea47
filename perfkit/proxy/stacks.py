"""The only place that remembers a call stack cheaply: code and position now, text only if asked."""

import sys
from types import CodeType

DEPTH = 25


class Stack:
    """A call stack that was captured, innermost frame first."""

    __slots__ = ("_frames",)

    def __init__(self, frames: tuple[tuple[CodeType, int], ...]) -> None:
        self._frames = frames

    def lines(self) -> list[str]:
        """Return the frames as `function (file:line)`, outermost first."""
        return [
            f"{code.co_qualname} ({code.co_filename}:{_line(code, position)})"
            for code, position in reversed(self._frames)
        ]


def capture(skip: int = 0) -> Stack:
    """Return the stack of the caller, without its `skip` innermost frames; holds no frame and no local alive."""
    frame = sys._getframe(skip + 1)
    frames: list[tuple[CodeType, int]] = []
    while frame is not None and len(frames) < DEPTH:
        frames.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back  # type: ignore[assignment]
    return Stack(tuple(frames))


def _line(code: CodeType, position: int) -> int:
    """Return the line of the instruction at `position`."""
    for start, end, line in code.co_lines():
        if start <= position < end and line is not None:
            return line
    return code.co_firstlineno
