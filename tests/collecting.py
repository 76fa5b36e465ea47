"""Runs one collector on one process by hand, with its own clock, as the recorder would."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfkit.attach.session import Session
from perfkit.clock import Clock
from perfkit.collectors import Collector, Raw, Recording
from perfkit.symbols import Symbols
from tests.attach_targets import Running

CREW = "../gc/crew.py"
GARBAGE = "../gc/garbage.py"
LOOPS = "../gc/loops.py"


@dataclass
class FakeProbe:
    """Keeps the rows that a recorder of the probe emits."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    dropped: int = 0

    def emit(self, row: dict[str, Any]) -> None:
        """Keep a row."""
        self.rows.append(row)


@dataclass
class Collected:
    """What one collector recorded: rows of each table, decoded when asked for."""

    collector: Collector
    folder: Path
    pid: int
    clock: Clock = field(default_factory=Clock.start)
    symbols: Symbols = field(default_factory=Symbols)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table."""
        raw = Raw(self.folder, self.pid, self.clock, self.symbols, self.clock.now_ns())
        rows: list[dict[str, Any]] = self.collector.decode(raw)[table].to_pylist()
        return rows

    @property
    def quality(self) -> dict[str, Any]:
        """Return the row of recording_quality."""
        [row] = self.rows("recording_quality")
        return row

    def place(self, stack_id: int) -> list[tuple[str, str, int]]:
        """Return `(function, file, line)` of each frame of a stack, outermost first."""
        tables = self.symbols.tables()
        frames = tables["frames"].to_pylist()
        numbers = tables["stacks"].to_pylist()[stack_id]["frame_ids"]
        return [(frames[number]["function"], frames[number]["file"], frames[number]["line"]) for number in numbers]


@contextmanager
def collecting(
    collector: Collector, target: Running, folder: Path, session: Session, **options: Any
) -> Iterator[Collected]:
    """Record while the context is open."""
    collected = Collected(collector, folder, target.target.pid)
    recording = Recording(target.target, folder, collected.clock, lambda: session, print, options=options)
    with collector.record(recording):
        yield collected


@contextmanager
def watching(collector: Collector, target: Running, folder: Path, **options: Any) -> Iterator[Collected]:
    """Record while the context is open, with nothing in the target."""

    def nothing() -> Session:
        raise AssertionError("it asked for the probe")

    collected = Collected(collector, folder, target.target.pid)
    recording = Recording(target.target, folder, collected.clock, nothing, print, options=options)
    with collector.record(recording):
        yield collected


def ask(target: Running, *words: object) -> Any:
    """Return what a program of `tests/targets/gc` answers."""
    assert target.process.stdin is not None
    assert target.process.stdout is not None
    target.process.stdin.write(" ".join(map(str, words)) + "\n")
    target.process.stdin.flush()
    return json.loads(target.process.stdout.readline())
