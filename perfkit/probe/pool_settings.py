"""Changes settings of a live connection pool for a while, watches what it opens meanwhile, and puts everything back.

What was there before comes back when the recorder says so, when a limit is passed, and when the
recorder's socket closes, whoever closed it. What the program sets itself meanwhile is respected: the
experiment ends, and nothing of the program's is overwritten. Which settings of which pool can be
changed while it is used, and how, is said by the adapters (`pool_adapters`); they are those of the
recorder `pools`, which has to run beside this one.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_SETTLE_S = 0.5
_MOST_TAKEN = 8
"""Surplus connections that are taken out of a pool in one step: each may be waited for."""
_FEW = 10
"""Acquisitions in vain that are nothing yet: the queue of a change, or a hiccup."""
_MANY_TIMES = 3.0


class Recorder:
    """Holds the settings of the moment, and those from before."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._entry: Any = None
        self._before: dict[str, Any] = {}
        self._set: dict[str, Any] = {}
        self._ended: str | None = None
        self._window_began = time.monotonic()
        self._failed_before = 0
        self._calm_s = 0.0
        self._calm_failed = 0

    def start(
        self, pool: str = "", max_open: int | None = None, max_descriptors: int | None = None, every_s: float = 0.1
    ) -> dict[str, Any]:
        """Start to watch; nothing is changed yet. Return the settings as they are, if the pool is known by now."""
        self._pools = self._probe.other("pools")
        if self._pools is None:
            raise RuntimeError("the recorder of connection pools does not run")
        self._name, self._max_open, self._max_descriptors, self._every_s = pool, max_open, max_descriptors, every_s
        self._choose()
        self._probe.spawn(self._guard())
        return self._told()

    def stop(self) -> dict[str, Any]:
        """Put everything back; return the settings as they are then."""
        self._put_back()
        return self._told()

    def call(
        self,
        values: dict[str, Any] | None = None,
        back: bool = False,
        keep: bool = False,
        look: dict[str, list[Any]] | None = None,
        collect: bool = False,
    ) -> Any:
        """Change the settings, None: to those from before; return what was read back.

        Args:
            values: what to change, such as `{"size": 10}`.
            back: only put everything back.
            keep: change nothing, only read.
            look: return all pools instead, and why which of these values cannot be tried on which.
            collect: for other experiments; pools pass nothing on that a collection would take away.
        """
        if look is not None:
            return [self._looked_at(entry, name, look) for entry, name in self._pools.found()]
        self._choose()
        if back:
            self._put_back()
        elif not keep and self._entry is not None and self._is_ours():
            self._close_window()
            self._change(values or {})
        return self._told()

    # The pool --------------------------------------------------------------------------------------

    def _choose(self) -> None:
        """Take the pool of that name, once it was found."""
        if self._entry is not None:
            return
        for entry, name in self._pools.found():
            pool = entry.ref()
            if pool is not None and name == self._name:
                self._entry, self._before = entry, dict(entry.adapter.settings(pool))
                return

    def _looked_at(self, entry: Any, name: str, wanted: dict[str, list[Any]]) -> dict[str, Any]:
        """Return what can be tried on a pool, and why the rest cannot."""
        pool, adapter = entry.ref(), entry.adapter
        found: dict[str, Any] = {"name": name, "library": adapter.name, "refused": {}, "settings": {}}
        if pool is None:
            return found
        found |= {"settings": adapter.settings(pool), "tunes": adapter.tunes, **self._gauges(pool, adapter)}
        for word, values in wanted.items():
            for value in values:
                why = adapter.fixed.get(word)
                if why is None and hasattr(adapter, "refuses"):
                    why = adapter.refuses(pool, word, value)
                if why is not None:
                    found["refused"][f"{word} {value}"] = why
        return found

    def _gauges(self, pool: Any, adapter: Any) -> dict[str, Any]:
        """Return how many connections are open and how many there may be."""
        state = adapter.state(pool)
        return {"open": state.get("open"), "limit": state.get("max")}

    def _now(self) -> dict[str, Any]:
        """Return the settings as they are; nothing of a pool that is gone."""
        pool = self._entry.ref() if self._entry is not None else None
        return dict(self._entry.adapter.settings(pool)) if pool is not None else {}

    def _told(self) -> dict[str, Any]:
        """Return the settings as they are, and what is open."""
        told: dict[str, Any] = {"monotonic_ns": time.monotonic_ns(), "ended": self._ended, "number": None,
                                "settings": {}, "open": None, "limit": None}  # fmt: skip
        pool = self._entry.ref() if self._entry is not None else None
        if pool is not None:
            told |= {"number": self._entry.number, "settings": self._now(), **self._gauges(pool, self._entry.adapter)}
        return told

    # Changing it -----------------------------------------------------------------------------------

    def _change(self, values: dict[str, Any]) -> None:
        """Put these values into force, and all others back."""
        tunes = self._entry.adapter.tunes
        for word in [word for word in self._set if word not in values]:
            self._tune(word, self._before[tunes[word]])
            del self._set[word]
        for word, value in values.items():
            self._set[word] = value
            self._tune(word, value)
        self._in_force({tunes[word]: value for word, value in self._set.items()})

    def _tune(self, word: str, value: Any) -> None:
        """Change one setting of the pool, if it is still there."""
        pool = self._entry.ref()
        if pool is not None:
            self._entry.adapter.tune(pool, word, value, self._before)

    def _in_force(self, wanted: dict[str, Any]) -> bool:
        """Return whether settings are as wanted; those that an event loop changes need a moment."""
        until = time.monotonic() + _SETTLE_S
        while any(self._now().get(name) != value for name, value in wanted.items()):
            if time.monotonic() > until or not self._now():
                return False
            time.sleep(0.005)
        return True

    def _put_back(self) -> None:
        """Put everything back that is still as we set it, and take out what is open beyond."""
        if not self._set:
            return
        changed, self._set = self._set, {}
        tunes, now = self._entry.adapter.tunes, self._now()
        mine = [word for word, value in changed.items() if now.get(tunes[word]) == value]
        for word in mine:
            self._tune(word, self._before[tunes[word]])
        self._in_force({tunes[word]: self._before[tunes[word]] for word in mine})
        self._shrink(_SETTLE_S)

    def _shrink(self, within_s: float) -> None:
        """Take connections that are too many out of a pool that would keep them."""
        shrink = getattr(self._entry.adapter, "shrink", None)
        pool = self._entry.ref()
        until = time.monotonic() + within_s
        while shrink is not None and pool is not None and shrink(pool) and time.monotonic() < until:
            pass

    # Watching it -----------------------------------------------------------------------------------

    def _guard(self) -> Iterator[float]:
        """Make pools smaller that do not become so by themselves; end the experiment when a limit is passed."""
        while True:
            yield self._every_s
            if self._entry is None or self._ended is not None:
                continue
            for _ in range(_MOST_TAKEN):
                shrink = getattr(self._entry.adapter, "shrink", None)
                pool = self._entry.ref()
                if shrink is None or pool is None or not shrink(pool):
                    break
                del pool
                yield 0.001
            if reason := self._passed():
                self._end(reason)

    def _passed(self) -> str | None:
        """Return which limit is passed."""
        pool = self._entry.ref()
        if pool is None:
            return "the pool is gone"
        opened = self._gauges(pool, self._entry.adapter)["open"]
        if self._max_open is not None and opened is not None and opened > self._max_open:
            return f"more than {self._max_open} connections were open in the pool"
        if self._max_descriptors is not None and len(os.listdir("/proc/self/fd")) > self._max_descriptors:  # noqa: PTH208
            return f"more than {self._max_descriptors} descriptors were open"
        if self._set and (failed := self._failed()) > _FEW:
            usual = self._calm_failed / self._calm_s if self._calm_s else 0.0
            if failed > _FEW + _MANY_TIMES * usual * (time.monotonic() - self._window_began):
                return f"{failed} acquisitions failed with {self._set}, more than with the present setting"
        return None

    def _failed(self) -> int:
        """Return how many acquisitions were in vain in this window."""
        return self._count() - self._failed_before

    def _count(self) -> int:
        """Return how many acquisitions of the pool were in vain so far."""
        return int(self._pools.in_vain(self._entry.number))

    def _close_window(self) -> None:
        """Learn how many acquisitions are in vain with the present setting; begin to count anew."""
        now = time.monotonic()
        if not self._set:
            self._calm_s += now - self._window_began
            self._calm_failed += self._failed()
        self._window_began, self._failed_before = now, self._count()

    def _is_ours(self) -> bool:
        """Whether the experiment goes on: it does not when the program changed a setting itself."""
        tunes = self._entry.adapter.tunes
        if self._ended is None and self._entry.ref() is None:
            self._end("the pool is gone")
        now = self._now()
        if self._ended is None and any(now.get(tunes[word]) != value for word, value in self._set.items()):
            self._end("the program changed the pool itself, or the setting did not take")
        return self._ended is None

    def _end(self, reason: str) -> None:
        """Put everything back for good, and tell."""
        self._put_back()
        self._ended = reason
        self._probe.emit({"at": time.monotonic_ns(), "ended": reason})
