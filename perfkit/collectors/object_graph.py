"""Who refers to whom: every object of the target at one or two moments, taken in a copy of the process.

It sees what was there before perfkit came. The copy costs the target a pause of some 10 ms per
GiB and, while it works, up to as much memory again as the target uses; where there is no room
for that, the target is walked through in slices of some milliseconds instead. See
`perfkit.probe.object_graph` for how it keeps out of the target's way.
"""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfkit.attach.cgroup import memory_cgroup
from perfkit.attach.errors import ProbeFailed, TargetGone
from perfkit.attach.permission import preflight
from perfkit.attach.session import Session
from perfkit.attach.staging import staging
from perfkit.attach.streams import read_note
from perfkit.attach.target import Target
from perfkit.collectors import Raw, Recording
from perfkit.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_START, _END = "start.json", "end.json"
_POLL_S = 0.1
_COPY_RATIO = 1.25
"""Memory the copy may need, as a share of what the target uses: every reference count it touches copies a page."""
_RESERVE_BYTES = 256 << 20
"""Memory that must be left to the machine, or the target's cgroup, while the copy works."""


@dataclass(frozen=True)
class ObjectGraph:
    """Takes snapshots of all objects and their references.

    Options: `rungs` 2 takes one snapshot at the start of the recording, before a tracer is at work,
    and one at its end, to see what grew between them; 1 only the last. `copy` "never" always walks in
    slices. `max_objects` and `max_seconds` are limits of one snapshot beyond which it is given up: what
    two snapshots of that many objects take a copy is half a minute; `share` of one CPU that slices may take.
    """

    name: str = "object_graph"
    group: str = "objects"
    encloses: bool = True
    writes: tuple[str, ...] = ("heap_snapshots", "heap_objects", "heap_references")
    options: Mapping[str, Any] = field(
        default_factory=lambda: {
            "rungs": 2,
            "copy": "auto",
            "max_objects": 5_000_000,
            "max_seconds": 120.0,
            "share": 0.5,
        }
    )

    def problem(self, target: Target) -> Exception | None:
        """Return why the target cannot be entered, or None; touches nothing in it."""
        return preflight(target)

    @contextmanager
    def record(self, recording: Recording) -> Iterator[None]:
        """Take a snapshot when the context opens, if two are wanted, and one when it closes."""
        options = {**self.options, **recording.options}
        if options["rungs"] not in (1, 2):
            raise UsageError(
                f"object_graph cannot take {options['rungs']} snapshots", hint="Set its option rungs to 1 or 2."
            )
        session = recording.session()
        with staging(recording.target, recording.raw) as place:
            started = session.start("object_graph") | {"stopped_ns": session.stopped_ns}
            (recording.raw / _START).write_text(json.dumps(started), "utf-8")
            snapshots = _Snapshots(session, recording, place.there, options)
            first = threading.Thread(target=snapshots.take, args=(0,), daemon=True)
            if options["rungs"] == 2:
                first.start()
                snapshots.under_way.wait(options["max_seconds"])
            try:
                yield
            finally:
                if options["rungs"] == 2:
                    first.join(2 * options["max_seconds"])
                recording.say("taking the last snapshot of the heap")
                snapshots.take(options["rungs"] - 1)
                with suppress(TargetGone, ProbeFailed):
                    snapshots.keep(session.stop("object_graph"))

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return heap_snapshots, heap_objects, heap_references and the row of recording_quality."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from perfkit.raw.graph_file import read_graph
        from perfkit.tables import HEAP_OBJECTS, HEAP_REFERENCES, HEAP_SNAPSHOTS, RECORDING_QUALITY

        start, end = read_note(raw.folder / _START), read_note(raw.folder / _END)
        rows = {row["rung"]: row for row in end.get("rungs", ())}
        snapshots, objects, references, notes = [], [], [], []
        files = sorted(raw.folder.glob("graph-*.bin"))
        for file in files:
            rung = int(file.stem.rpartition("-")[2])
            notes += _notes(rung, rows.get(rung, {}))
            graph = read_graph(file, raw.pid, rung)
            if not graph.complete:
                notes.append(f"Snapshot {rung} was cut off{graph.why} and is left out.")
                continue
            objects.append(graph.objects)
            references.append(graph.references)
            row = rows.get(rung, {})
            snapshots.append(
                {
                    "pid": raw.pid,
                    "rung": rung,
                    "at_ns": raw.clock.from_monotonic(row.get("at_ns", row["monotonic_ns"])) if row else 0,
                    "mode": row.get("mode", "copy"),
                    "objects": graph.objects.num_rows,
                    "references": graph.references.num_rows,
                    "size_bytes": pc.sum(graph.objects["size_bytes"]).as_py(),
                    "stopped_ns": row.get("stopped_ns", 0),
                }
            )
        taken = len(objects)
        if (wanted := len(rows) or 1) > taken and not notes:
            notes.append("The target ended before the snapshot, which is taken at the end of the recording.")
        from_ns = raw.clock.from_monotonic(start["monotonic_ns"]) if start else 0
        quality = {
            "collector": self.name,
            "pid": raw.pid,
            # Snapshots are moments, but what the collector answered for is the whole recording.
            "from_ns": from_ns,
            "until_ns": raw.until_ns,
            "expected": wanted,
            "taken": taken,
            "lost": wanted - taken,
            "stopped_ns": start.get("stopped_ns", 0) + sum(row.get("stopped_ns", 0) for row in rows.values()),
            "cost_ns": sum(row.get("cost_ns", 0) for row in rows.values()),
            "note": " ".join(notes) or None,
        }
        return {
            "heap_snapshots": HEAP_SNAPSHOTS.from_rows(snapshots),
            "heap_objects": pa.concat_tables(objects) if objects else HEAP_OBJECTS.empty(),
            "heap_references": pa.concat_tables(references) if references else HEAP_REFERENCES.empty(),
            "recording_quality": RECORDING_QUALITY.from_rows([quality]),
        }


class _Snapshots:
    """Asks for snapshots, waits for them, and ends a copy that memory does not suffice for."""

    def __init__(self, session: Session, recording: Recording, there: Path, options: Mapping[str, Any]) -> None:
        self.under_way = threading.Event()
        self._session, self._recording, self._there, self._options = session, recording, there, options

    def take(self, rung: int) -> None:
        """Take one; returns when it is done or cannot be done."""
        options = self._options
        target = self._recording.target
        room = options["copy"] != "never" and has_room(target)
        try:
            self._session.call(
                "object_graph",
                take=rung,
                file=str(self._there / f"graph-{rung}.bin"),
                fork=room,
                max_objects=options["max_objects"],
                max_seconds=options["max_seconds"],
                share=options["share"],
                copy_share=copy_share(target),
            )
            until = time.monotonic() + 2 * options["max_seconds"] + 10
            while time.monotonic() < until:
                why = None if free_bytes(target) > _RESERVE_BYTES else "memory ran short"
                status = self._session.call("object_graph", give_up_copy=why)
                if status["under_way"]:
                    self.under_way.set()
                if not status["busy"]:
                    self.keep(status)
                    return
                time.sleep(_POLL_S)
        except (TargetGone, ProbeFailed):
            return
        except OSError as error:
            self._recording.say(f"the snapshot of the heap could not be kept: {error.strerror or error}")
        finally:
            self.under_way.set()

    def keep(self, status: Mapping[str, Any]) -> None:
        """Write down what is known of the snapshots so far."""
        (self._recording.raw / _END).write_text(json.dumps(status), "utf-8")


def has_room(target: Target) -> bool:
    """Whether machine and cgroup have room for a copy of the target, should it touch every page."""
    status = Path(f"/proc/{target.pid}/status")
    try:
        used = int(status.read_text("utf-8").partition("RssAnon:")[2].split(None, 1)[0]) * 1024
    except (OSError, ValueError, IndexError):
        return False
    return free_bytes(target) > _RESERVE_BYTES + _COPY_RATIO * used


def copy_share(target: Target) -> float:
    """Return the share of one CPU that a copy may take: all of it, or a quarter of what a cgroup allows the target.

    The copy yields to others (nice 10), but what it uses counts towards a quota, and when
    that is used up the target stands still.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files
    """
    cgroup = memory_cgroup(target.pid)
    share = 1.0
    for folder in (cgroup.folder, *cgroup.folder.parents) if cgroup and cgroup.version == 2 else ():
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text("ascii").split()
            if quota != "max":
                share = min(share, 0.25 * int(quota) / int(period))
    return max(share, 0.02)


def free_bytes(target: Target) -> int:
    """Return how much memory the target's machine and cgroup have left, droppable page cache included."""
    free = int(Path("/proc/meminfo").read_text("utf-8").partition("MemAvailable:")[2].split(None, 1)[0]) * 1024
    cgroup = memory_cgroup(target.pid)
    reading = cgroup.read() if cgroup else None
    if reading and reading.limit_bytes is not None and reading.used_bytes is not None:
        free = min(free, reading.limit_bytes - reading.used_bytes + (reading.inactive_file_bytes or 0))
    return free


def _notes(rung: int, row: Mapping[str, Any]) -> list[str]:
    """Return what a reader of a snapshot should know."""
    notes = []
    if problem := row.get("problem"):
        notes.append(f"Snapshot {rung} failed: {problem}.")
    if row.get("mode") == "slices":
        why = f" ({row['no_copy']})" if row.get("no_copy") else ""
        held = row.get("longest_hold_ns", 0) / 1e6
        notes.append(
            f"Snapshot {rung} was taken in slices{why} while the target went on, the GIL held for at most"
            f" {held:.1f} ms at a time: references may not fit together, and frozen objects are missing."
        )
    return notes


COLLECTOR = ObjectGraph()
