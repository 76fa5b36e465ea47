"""Changes the collector's settings for a while, watches memory and descriptors meanwhile, and puts everything back.

What was there before comes back when the recorder says so, when a limit is passed, and when the
recorder's socket closes, whoever closed it. What the program sets itself meanwhile is respected: the
experiment ends, and nothing of the program's is overwritten.
"""

from __future__ import annotations

import gc
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Recorder:
    """Holds the settings of the moment, and those from before."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._thresholds = gc.get_threshold()
        self._set = self._thresholds
        self._had_frozen = gc.get_freeze_count()
        self._frozen = False
        self._ended: str | None = None

    def start(
        self, max_rss_bytes: int | None = None, max_descriptors: int | None = None, every_s: float = 0.1
    ) -> dict[str, Any]:
        """Start to watch; nothing is changed yet. Return the settings as they are."""
        self._max_rss_bytes, self._max_descriptors, self._every_s = max_rss_bytes, max_descriptors, every_s
        self._garbage = len(gc.garbage)
        self._probe.spawn(self._guard())
        return {"monotonic_ns": time.monotonic_ns(), **self._read()}

    def stop(self) -> dict[str, Any]:
        """Put everything back; return the settings as they are then."""
        self._put_back()
        return {"monotonic_ns": time.monotonic_ns(), "ended": self._ended, **self._read()}

    def call(
        self,
        thresholds: list[int] | None = None,
        freeze: bool = False,
        collect: bool = False,
        back: bool = False,
        keep: bool = False,
    ) -> dict[str, Any]:
        """Change the settings, None: to those from before; return what was read back.

        Args:
            thresholds: the first, the first two or all three; the others stay.
            freeze: take everything that is alive out of the collector's sight.
            collect: run a full collection before, so that no setting inherits another's garbage.
            back: only put everything back.
            keep: change nothing, only read.
        """
        if back:
            self._put_back()
        elif self._is_ours() and not keep:
            self._unfreeze()
            if collect:
                gc.collect()
            if freeze and not self._had_frozen:
                gc.freeze()
                self._frozen = True
            given = tuple(thresholds or ())
            self._set = (*given, *self._thresholds[len(given) :])  # type: ignore[assignment]
            gc.set_threshold(*self._set)
        return {"monotonic_ns": time.monotonic_ns(), "ended": self._ended, **self._read()}

    def _guard(self) -> Iterator[float]:
        """End the experiment when a limit is passed."""
        while True:
            yield self._every_s
            if self._ended is None and (reason := self._passed()):
                self._end(reason)

    def _passed(self) -> str | None:
        """Return which limit is passed."""
        if self._max_rss_bytes is not None and _rss_bytes() > self._max_rss_bytes:
            return f"resident memory passed {self._max_rss_bytes / 2**20:.0f} MiB"
        if self._max_descriptors is not None and len(os.listdir("/proc/self/fd")) > self._max_descriptors:  # noqa: PTH208
            return f"more than {self._max_descriptors} descriptors were open"
        if len(gc.garbage) > self._garbage:
            return "the collector found garbage that it cannot free"
        return None

    def _is_ours(self) -> bool:
        """Whether the experiment goes on: it does not when the program changed a setting itself."""
        if self._ended is None and gc.get_threshold() != self._set:
            self._end("the program changed the thresholds itself")
        return self._ended is None

    def _end(self, reason: str) -> None:
        """Put everything back for good, and tell."""
        self._put_back()
        self._ended = reason
        self._probe.emit({"at": time.monotonic_ns(), "ended": reason, **self._read()})

    def _put_back(self) -> None:
        """Put everything back that is still as we set it."""
        self._unfreeze()
        if gc.get_threshold() == self._set != self._thresholds:
            gc.set_threshold(*self._thresholds)
        self._set = self._thresholds

    def _unfreeze(self) -> None:
        """Put what we froze back into the oldest generation."""
        if self._frozen:
            gc.unfreeze()
            self._frozen = False

    def _read(self) -> dict[str, Any]:
        """Return the settings as they are."""
        return {
            "thresholds": list(gc.get_threshold()),
            "enabled": gc.isenabled(),
            "frozen": self._frozen,
            "frozen_objects": gc.get_freeze_count() if self._frozen or self._had_frozen else 0,
        }


def _rss_bytes() -> int:
    """Return the resident memory."""
    descriptor = os.open("/proc/self/statm", os.O_RDONLY)
    try:
        return int(os.read(descriptor, 200).split()[1]) * _PAGE_BYTES
    finally:
        os.close(descriptor)
