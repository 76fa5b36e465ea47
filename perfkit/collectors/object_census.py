"""What is alive, by type, and which containers grow: a census every few seconds, taken inside the target.

It sees what was there before perfkit came, which no tracer of allocations can; see
`perfkit.probe.census` for how it keeps out of the target's way.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfkit.attach.errors import ProbeFailed, TargetGone
from perfkit.attach.permission import preflight
from perfkit.attach.rendezvous import probe_source
from perfkit.attach.session import Session
from perfkit.attach.streams import read_note
from perfkit.attach.target import Target
from perfkit.collectors import Raw, Recording

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS, _START, _END = "census.jsonl", "start.json", "end.json"
_POLL_S = 0.05
_PATIENCE = 6.0
"""The look at the code rests for 6 ms after each 4 ms, and waits for the GIL."""
_RUNGS = 8
"""Fewer rungs cannot show a trend among hundreds of types: the chance of 8 in a row is 1/8!."""


@dataclass(frozen=True)
class ObjectCensus:
    """Counts objects by type and follows the length of containers.

    Options: `every_s` distance of the rungs, shortened in a short recording so that it has at least
    8; `growing` and `largest`, how many containers to follow; `owners`, how many of the fastest
    growing to find a path to; `collect` runs a full collection before a rung where that is
    cheap (below 100 ms and 1 % of the time), so that garbage is not counted; `max_share`, of
    one CPU: the rungs move apart before it costs more; `code_s`, CPU seconds that may be spent at
    the end on the bytecode of what deals with the growing containers, 0 for none.
    """

    name: str = "object_census"
    group: str = "objects"
    writes: tuple[str, ...] = ("object_census", "container_sizes", "container_code", "settings")
    options: Mapping[str, Any] = field(
        default_factory=lambda: {
            "every_s": 5.0,
            "growing": 50,
            "largest": 20,
            "owners": 5,
            "collect": True,
            "max_share": 0.1,
            "code_s": 1.0,
        }
    )

    def problem(self, target: Target) -> Exception | None:
        """Return why the target cannot be entered, or None; touches nothing in it."""
        return preflight(target)

    @contextmanager
    def record(self, recording: Recording) -> Iterator[None]:
        """Take a census every so often while the context is open, or until the target is gone."""
        options = {**self.options, **recording.options}
        if recording.duration_s is not None:
            options["every_s"] = min(options["every_s"], recording.duration_s / (_RUNGS + 1))
        code_s = options.pop("code_s")
        session = recording.session()
        started = session.start("census", stream=recording.raw / _ROWS, **options)
        started |= {"stopped_ns": session.stopped_ns, "every_s": options["every_s"]}
        (recording.raw / _START).write_text(json.dumps(started), "utf-8")
        try:
            yield
        finally:
            with suppress(TargetGone, ProbeFailed):
                if code_s > 0:
                    _look_at_code(session, code_s)
                (recording.raw / _END).write_text(json.dumps(session.stop("census")), "utf-8")
            if failure := session.failures.get("census"):
                (recording.raw / _END).write_text(json.dumps({"failed": str(failure)}), "utf-8")

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return object_census, container_sizes, settings and the row of recording_quality."""
        from perfkit.tables import CONTAINER_CODE, CONTAINER_SIZES, OBJECT_CENSUS, RECORDING_QUALITY, SETTINGS

        start, end, rows = read_note(raw.folder / _START), read_note(raw.folder / _END), _rows(raw.folder / _ROWS)
        rungs, code = [row for row in rows if "rung" in row], [row for row in rows if "code" in row]
        at_ns = {rung["rung"]: raw.clock.from_monotonic(rung["monotonic_ns"]) for rung in rungs}
        census = [
            {"pid": raw.pid, "at_ns": at_ns[rung["rung"]], "rung": rung["rung"], "type": name,
             "objects": objects, "size_bytes": size_bytes}
            for rung in rungs
            for name, (objects, size_bytes) in _added_up(rung["types"]).items()
        ]  # fmt: skip
        settings = [
            {"pid": raw.pid, "at_ns": at_ns[rung["rung"]], "name": "census.forced_collection",
             "value": json.dumps({"rung": rung["rung"], **rung["forced"]}, sort_keys=True)}
            for rung in rungs
            if rung["forced"]
        ]  # fmt: skip
        from_ns = raw.clock.from_monotonic(start["monotonic_ns"]) if start else min(at_ns.values(), default=0)
        until_ns = raw.clock.from_monotonic(end["monotonic_ns"]) if "monotonic_ns" in end else raw.until_ns
        expected = int((until_ns - from_ns) / 1e9 / start["every_s"]) if start else None
        quality = {
            "collector": self.name,
            "pid": raw.pid,
            "from_ns": from_ns,
            "until_ns": until_ns,
            "expected": expected,
            "taken": len(rungs),
            "lost": end.get("dropped", 0),
            "stopped_ns": start.get("stopped_ns"),
            "cost_ns": end.get("cost_ns", sum(row["cost_ns"] for row in rows)),
            "note": _note(rungs, code, end, expected),
        }
        return {
            "object_census": OBJECT_CENSUS.from_rows(census),
            "container_sizes": CONTAINER_SIZES.from_rows(_containers(rungs, at_ns, raw.pid)),
            "container_code": CONTAINER_CODE.from_rows(_code(code, raw)),
            "settings": SETTINGS.from_rows(settings),
            "recording_quality": RECORDING_QUALITY.from_rows([quality]),
        }


def _look_at_code(session: Session, budget_s: float) -> None:
    """Have the probe look for the code that deals with the growing containers, and wait for it."""
    source = probe_source("container_code").decode()
    until = time.monotonic() + _PATIENCE * budget_s + 5.0
    answer = session.call("census", source=source, budget_s=budget_s)
    while not answer["is_done"] and time.monotonic() < until:
        time.sleep(_POLL_S)
        answer = session.call("census")


def _code(rows: list[dict[str, Any]], raw: Raw) -> list[dict[str, Any]]:
    """Return the rows of container_code."""
    found = []
    for row in rows:
        for each in row["code"]:
            file, _kind = raw.symbols.clean(each["file"])
            more = {name: value for name, value in each.items() if name != "id"}
            found.append({"pid": raw.pid, "container": each["id"], **more, "file": file})
    return found


def _added_up(types: list[list[Any]]) -> dict[str, tuple[int, int]]:
    """Return `{name: (objects, size_bytes)}`; several types may have one name, as classes made per request do."""
    sums: dict[str, tuple[int, int]] = {}
    for name, objects, size_bytes in types:
        before = sums.get(name, (0, 0))
        sums[name] = before[0] + objects, before[1] + size_bytes
    return sums


def _containers(rungs: list[dict[str, Any]], at_ns: Mapping[int, int], pid: int) -> list[dict[str, Any]]:
    """Return the rows of container_sizes.

    A container is noticed when it has grown; its earlier lengths come with it. What is found
    out about it later, its owner above all, holds for its earlier rows too.
    """
    known: dict[str, dict[str, Any]] = {}
    lengths: dict[str, dict[int, int]] = {}
    inner: dict[tuple[str, int], int | None] = {}
    for rung in rungs:
        last = rung["rung"]
        for row in rung["containers"]:
            about = known.setdefault(row["id"], {})
            about |= {name: row[name] for name in ("type", "item_type", "owner", "limit") if row[name] is not None}
            first = last - len(row["lengths"]) + 1
            lengths.setdefault(row["id"], {}).update(enumerate(row["lengths"], first))
            sums = row.get("inner", [])
            inner.update(((row["id"], number), each) for number, each in enumerate(sums, last - len(sums) + 1))
    return [
        {"pid": pid, "at_ns": at_ns[rung], "rung": rung, "container": name, "type": about["type"], "items": items,
         "item_type": about.get("item_type"), "owner": about.get("owner"), "limit_items": about.get("limit"),
         "inner_items": inner.get((name, rung))}
        for name, about in known.items()
        for rung, items in lengths[name].items()
        if rung in at_ns
    ]  # fmt: skip


def _note(
    rungs: list[dict[str, Any]], code: list[dict[str, Any]], end: Mapping[str, Any], expected: int | None
) -> str | None:
    """Return what a reader of the numbers should know."""
    notes = []
    if failed := end.get("failed"):
        notes.append(f"The census broke off: {failed}.")
    if rungs and not rungs[-1]["enabled"]:
        notes.append("The collector is switched off in the target, so garbage in cycles is counted as alive.")
    elif not all(rung["forced"] for rung in rungs):
        notes.append("No full collection was forced before some rungs, so they include garbage.")
    if rungs and len(rungs) + 1 < (expected or 0):
        notes.append(
            f"The heap is large ({rungs[-1]['objects']:,} objects), so the rungs were moved apart: "
            f"{len(rungs)} of {expected}. Record for longer to see trends."
        )
    notes += [f"Of the code, {row['note']}." for row in code if row["note"]]
    if longest := end.get("longest_hold_ns"):
        notes.append(f"The GIL was held for at most {longest / 1e6:.1f} ms at a time.")
    return " ".join(notes) or None


def _rows(file: Path) -> list[dict[str, Any]]:
    """Return the rungs, and what was found in the code, that were written completely."""
    found = []
    with suppress(OSError, ValueError):
        for line in file.read_text("utf-8").splitlines():
            found.append(json.loads(line))  # noqa: PERF401 - a cut last line must not cost the others
    return found


COLLECTOR = ObjectCensus()
