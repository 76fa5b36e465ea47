"""The only place that wakes an event loop at an exact time.

libuv and epoll count in whole milliseconds, which alone would make every request up to a
millisecond late. A timerfd is exact to some microseconds and costs nothing while it waits.
"""

import asyncio
import ctypes
import os
import struct
import sys
import time
from collections.abc import Callable

_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC have the values of these
_SPEC = struct.Struct("@qqqq")


class Alarm:
    """Calls `ring` in the event loop at the time that was set last, on CLOCK_MONOTONIC.

    Without timerfd (not Linux) it falls back to the loop's own timers, exact to a millisecond.

    Source: https://man7.org/linux/man-pages/man2/timerfd_create.2.html
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self._descriptor = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._descriptor = self._libc.timerfd_create(time.CLOCK_MONOTONIC, _FLAGS)
        if self._descriptor >= 0:
            loop.add_reader(self._descriptor, self._readable)

    def set(self, at_ns: int) -> None:
        """Ring once at `at_ns` of `time.monotonic_ns()`; at once when that is past."""
        if self._descriptor < 0:
            if self._handle is not None:
                self._handle.cancel()
            self._handle = self._loop.call_later(max(0.0, (at_ns - time.monotonic_ns()) / 1e9), self._ring)
            return
        at_ns = max(1, at_ns)  # all zeros would disarm it
        self._libc.timerfd_settime(
            self._descriptor, _ABSOLUTE, _SPEC.pack(0, 0, at_ns // 1_000_000_000, at_ns % 1_000_000_000), None
        )

    def close(self) -> None:
        """Never ring again."""
        if self._handle is not None:
            self._handle.cancel()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _readable(self) -> None:
        """Take the expiry off the descriptor, then ring."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:  # it was set again in between
            return
        self._ring()
