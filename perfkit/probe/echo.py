"""Answers what it is asked: the smallest recorder, used to test the way to a target and back."""

from typing import Any, Dict, Iterator  # noqa: UP035 - this runs on 3.10 too


class Recorder:
    """Repeats what it gets; with `rows`, sends that many rows, one per step."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe

    def start(self, rows: int = 0, every_s: float = 0.0, payload: str = "") -> Dict[str, Any]:
        """Start sending rows."""
        self._probe.spawn(self._send(rows, every_s, payload))
        return {"rows": rows}

    def _send(self, rows: int, every_s: float, payload: str) -> Iterator[float]:
        for number in range(rows):
            self._probe.emit({"number": number, "payload": payload})
            yield every_s

    def stop(self) -> Dict[str, Any]:
        """Return nothing to be told."""
        return {}

    def call(self, **arguments: Any) -> Dict[str, Any]:
        """Return the arguments."""
        return arguments
