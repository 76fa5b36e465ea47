"""What asyncio's tasks are doing, once a second: how many of which coroutine, in which state, waiting where.

Nothing is instrumented; see `perfkit.probe.tasks` for how tasks are read from outside their
loop. Tasks of trio and the like are not asyncio's and not seen.
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

_PROBE = "tasks"


@dataclass(frozen=True)
class AsyncioTasks:
    """Counts asyncio's tasks.

    Options: `every_s` distance of the readings; `looked_at`, of how many tasks per reading to find
    where they wait, the others are counted without; `max_share`, of one CPU: the readings move
    apart before it costs more.
    """

    name: str = "asyncio_tasks"
    group: str = "objects"
    writes: tuple[str, ...] = ("tasks",)
    options: Mapping[str, Any] = field(default_factory=lambda: {"every_s": 1.0, "looked_at": 1000, "max_share": 0.02})

    def problem(self, target: Target) -> Exception | None:
        """Return why the target cannot be entered, or None; touches nothing in it."""
        return preflight(target)

    @contextmanager
    def record(self, recording: Recording) -> Iterator[None]:
        """Read while the context is open, or until the target is gone."""
        options = {**self.options, **recording.options}
        with streaming(recording.session(), _PROBE, recording.raw, **options):
            yield

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return tasks and the row of recording_quality."""
        from perfkit.tables import RECORDING_QUALITY, TASKS

        stream = Stream.read(raw.folder)
        start, end = stream.start, stream.end
        stacks = {number: _stack(flat, raw) for row in stream.rows for number, flat in row.get("stacks", ())}
        rows = [
            {"pid": raw.pid, "at_ns": raw.clock.from_monotonic(row["at"]), "coroutine": coroutine, "state": state,
             "tasks": tasks, "oldest_ns": oldest_ns, "stack_id": stacks.get(stack)}
            for row in stream.rows
            for coroutine, state, stack, tasks, oldest_ns in row["groups"]
        ]  # fmt: skip
        from_ns = raw.clock.from_monotonic(start["monotonic_ns"]) if start else 0
        until_ns = max([from_ns, *(row["at_ns"] for row in rows)])
        if "monotonic_ns" in end:
            until_ns = raw.clock.from_monotonic(end["monotonic_ns"])
        quality = {
            "collector": self.name,
            "pid": raw.pid,
            "from_ns": from_ns,
            "until_ns": until_ns,
            "taken": len(stream.rows),
            "lost": end.get("dropped", 0),
            "stopped_ns": start.get("stopped_ns"),
            "cost_ns": end.get("cost_ns"),
            "note": _note(stream),
        }
        return {"tasks": TASKS.from_rows(rows), "recording_quality": RECORDING_QUALITY.from_rows([quality])}


def _stack(flat: list[Any], raw: Raw) -> int:
    """Return the number of a stack of which each frame is three items: function, file, line."""
    items = iter(flat)
    return raw.symbols.stack([raw.symbols.frame(*frame) for frame in zip(items, items, items, strict=True)])


def _note(stream: Stream) -> str | None:
    """Return what a reader of the numbers should know."""
    notes = []
    if failed := stream.end.get("failed"):
        notes.append(f"It broke off: {failed}.")
    if stream.start and not (stream.start["asyncio"] or stream.end.get("asyncio") or stream.rows):
        notes.append("The target does not use asyncio.")
    if (step := max((row["looked_at_each"] for row in stream.rows), default=1)) > 1:
        notes.append(f"Of so many tasks only one in {step} was asked where it waits.")
    if longest := stream.end.get("longest_ns"):
        notes.append(f"It used the GIL for at most {longest / 1e6:.1f} ms at a time.")
    return " ".join(notes) or None


COLLECTOR = AsyncioTasks()
