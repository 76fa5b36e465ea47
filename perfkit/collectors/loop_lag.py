"""How late event loops run a callback that is due: what every request in them waits for before anything else.

Ten times a second each loop is asked to run a callback of one line; see `perfkit.probe.loop_lag`.
Works for every loop that has `call_soon_threadsafe`, uvloop's among them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfkit.attach.permission import preflight
from perfkit.attach.streams import Stream, streaming
from perfkit.attach.target import Target
from perfkit.collectors import Raw, Recording

if TYPE_CHECKING:
    import pyarrow as pa

_PROBE = "loop_lag"


@dataclass(frozen=True)
class LoopLag:
    """Measures the lag of event loops.

    Options: `asks_per_s`, how often to ask each loop; one that has not answered is not asked again.
    """

    name: str = "loop_lag"
    group: str = "gc"
    writes: tuple[str, ...] = ("loop_lag",)
    options: Mapping[str, Any] = field(default_factory=lambda: {"asks_per_s": 10.0})

    def problem(self, target: Target) -> Exception | None:
        """Return why the target cannot be entered, or None; touches nothing in it."""
        return preflight(target)

    @contextmanager
    def record(self, recording: Recording) -> Iterator[None]:
        """Measure while the context is open, or until the target is gone."""
        options = {**self.options, **recording.options}
        with streaming(recording.session(), _PROBE, recording.raw, **options):
            yield

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return loop_lag and the row of recording_quality."""
        from perfkit.tables import LOOP_LAG, RECORDING_QUALITY

        stream = Stream.read(raw.folder)
        start, end = stream.start, stream.end
        loops = {number: name for row in stream.rows for number, name in row.get("loops", ())}
        rows = []
        for row in stream.rows:
            answers = iter(row.get("answers", ()))
            rows += [
                {"pid": raw.pid, "at_ns": raw.clock.from_monotonic(asked), "lag_ns": lag_ns, "loop": loops[number]}
                for number, asked, lag_ns in zip(answers, answers, answers, strict=True)
            ]
        from_ns = raw.clock.from_monotonic(start["monotonic_ns"]) if start else 0
        until_ns = max([from_ns, *(row["at_ns"] for row in rows)])
        if "monotonic_ns" in end:
            until_ns = raw.clock.from_monotonic(end["monotonic_ns"])
        quality = {
            "collector": self.name,
            "pid": raw.pid,
            "from_ns": from_ns,
            "until_ns": until_ns,
            "taken": len(rows),
            "lost": end.get("dropped", 0),
            "stopped_ns": start.get("stopped_ns"),
            "cost_ns": end.get("cost_ns"),
            "note": _note(stream, loops),
        }
        return {"loop_lag": LOOP_LAG.from_rows(rows), "recording_quality": RECORDING_QUALITY.from_rows([quality])}


def _note(stream: Stream, loops: Mapping[int, str]) -> str | None:
    """Return what a reader of the numbers should know."""
    notes = []
    if failed := stream.end.get("failed"):
        notes.append(f"It broke off: {failed}.")
    if stream.start and not loops:
        notes.append("No asyncio event loop was found that runs.")
    if unanswered := stream.end.get("unanswered"):
        notes.append(f"{unanswered} loops had not answered yet at the end: their last lag was longer than it says.")
    return " ".join(notes) or None


COLLECTOR = LoopLag()
