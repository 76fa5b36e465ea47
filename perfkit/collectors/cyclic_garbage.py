"""What waits for the collector: types of garbage, its size, open descriptors in it, and whose code made it.

Found without collecting anything, among the newest objects; see `perfkit.probe.garbage`.
"""

import json
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

_PROBE = "garbage"


@dataclass(frozen=True)
class CyclicGarbage:
    """Looks for unreachable objects among the newest ones.

    Options: `every_s` distance of two looks; `newest`, how many objects to look at, of which no
    reference is kept; `max_share`, of one CPU: looks move apart before it costs more.
    """

    name: str = "cyclic_garbage"
    group: str = "gc"
    writes: tuple[str, ...] = ("garbage", "settings")
    options: Mapping[str, Any] = field(default_factory=lambda: {"every_s": 1.0, "newest": 2000, "max_share": 0.005})

    def problem(self, target: Target) -> Exception | None:
        """Return why the target cannot be entered, or None; touches nothing in it."""
        return preflight(target)

    @contextmanager
    def record(self, recording: Recording) -> Iterator[None]:
        """Look while the context is open, or until the target is gone."""
        options = {**self.options, **recording.options}
        with streaming(recording.session(), _PROBE, recording.raw, **options):
            yield

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return garbage, the limit of descriptors as a setting, and the row of recording_quality."""
        from perfkit.tables import GARBAGE, RECORDING_QUALITY, SETTINGS

        stream = Stream.read(raw.folder)
        start, end = stream.start, stream.end
        rows = []
        for row in stream.rows:
            look = {
                "pid": raw.pid,
                "at_ns": raw.clock.from_monotonic(row["at"]),
                "generation": row["generation"],
                "examined": row["examined"],
            }
            rows += [look | _kind(kind, raw) for kind in row["kinds"]] or [look | _NOTHING]
        from_ns = raw.clock.from_monotonic(start["monotonic_ns"]) if start else 0
        until_ns = max([from_ns, *(row["at_ns"] for row in rows)])
        if "monotonic_ns" in end:
            until_ns = raw.clock.from_monotonic(end["monotonic_ns"])
        limit = start.get("descriptor_limit")
        settings = [{"pid": raw.pid, "at_ns": from_ns, "name": "process.descriptor_limit", "value": json.dumps(limit)}]
        notes = [
            f"It broke off: {end['failed']}." if "failed" in end else "",
            f"Garbage was not looked for: {start['problem']}." if start.get("problem") else "",
        ]
        quality = {
            "collector": self.name,
            "pid": raw.pid,
            "from_ns": from_ns,
            "until_ns": until_ns,
            "taken": len(stream.rows),
            "lost": end.get("dropped", 0),
            "stopped_ns": start.get("stopped_ns"),
            "cost_ns": end.get("cost_ns"),
            "note": " ".join(filter(None, notes)) or None,
        }
        return {
            "garbage": GARBAGE.from_rows(rows),
            "settings": SETTINGS.from_rows(settings if start else ()),
            "recording_quality": RECORDING_QUALITY.from_rows([quality]),
        }


_NOTHING: dict[str, Any] = {"type": None, "objects": 0, "size_bytes": 0, "descriptors": 0}


def _kind(kind: list[Any], raw: Raw) -> dict[str, Any]:
    """Return the cells about one kind of garbage."""
    name, place, objects, size_bytes, descriptors = kind
    return {
        "type": name,
        "objects": objects,
        "size_bytes": size_bytes,
        "descriptors": descriptors,
        "stack_id": raw.symbols.stack([raw.symbols.frame(*place)]) if place else None,
    }


COLLECTOR = CyclicGarbage()
