"""The only place that keeps what a recorder inside a target says: at its start, row by row, at its end."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfkit.attach.errors import ProbeFailed, TargetGone
from perfkit.clock import Clock

if TYPE_CHECKING:
    from perfkit.attach.session import Session

_START, _ROWS, _END = "start.json", "rows.jsonl", "end.json"


@contextmanager
def streaming(session: "Session", module: str, folder: Path, **options: Any) -> Iterator[None]:
    """Run a recorder of the probe while the context is open; `Stream.read` gets what it said.

    Its exit does not raise when the target is gone, or when the recorder broke down.

    Args:
        session: the probe.
        module: name of a module of `perfkit.probe`.
        folder: where to keep it.
        options: settings of the recorder.

    Raises:
        ProbeFailed, TargetGone: it could not be started.
    """
    started = session.start(module, stream=folder / _ROWS, **options)
    started |= {"stopped_ns": session.stopped_ns}
    (folder / _START).write_text(json.dumps(started), "utf-8")
    try:
        yield
    finally:
        ended: dict[str, Any] = {}
        with suppress(TargetGone, ProbeFailed):
            ended = session.stop(module)
        if failure := session.failures.get(module):
            ended["failed"] = str(failure)
        (folder / _END).write_text(json.dumps(ended), "utf-8")


@dataclass(frozen=True)
class Stream:
    """What a recorder said: `start` and `end` are empty when it did not come to that."""

    start: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Stream":
        """Return what was kept in a folder; a row that was not written whole is left out."""
        return cls(read_note(folder / _START), read_lines(folder / _ROWS), read_note(folder / _END))

    def covered(self, clock: Clock, times_ns: Iterable[int]) -> dict[str, int | None]:
        """Return what every row of recording_quality says of a recorder: from when to when, and what it cost.

        Args:
            clock: of the recording.
            times_ns: recording times of what arrived: it covers that when nobody told us the end.
        """
        from_ns = clock.from_monotonic(self.start["monotonic_ns"]) if self.start else 0
        if "monotonic_ns" in self.end:
            until_ns = clock.from_monotonic(self.end["monotonic_ns"])
        else:
            until_ns = max([from_ns, *times_ns])
        return {
            "from_ns": from_ns,
            "until_ns": until_ns,
            "stopped_ns": self.start.get("stopped_ns"),
            "cost_ns": self.end.get("cost_ns"),
        }

    @property
    def broke_off(self) -> str:
        """A sentence that says why the recorder broke down, empty if it did not."""
        return f"It broke off: {self.end['failed']}." if "failed" in self.end else ""


def read_lines(file: Path) -> list[Any]:
    """Return what each line of a file holds as JSON, up to the first that was not written whole."""
    rows = []
    with suppress(OSError, ValueError):
        for line in file.read_text("utf-8").splitlines():
            rows.append(json.loads(line))  # noqa: PERF401 - a cut last line must not cost the others
    return rows


def read_note(file: Path) -> dict[str, Any]:
    """Return a small JSON file that a collector left, empty if it was not written or was cut."""
    try:
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content
