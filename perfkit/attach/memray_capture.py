"""The only place that says when allocations are traced: at once, or when a budget allows the rest of the recording."""

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfkit.attach.budget import TRACING_SHARE, cpu_time_ns
from perfkit.attach.errors import ProbeFailed, TargetGone

if TYPE_CHECKING:
    from perfkit.attach.budget import Budget
    from perfkit.attach.session import Session

CAPTURE, START, END, ENDED = "heap.bin", "start.json", "end.json", "ended.jsonl"
"""What a capture leaves: memray's file, and what the probe said at its start, at its end, and when it ended early."""

_BUDGET_EVERY_S = 0.25
_LOOK_S = 2.0
"""How long to see how busy the target is before deciding when to begin."""
_LEAST_S = 2.0
"""Shorter captures cannot tell what is kept from what is in use: nothing in them has had time to be freed."""
_LENGTH_S = 10.0
"""Length of the capture when nobody knows how long the recording will be."""
_TOLERANCE = 1.1


class Capture:
    """One capture, from the recorder's side: begun at once, or when a budget allows the rest of the recording."""

    def __init__(self, session: "Session", raw: Path, options: dict[str, Any]) -> None:
        self._session = session
        self._raw = raw
        self._options = options
        self._state = "new"
        self._not_begun = "the recording ended before the budget allowed a capture"

    def begin(self, budget: "Budget | None" = None) -> None:
        """Start it, now that a budget allows the rest of the recording, or because there is none.

        Raises:
            ProbeFailed, TargetGone: it could not be started.
        """
        started = self._session.start("memray_capture", stream=self._raw / ENDED, **self._options)
        started |= {"stopped_ns": self._session.stopped_ns, "method": self._session.method}
        if budget is not None:
            started |= {"budget": budget.share, "after_s": budget.passed_s}
        (self._raw / START).write_text(json.dumps(started), "utf-8")
        self._state = "running"

    def end(self, why: str | None = None) -> None:
        """Stop it, if it runs, and note how it ended; `why` when it was us who ended it early."""
        if self._state == "ended":
            return
        ended: dict[str, Any] = {"not_begun": self._not_begun}
        if self._state == "running":
            try:
                ended = self._session.stop("memray_capture")
            except (TargetGone, ProbeFailed) as error:
                ended = {"ended": str(error)}
            if why and ended.get("ended") == "asked to":
                ended["ended"] = why
        self._state = "ended"
        (self._raw / END).write_text(json.dumps(ended), "utf-8")

    def keep_to(self, budget: "Budget", stop: threading.Event) -> None:
        """Begin as soon as what is left of the recording fits the budget, and end early if it turns out not to."""
        while self._state == "new":
            if stop.wait(_BUDGET_EVERY_S):
                return
            if budget.passed_s < _LOOK_S:
                continue
            length_s = min(self._options["max_seconds"], _LENGTH_S if budget.left_s is None else budget.left_s)
            if length_s < _LEAST_S:
                self._not_begun = f"{budget.share:.1%} of the target's time do not allow a capture of {_LEAST_S:g} s"
                return
            if budget.tracing_ns(length_s) <= budget.free_ns(length_s):
                try:
                    self.begin(budget)
                except (TargetGone, ProbeFailed) as error:
                    self._not_begun = f"it could not start: {error}"
                    return
        pid, until_s = self._session.target.pid, budget.passed_s + length_s
        allowed_ns, before_ns = budget.free_ns(length_s) * _TOLERANCE, cpu_time_ns(pid)
        while not stop.wait(_BUDGET_EVERY_S):
            budget.traced_ns = round((cpu_time_ns(pid) - before_ns) * TRACING_SHARE)
            if budget.traced_ns > allowed_ns or (budget.left_s is None and budget.passed_s > until_s):
                self.end("its part of the budget was used up")
                return
