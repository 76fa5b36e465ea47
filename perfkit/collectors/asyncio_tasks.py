"""What asyncio's tasks are doing, once a second: how many of which coroutine, in which state, waiting where.

Nothing is instrumented; see `perfkit.probe.tasks` for how tasks are read from outside their
loop. Tasks of trio and the like are not asyncio's and not seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfkit.attach.streams import Stream
from perfkit.collectors import FromProbe, Raw

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class AsyncioTasks(FromProbe):
    """Counts asyncio's tasks.

    Options: `every_s` distance of the readings; `looked_at`, of how many tasks per reading to find
    where they wait, the others are counted without; `max_share`, of one CPU: the readings move
    apart before it costs more.
    """

    probe = "tasks"
    name: str = "asyncio_tasks"
    group: str = "objects"
    writes: tuple[str, ...] = ("tasks",)
    options: Mapping[str, Any] = field(default_factory=lambda: {"every_s": 1.0, "looked_at": 1000, "max_share": 0.02})

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return tasks and the row of recording_quality."""
        from perfkit.tables import RECORDING_QUALITY, TASKS

        stream = Stream.read(raw.folder)
        stacks = {number: raw.symbols.flat_stack(flat) for row in stream.rows for number, flat in row.get("stacks", ())}
        rows = [
            {"pid": raw.pid, "at_ns": raw.clock.from_monotonic(row["at"]), "coroutine": coroutine, "state": state,
             "tasks": tasks, "oldest_ns": oldest_ns, "stack_id": stacks.get(stack)}
            for row in stream.rows
            for coroutine, state, stack, tasks, oldest_ns in row["groups"]
        ]  # fmt: skip
        quality = {
            "collector": self.name,
            "pid": raw.pid,
            **stream.covered(raw.clock, (row["at_ns"] for row in rows)),
            "taken": len(stream.rows),
            "lost": stream.end.get("dropped", 0),
            "note": _note(stream),
        }
        return {"tasks": TASKS.from_rows(rows), "recording_quality": RECORDING_QUALITY.from_rows([quality])}


def _note(stream: Stream) -> str | None:
    """Return what a reader of the numbers should know."""
    notes = [stream.broke_off]
    if stream.start and not (stream.start["asyncio"] or stream.end.get("asyncio") or stream.rows):
        notes.append("The target does not use asyncio.")
    if (step := max((row["looked_at_each"] for row in stream.rows), default=1)) > 1:
        notes.append(f"Of so many tasks only one in {step} was asked where it waits.")
    if longest := stream.end.get("longest_ns"):
        notes.append(f"It used the GIL for at most {longest / 1e6:.1f} ms at a time.")
    return " ".join(filter(None, notes)) or None


COLLECTOR = AsyncioTasks()
