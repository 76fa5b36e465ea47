"""Which way a snapshot of the heap is taken when a copy of the process does not do it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perfkit.probe import object_graph


class Probe:
    """Runs what is spawned when it is asked to."""

    def __init__(self) -> None:
        self.steps: list[Iterator[float]] = []
        self.rows: list[dict[str, Any]] = []

    def spawn(self, steps: Iterator[float]) -> None:
        """Keep a generator."""
        self.steps.append(steps)

    def emit(self, row: dict[str, Any]) -> None:
        """Keep a row."""
        self.rows.append(row)


class Ended:
    """A copy that ends with a signal before it has written anything."""

    by = 0
    rests = False
    stopped_ns = made_ns = 0

    def __init__(self, _share: float, _interval_s: float) -> None:
        self.pid, self.signal, self.why = 0, 0, "no permission"

    def make(self, _work: Any, _descriptor: int, _cpu_s: float) -> Iterator[float]:
        """Make it."""
        self.pid = os.getpid()
        yield 0.0

    def is_done(self) -> bool:
        """Whether it has ended."""
        self.signal, self.why = self.by, f"it ended with status {self.by}"
        return True

    def end(self, why: str | None = None) -> None:
        """End it."""


@pytest.mark.parametrize(
    ("by", "mode"), [pytest.param(11, None, id="it-crashed"), pytest.param(24, "slices", id="its-time-was-up")]
)
def test_what_crashes_a_copy_is_not_tried_in_the_target(
    by: int, mode: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_graph, "Copy", type("Copy", (Ended,), {"by": by}))
    monkeypatch.setattr(object_graph, "walk_heap", lambda *_a, **_more: (each for each in ()))
    probe = Probe()
    recorder = object_graph.Recorder(probe)
    recorder.call(take=0, file=str(tmp_path / "graph.bin"))
    for _pause in probe.steps[0]:
        pass
    [row] = probe.rows
    assert row.get("mode") == mode
    assert ("crashed" in row.get("problem", "")) == (mode is None)
