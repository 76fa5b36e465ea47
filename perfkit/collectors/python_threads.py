"""What the target's threads are, once a second: what they run, where they are, who started them.

See `perfkit.probe.threads` for how they are read. Threads that run no Python are counted by
the operating system's name of them, those of perfkit's own probe and of memray among them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfkit.attach.streams import Stream
from perfkit.collectors import FromProbe, Raw

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class PythonThreads(FromProbe):
    """Counts the target's threads.

    Options: `every_s` distance of the readings; `looked_at`, of how many threads per reading to find
    where they are; `max_share`, of one CPU: the readings move apart before it costs more; `starts`
    notes who starts threads, by a function in the place of `threading.Thread.start`.
    """

    probe = "threads"
    name: str = "python_threads"
    group: str = "objects"
    writes: tuple[str, ...] = ("python_threads",)
    options: Mapping[str, Any] = field(
        default_factory=lambda: {"every_s": 1.0, "looked_at": 200, "max_share": 0.01, "starts": True}
    )

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return python_threads and the row of recording_quality."""
        from perfkit.tables import PYTHON_THREADS, RECORDING_QUALITY

        stream = Stream.read(raw.folder)
        stacks = {number: raw.symbols.flat_stack(flat) for row in stream.rows for number, flat in row.get("stacks", ())}
        rows = [
            {"pid": raw.pid, "at_ns": raw.clock.from_monotonic(row["at"]), "name": name, "function": function,
             "daemon": is_daemon, "threads": threads, "oldest_ns": oldest_ns, "stack_id": stacks.get(stack),
             "start_stack_id": stacks.get(start)}
            for row in stream.rows
            for name, function, is_daemon, stack, start, threads, oldest_ns in row["groups"]
        ]  # fmt: skip
        step = max((row["looked_at_each"] for row in stream.rows), default=1)
        notes = [
            stream.broke_off,
            f"Of so many threads only one in {step} was asked where it is." if step > 1 else "",
            "" if stream.start.get("starts") else "It was not noted who starts threads.",
        ]
        quality = {
            "collector": self.name,
            "pid": raw.pid,
            **stream.covered(raw.clock, (row["at_ns"] for row in rows)),
            "taken": len(stream.rows),
            "lost": stream.end.get("dropped", 0),
            "note": " ".join(filter(None, notes)) or None,
        }
        return {
            "python_threads": PYTHON_THREADS.from_rows(rows),
            "recording_quality": RECORDING_QUALITY.from_rows([quality]),
        }


COLLECTOR = PythonThreads()
