"""Every garbage collection of the target, who asked for it, and the collector's counters and settings over time.

Nothing is sampled but the counters: `gc.callbacks` see each collection, and what they saw is
compared with the interpreter's own count at the end; see `perfkit.probe.gc_events`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfkit.attach.streams import Stream
from perfkit.collectors import FromProbe, Raw
from perfkit.probe.gc_events import WIDTH

if TYPE_CHECKING:
    import pyarrow as pa

PROBE_FRAME = "[perfkit probe]"
"""Function of the only frame of collections that ran in the probe's thread: the census collects by hand too."""


@dataclass(frozen=True)
class GcPauses(FromProbe):
    """Records garbage collections with `gc.callbacks`.

    Options: `counts_per_s`, how often to read counters and settings; a change of a setting that
    is undone sooner is not seen.
    """

    probe = "gc_events"
    name: str = "gc_pauses"
    group: str = "gc"
    writes: tuple[str, ...] = ("gc_pauses", "gc_counts", "settings")
    options: Mapping[str, Any] = field(default_factory=lambda: {"counts_per_s": 10.0})

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return gc_pauses, gc_counts, settings and the row of recording_quality."""
        from perfkit.tables import GC_COUNTS, GC_PAUSES, RECORDING_QUALITY, SETTINGS

        stream = Stream.read(raw.folder)
        stacks = {number: raw.symbols.flat_stack(flat) for row in stream.rows for number, flat in row.get("stacks", ())}
        pauses = [
            _pause(event, stacks, stream.start.get("os_tid"), raw)
            for row in stream.rows
            for event in _in_groups(row.get("events"), WIDTH)
        ]
        counts = [
            {"pid": raw.pid, "at_ns": raw.clock.from_monotonic(at), "count0": count0, "count1": count1,
             "count2": count2, "frozen_objects": None if frozen < 0 else frozen}
            for row in stream.rows
            for at, count0, count1, count2, frozen in _in_groups(row.get("counts"), 5)
        ]  # fmt: skip
        settings = [
            {"pid": raw.pid, "at_ns": raw.clock.from_monotonic(at), "name": name, "value": json.dumps(value)}
            for row in stream.rows
            for at, name, value in row.get("settings", ())
        ]
        return {
            "gc_pauses": GC_PAUSES.from_rows(pauses),
            "gc_counts": GC_COUNTS.from_rows(counts),
            "settings": SETTINGS.from_rows(settings),
            "recording_quality": RECORDING_QUALITY.from_rows([self._quality(stream, pauses, counts, raw)]),
        }

    def _quality(
        self, stream: Stream, pauses: list[dict[str, Any]], counts: list[dict[str, Any]], raw: Raw
    ) -> dict[str, Any]:
        """Return the row of recording_quality: expected is what the interpreter counted itself."""
        start, end = stream.start, stream.end
        last = stream.rows[-1] if stream.rows else {}
        from_ns = raw.clock.from_monotonic(start["monotonic_ns"]) if start else 0
        until_ns = raw.clock.from_monotonic(end["monotonic_ns"]) if "monotonic_ns" in end else None
        if until_ns is None:  # nobody told us the end: it covers what arrived
            until_ns = max([from_ns, *(count["at_ns"] for count in counts)])
        expected, lost = None, end.get("lost", last.get("lost", 0))
        if "unseen" in start and "unseen" in end:
            expected = end["seen"] + end["unseen"] - start["unseen"]
            lost = max(lost, expected - len(pauses))
        per_collection_ns = start.get("cost_per_collection_ns", 0)
        cost_ns = end.get("cost_ns", last.get("cost_ns", 0)) + per_collection_ns * len(pauses)
        return {
            "collector": self.name,
            "pid": raw.pid,
            "from_ns": from_ns,
            "until_ns": until_ns,
            "expected": expected,
            "taken": len(pauses),
            "lost": lost,
            "stopped_ns": start.get("stopped_ns"),
            "cost_ns": cost_ns if start else None,
            "note": _note(stream),
        }


def _pause(event: list[int], stacks: Mapping[int, int], our_tid: int | None, raw: Raw) -> dict[str, Any]:
    """Return one row of gc_pauses; collections in the probe's own thread have a stack that says so."""
    start, pause_ns, generation, manual, stack, collected, uncollectable, os_tid, candidates, cpu_ns = event
    stack_id = stacks.get(stack)
    if os_tid == our_tid:
        stack_id = raw.symbols.stack([raw.symbols.frame(PROBE_FRAME, None, None)])
    return {
        "pid": raw.pid,
        "start_ns": raw.clock.from_monotonic(start),
        "pause_ns": pause_ns,
        "cpu_ns": cpu_ns,
        "generation": generation,
        "collected": collected,
        "uncollectable": uncollectable,
        "candidates": None if candidates < 0 else candidates,
        "manual": None if manual < 0 else bool(manual),
        "stack_id": stack_id,
        "os_tid": os_tid,
    }


def _in_groups(flat: list[Any] | None, width: int) -> Iterator[list[Any]]:
    """Yield a flat list in groups of `width` items."""
    for at in range(0, len(flat or ()), width):
        yield (flat or [])[at : at + width]


def _note(stream: Stream) -> str | None:
    """Return what a reader of the numbers should know."""
    notes = []
    if failed := stream.end.get("failed"):
        notes.append(f"It broke off: {failed}.")
    if stream.start and "monotonic_ns" not in stream.end:
        notes.append("How many collections there were in all is not known: nobody was there to ask at the end.")
    if times := stream.end.get("put_back"):
        notes.append(f"The target cleared gc.callbacks {times} times; ours were put back.")
    others = {
        name
        for row in stream.rows
        for _at, setting, names in row.get("settings", ())
        if setting == "gc.callbacks"
        for name in names
    }
    if others:
        notes.append(f"Other callbacks run at each collection: {', '.join(sorted(others))}.")
    return " ".join(notes) or None


COLLECTOR = GcPauses()
