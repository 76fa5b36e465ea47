"""Answers what it is asked: the smallest recorder, used to test the way to a target and back."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class Recorder:
    """Repeats what it gets; with `rows`, sends that many rows, one per step."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._sent = 0

    def start(self, rows: int = 0, every_s: float = 0.0, payload: str = "") -> dict[str, Any]:
        """Start sending rows."""
        self._probe.spawn(self._send(rows, every_s, payload))
        return {"rows": rows}

    def _send(self, rows: int, every_s: float, payload: str) -> Iterator[float]:
        for number in range(rows):
            self._probe.emit({"number": number, "payload": payload})
            self._sent += 1
            yield every_s

    def stop(self) -> dict[str, Any]:
        """Return how many rows were emitted, sent or dropped."""
        return {"emitted": self._sent}

    def call(self, **arguments: Any) -> dict[str, Any]:
        """Return the arguments."""
        return arguments
