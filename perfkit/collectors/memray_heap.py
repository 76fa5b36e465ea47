"""What was allocated, by which stack, and whether it was freed: memray, switched on and off in the target by PID.

memray's file is read in one go: `get_temporal_allocation_records` gives, for each stack, how
many allocations were made before one snapshot of the heap and freed before another.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfkit.attach.budget import TRACING_SHARE
from perfkit.attach.memray_builds import build_for
from perfkit.attach.memray_capture import CAPTURE, END, ENDED, START, Capture
from perfkit.attach.permission import preflight
from perfkit.attach.staging import staging
from perfkit.attach.streams import read_note
from perfkit.attach.target import Target
from perfkit.clock import Clock
from perfkit.collectors import Raw, Recording, watching
from perfkit.errors import CannotRecord
from perfkit.symbols import Symbols

if TYPE_CHECKING:
    import pyarrow as pa

_PROBE_FILE = "<perfkit probe>"
_BUCKETS = 120
_SNAPSHOTS = 600
"""Snapshots memray compares: what is freed before the next one is not seen at all, so more than buckets."""

_LIMITS = (
    "Seen only from the start of the capture on; what lived for less than one snapshot is left out; "
    "small objects that the interpreter takes from a free list are not allocations."
)


@dataclass(frozen=True)
class MemrayHeap:
    """Records allocations with memray.

    Options: `trace_python_allocators` sees each object rather than the arenas they come from;
    `interval_ms` distance of memray's snapshots; `max_seconds` and `max_bytes` end the capture,
    by a timer in the target.
    """

    name: str = "memray_heap"
    group: str = "heap"
    writes: tuple[str, ...] = ("heap_survival", "heap_usage")
    options: Mapping[str, Any] = field(
        default_factory=lambda: {
            "trace_python_allocators": True,
            "interval_ms": 50,
            "max_seconds": 120.0,
            "max_bytes": 512 << 20,
        }
    )

    def problem(self, target: Target) -> Exception | None:
        """Return why the target cannot be entered or has no fitting memray, or None; touches nothing in it."""
        if problem := preflight(target):
            return problem
        try:
            build_for(target)
        except CannotRecord as error:
            return error
        return None

    @contextmanager
    def record(self, recording: Recording) -> Iterator[None]:
        """Capture while the context is open, until a cap is reached, or until the target is gone.

        With a budget, one capture is made as late as the budget demands, so that it reaches to the end:
        several short ones would not know whether what they saw allocated was freed in between.
        """
        options = {**self.options, **recording.options}
        session = recording.session()
        build = build_for(recording.target)
        with staging(recording.target, recording.raw) as place:
            # A capture that fills the disk would be the service's problem too.
            free_bytes = shutil.disk_usage(place.here).free
            options |= {
                "file": str(place.there / CAPTURE),
                "memray_folder": str(place.share(build)),
                "max_bytes": min(options["max_bytes"], free_bytes // 2),
            }
            capture = Capture(session, recording.raw, options)
            if recording.budget is None:
                capture.begin()
            try:
                with nullcontext() if recording.budget is None else watching(capture.keep_to, recording.budget):
                    yield
            finally:
                capture.end()

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return heap_survival, heap_usage and the row of recording_quality.

        A capture that was cut off is read as far as it goes.
        """
        from perfkit.tables import HEAP_SURVIVAL, HEAP_USAGE, RECORDING_QUALITY

        start, end = read_note(raw.folder / START), _ended(raw.folder)
        if "not_begun" in end:
            return self._without_capture(raw, end["not_begun"])
        capture = raw.folder / CAPTURE
        survival: dict[str, list[Any]] = {column.name: [] for column in HEAP_SURVIVAL.columns}
        usage: list[dict[str, int]] = []
        records, notes = 0, [_LIMITS]
        times: list[int] = []
        try:
            reader = _open(capture)
        except (OSError, ValueError, RuntimeError) as error:
            notes.insert(0, f"The capture cannot be read: {error}.")
        else:
            with reader:
                offset_ns = _offset_ns(start, raw.clock)
                snapshots = list(reader.get_memory_snapshots())
                times = [int(snapshot.time) * 1_000_000 + offset_ns for snapshot in snapshots]
                usage = [
                    {"pid": raw.pid, "at_ns": at, "rss_bytes": snapshot.rss, "traced_bytes": snapshot.heap}
                    for at, snapshot in zip(times, snapshots, strict=True)
                ]
                records = reader.metadata.total_allocations
                survival = _survival(
                    reader.get_temporal_allocation_records(merge_threads=True), times or [raw.until_ns], raw
                )
        if "budget" in start:
            notes.insert(0, f"It began after {start['after_s']:.0f} s, as a budget of {start['budget']:.1%} allowed.")
        if (why := end.get("ended")) and why != "asked to":
            notes.insert(0, f"The capture ended before the recording did: {why}.")
        from_ns = raw.clock.from_monotonic(start["monotonic_ns"]) if start else (times or [0])[0]
        until_ns = raw.clock.from_monotonic(end["monotonic_ns"]) if "monotonic_ns" in end else max([from_ns, *times])
        cost_ns = None
        if "process_ns" in start and "process_ns" in end:
            cost_ns = round((end["process_ns"] - start["process_ns"]) * TRACING_SHARE)
            notes.append("What it cost is estimated from the CPU time the target used meanwhile.")
        quality = {
            "collector": self.name,
            "pid": raw.pid,
            "from_ns": from_ns,
            "until_ns": until_ns,
            "taken": records,
            "lost": 0,
            "stopped_ns": start.get("stopped_ns", 0) + start.get("start_took_ns", 0) + end.get("stop_took_ns", 0),
            "cost_ns": cost_ns,
            "note": " ".join(notes),
        }
        return {
            "heap_survival": HEAP_SURVIVAL.from_columns(survival),
            "heap_usage": HEAP_USAGE.from_rows(usage),
            "recording_quality": RECORDING_QUALITY.from_rows([quality]),
        }

    def _without_capture(self, raw: Raw, why: str) -> dict[str, "pa.Table"]:
        """Return empty tables, and a row of recording_quality that says why there was no capture."""
        from perfkit.tables import HEAP_SURVIVAL, HEAP_USAGE, RECORDING_QUALITY

        quality = {"collector": self.name, "pid": raw.pid, "from_ns": 0, "until_ns": 0, "taken": 0, "lost": 0}
        note = f"Nothing was captured: {why}. Record for longer, or with a larger `--budget`."
        return {
            "heap_survival": HEAP_SURVIVAL.empty(),
            "heap_usage": HEAP_USAGE.empty(),
            "recording_quality": RECORDING_QUALITY.from_rows([{**quality, "note": note}]),
        }


def _open(capture: Path) -> Any:
    """Return memray's reader of a capture; this makes its first pass over the file.

    Raises:
        OSError, ValueError, RuntimeError: it holds no capture.
    """
    import memray

    return memray.FileReader(capture, max_memory_records=_SNAPSHOTS)


def _survival(records: Iterable[Any], times: list[int], raw: Raw) -> dict[str, list[Any]]:
    """Return the columns of heap_survival: memray's intervals, added up per stack and bucket of time."""
    buckets = min(_BUCKETS, len(times))
    bucket_of = [index * buckets // len(times) for index in range(len(times))]
    # What happens after the last snapshot belongs to the end of the capture.
    bucket_of.append(buckets - 1)
    last = len(times)
    ends = [0] * buckets
    for index, at in enumerate(times):
        ends[bucket_of[index]] = at
    width = buckets + 1
    stacks: dict[int, int | None] = {}
    sums: dict[int, dict[int, list[int]]] = {}
    for record in records:
        number = record.stack_id
        try:
            stack = stacks[number]
        except KeyError:
            stack = stacks[number] = _stack(record.stack_trace(), raw.symbols)
        if stack is None:
            continue
        cells = sums.setdefault(stack, {})
        for interval in record.intervals:
            freed = interval.deallocated_before_snapshot
            made = min(interval.allocated_before_snapshot, last)
            key = bucket_of[made] * width + (buckets if freed is None else bucket_of[min(freed, last)])
            try:
                cell = cells[key]
            except KeyError:
                cells[key] = [interval.n_allocations, interval.n_bytes]
            else:
                cell[0] += interval.n_allocations
                cell[1] += interval.n_bytes
    columns: dict[str, list[Any]] = {
        name: [] for name in ("stack_id", "allocated_ns", "freed_ns", "allocations", "size_bytes")
    }
    until = [*ends, None]
    for stack, cells in sums.items():
        for key, (allocations, size_bytes) in cells.items():
            columns["stack_id"].append(stack)
            columns["allocated_ns"].append(ends[key // width])
            columns["freed_ns"].append(until[key % width])
            columns["allocations"].append(allocations)
            columns["size_bytes"].append(size_bytes)
    columns["pid"] = [raw.pid] * len(columns["stack_id"])
    return columns


def _stack(trace: list[tuple[str, str, int]], symbols: Symbols) -> int | None:
    """Return the number of a stack that memray gives leaf first, None for the probe's own."""
    if any(file == _PROBE_FILE for _function, file, _line in trace):
        return None
    frames = [symbols.frame(function, file, line) for function, file, line in reversed(trace)]
    return symbols.stack(frames or [symbols.frame("[no Python frame]", None, None)])


def _offset_ns(start: Mapping[str, Any], clock: Clock) -> int:
    """Return what turns memray's wall-clock time into recording time, nanoseconds."""
    if start:
        return clock.from_monotonic(int(start["monotonic_ns"])) - int(start["unix_ns"])
    return clock.from_unix(0)


def _ended(folder: Path) -> dict[str, Any]:
    """Return when and why the capture ended, as the target told, else as we noticed."""
    lines = (folder / ENDED).read_text("utf-8").splitlines() if (folder / ENDED).exists() else []
    early: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return early or read_note(folder / END) or {"ended": "the recorder was killed"}


COLLECTOR = MemrayHeap()
