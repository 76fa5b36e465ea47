"""How late event loops run a callback that is due: what every request in them waits for before anything else.

Ten times a second each loop is asked to run a callback of one line; see `perfkit.probe.loop_lag`.
Works for every loop that has `call_soon_threadsafe`, uvloop's among them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfkit.attach.streams import Stream
from perfkit.collectors import FromProbe, Raw

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class LoopLag(FromProbe):
    """Measures the lag of event loops.

    Options: `asks_per_s`, how often to ask each loop; one that has not answered is not asked again.
    """

    probe = "loop_lag"
    name: str = "loop_lag"
    group: str = "gc"
    writes: tuple[str, ...] = ("loop_lag",)
    options: Mapping[str, Any] = field(default_factory=lambda: {"asks_per_s": 10.0})

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return loop_lag and the row of recording_quality."""
        from perfkit.tables import LOOP_LAG, RECORDING_QUALITY

        stream = Stream.read(raw.folder)
        loops = {number: name for row in stream.rows for number, name in row.get("loops", ())}
        rows = []
        for row in stream.rows:
            answers = iter(row.get("answers", ()))
            rows += [
                {"pid": raw.pid, "at_ns": raw.clock.from_monotonic(asked), "lag_ns": lag_ns, "loop": loops[number]}
                for number, asked, lag_ns in zip(answers, answers, answers, strict=True)
            ]
        quality = {
            "collector": self.name,
            "pid": raw.pid,
            **stream.covered(raw.clock, (row["at_ns"] for row in rows)),
            "taken": len(rows),
            "lost": stream.end.get("dropped", 0),
            "note": _note(stream, loops),
        }
        return {"loop_lag": LOOP_LAG.from_rows(rows), "recording_quality": RECORDING_QUALITY.from_rows([quality])}


def _note(stream: Stream, loops: Mapping[int, str]) -> str | None:
    """Return what a reader of the numbers should know."""
    notes = [stream.broke_off]
    if stream.start and not loops:
        notes.append("No asyncio event loop was found that runs.")
    if unanswered := stream.end.get("unanswered"):
        notes.append(f"{unanswered} loops had not answered yet at the end: their last lag was longer than it says.")
    return " ".join(filter(None, notes)) or None


COLLECTOR = LoopLag()
