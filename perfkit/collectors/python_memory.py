"""What only the inside of a process knows of its memory, once a second: Python's blocks, the C library's heap.

The resident size is read at the same instant, so that the parts can be added up. What cannot be
told honestly stays NULL: pymalloc's arenas where the interpreter does not use them, and the C
library's heap where it is not glibc 2.33 or later, or not used. Both are asked less often when the
answer takes long: then some readings lack them.

It belongs to the group gc: both ask how the interpreter manages memory, cost next to nothing,
and need the probe, which the group process does without.
"""

import json
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfkit.attach.cgroup import MemoryReading, memory_cgroup
from perfkit.attach.permission import preflight
from perfkit.attach.streams import Stream, read_lines, streaming
from perfkit.attach.target import Target
from perfkit.collectors import Raw, Recording, watching

if TYPE_CHECKING:
    import pyarrow as pa

_PROBE = "ledger"
_CGROUP = "cgroup.jsonl"


@dataclass(frozen=True)
class PythonMemory:
    """Reads the memory ledger from inside the target.

    Options: `every_s` distance of the readings.
    """

    name: str = "python_memory"
    group: str = "gc"
    writes: tuple[str, ...] = ("memory_ledger",)
    options: Mapping[str, Any] = field(default_factory=lambda: {"every_s": 1.0})

    def problem(self, target: Target) -> Exception | None:
        """Return why the target cannot be entered, or None; touches nothing in it."""
        return preflight(target)

    @contextmanager
    def record(self, recording: Recording) -> Iterator[None]:
        """Read while the context is open, or until the target is gone."""
        options = {**self.options, **recording.options}
        # The cgroup from out here: a container sees another path to its own than we do.
        with (
            streaming(recording.session(), _PROBE, recording.raw, **options),
            watching(_watch_cgroup, recording, float(options["every_s"])),
        ):
            yield

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return memory_ledger and the row of recording_quality."""
        from perfkit.tables import MEMORY_LEDGER, RECORDING_QUALITY

        stream = Stream.read(raw.folder)
        cgroup = read_lines(raw.folder / _CGROUP)
        times = [at for at, *_memory in cgroup]
        rows = []
        for row in stream.rows:
            index = bisect_right(times, row["at"]) - 1
            memory = MemoryReading(*cgroup[max(0, index)][1:]) if cgroup else MemoryReading()
            rows.append(
                {
                    "pid": raw.pid,
                    "at_ns": raw.clock.from_monotonic(row["at"]),
                    "rss_bytes": row["rss"],
                    "anon_bytes": row["anon"],
                    "file_bytes": row["file"],
                    "shmem_bytes": row["shmem"],
                    "python_blocks": row["blocks"],
                    "pymalloc_arena_bytes": row.get("arenas"),
                    "pymalloc_in_use_bytes": row.get("arenas_in_use"),
                    "pymalloc_free_bytes": row.get("arenas_free"),
                    "glibc_in_use_bytes": row.get("in_use"),
                    "glibc_retained_bytes": row.get("retained"),
                    "cgroup_bytes": memory.used_bytes,
                    "cgroup_inactive_file_bytes": memory.inactive_file_bytes,
                    "cgroup_limit_bytes": memory.limit_bytes,
                }
            )
        covered = stream.covered(raw.clock, (row["at_ns"] for row in rows))
        expected = None
        if stream.start:
            # The first one at once; half a period of grace for the last.
            length_ns = (covered["until_ns"] or 0) - (covered["from_ns"] or 0)
            expected = max(len(rows), int(length_ns / 1e9 / stream.start["every_s"] + 0.5))
        no_mallinfo = stream.start.get("no_mallinfo")
        no_arenas = stream.start.get("no_arenas")
        notes = [
            stream.broke_off,
            f"The C library's heap is not known: {no_mallinfo}." if no_mallinfo else "",
            f"pymalloc's arenas are not known: {no_arenas}." if no_arenas else "",
        ]
        quality = {
            "collector": self.name,
            "pid": raw.pid,
            **covered,
            "expected": expected,
            "taken": len(rows),
            "lost": (expected or len(rows)) - len(rows),
            "note": " ".join(filter(None, notes)) or None,
        }
        return {
            "memory_ledger": MEMORY_LEDGER.from_rows(rows),
            "recording_quality": RECORDING_QUALITY.from_rows([quality]),
        }


def _watch_cgroup(recording: Recording, every_s: float, stop: threading.Event) -> None:
    """Write a line per reading of the target's cgroup, if it has one: time, use, droppable cache, limit."""
    cgroup = memory_cgroup(recording.target.pid)
    if cgroup is None:
        return
    with (recording.raw / _CGROUP).open("a", encoding="ascii", buffering=1) as file:
        while True:
            memory = cgroup.read()
            row = [time.monotonic_ns(), memory.used_bytes, memory.inactive_file_bytes, memory.limit_bytes]
            file.write(json.dumps(row) + "\n")
            if stop.wait(every_s):
                return


COLLECTOR = PythonMemory()
