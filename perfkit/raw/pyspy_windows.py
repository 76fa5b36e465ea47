"""The only place that reads the windows py-spy wrote: which there are, what is in them, what was lost."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from perfkit.clock import Clock
from perfkit.raw.chrometrace import Trace, load, trace
from perfkit.symbols import Symbols

_COUNTS = re.compile(r"Samples: \d+ Errors: (\d+)")
"""What py-spy says when it has written its file."""


@dataclass
class Window:
    """One decoded window, in recording time; `anchor_ns` is its microsecond 0."""

    anchor_ns: int
    from_ns: int
    until_ns: int
    trace: Trace


@dataclass
class Notes:
    """What is missing and why, and what it took."""

    sentences: list[str] = field(default_factory=list)
    errors: int = 0
    cpu_ns: int = 0

    def add(self, sentence: str) -> None:
        """Keep a sentence, once."""
        if sentence not in self.sentences:
            self.sentences.append(sentence)


class Frames:
    """Numbers frames and remembers what is behind a number."""

    def __init__(self, symbols: Symbols) -> None:
        self._symbols = symbols
        self._numbers: dict[tuple[str, str | None, int | None], int] = {}

    def __call__(self, function: str, file: str | None, line: int | None) -> int:
        """Return the number of a frame."""
        number = self._numbers.get((function, file, line))
        if number is None:
            number = self._numbers[function, file, line] = self._symbols.frame(function, file, line)
        return number

    def known(self, function: str, file: str | None, line: int | None) -> int | None:
        """Return the number of a frame that was met already, else None."""
        return self._numbers.get((function, file, line))

    def place(self, number: int) -> tuple[str, str, str]:
        """Return function, cleaned file and kind of a frame."""
        function, file, kind = self._symbols.place(number)
        return function, file or "", kind


class Run(NamedTuple):
    """One run of py-spy, from its sidecar; `said` is empty while it has not ended."""

    file: Path
    number: int
    rate_hz: int
    spawned_ns: int
    exit_code: int | None
    cpu_ns: int
    said: str


def runs_in(folder: Path, notes: Notes) -> Iterator[Run]:
    """Yield the runs of py-spy in their order."""
    for meta in sorted(folder.glob("window-*.meta.json")):
        file = meta.with_name(meta.name.replace(".meta", ""))
        number = int(file.stem.rpartition("-")[2])
        try:
            facts = json.loads(meta.read_text("utf-8"))
            rate_hz, spawned_ns = int(facts["rate_hz"]), int(facts["spawned_ns"])
        except (OSError, ValueError, KeyError, TypeError):
            notes.add(f"window {number} is lost: its sidecar is damaged")
            continue
        exit_code, said = facts.get("exit_code"), str(facts.get("said", ""))
        yield Run(file, number, rate_hz, spawned_ns, exit_code, int(facts.get("cpu_ns", 0)), said)


def windows_of(runs: list[Run], clock: Clock, frames: Frames, until_ns: int, notes: Notes) -> Iterator[Window]:
    """Yield the windows that can be read, each cut where its successor begins."""
    waiting: Window | None = None
    for run in runs:
        window = _window(run, clock, frames, notes)
        if window is None:
            continue
        window.until_ns = min(window.until_ns, until_ns)
        if waiting is not None:
            waiting.until_ns = min(waiting.until_ns, window.from_ns)
            yield waiting
        waiting = window
    if waiting is not None:
        yield waiting


def _window(run: Run, clock: Clock, frames: Frames, notes: Notes) -> Window | None:
    """Return one window, or None and a note when there is nothing in it."""
    notes.cpu_ns += run.cpu_ns
    if "behind in sampling" in run.said:
        notes.add("py-spy could not keep up with the rate")
    if counts := _COUNTS.search(run.said):
        notes.errors += int(counts[1])
    name = f"window {run.number}"
    try:
        events, whole = load(run.file.read_text("utf-8", "replace"))
        result = trace(events, frames)
    except FileNotFoundError:
        reason = run.said.splitlines()[0] if run.said and run.exit_code else "py-spy did not finish its file"
        notes.add(f"{name} is lost: {reason}")
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        notes.add(f"{name} is damaged: {type(error).__name__}: {error}")
        return None
    if not whole:
        notes.add(f"{name} is cut short")
    if result.unbalanced:
        notes.add(f"{name} has {result.unbalanced} events out of order")
    if not result.intervals:
        notes.add(f"{name} is empty")
        return None
    # The gaps between py-spy's ticks are exponential, so a change is seen one mean gap late, on average.
    anchor_ns = clock.from_monotonic(run.spawned_ns) - 1_000_000_000 // run.rate_hz
    from_ns = max(0, anchor_ns + result.first_us * 1000)
    return Window(anchor_ns, from_ns, anchor_ns + result.last_us * 1000, result)
