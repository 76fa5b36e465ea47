"""The only place that reads what a load wrote, and the only one in the load that needs pyarrow."""

import json
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from perfkit.clock import Clock
from perfkit.load.options import LoadOptions
from perfkit.load.rows import ERRORS, FIELDS, FILE, MAGIC
from perfkit.load.run import SETTINGS, SUMMARY
from perfkit.tables import EVENTS, RECORDING_QUALITY, REQUESTS

_ROW = np.dtype([(name, kind) for name, _, kind in FIELDS])
_EPISODE_GAP_NS = 100_000_000

Rows = npt.NDArray[np.void]
Times = npt.NDArray[np.int64]


def decode(folder: Path, clock: Clock) -> dict[str, pa.Table]:
    """Return `requests`, `events` and one row of `recording_quality` from the folder of a load.

    Reads whatever is there: of a generator that was killed, every row up to its last window, with
    a note that says how many are missing. Events tell when the generator itself was late and when
    requests had to wait for a connection.

    Args:
        folder: what `perfkit.load.run.run_load` was given.
        clock: the recording's; rows carry CLOCK_MONOTONIC.
    """
    settings = _read_json(folder / SETTINGS)
    summary = _read_json(folder / SUMMARY)
    rows = _read_rows(folder / FILE)
    if not settings:
        return {
            "requests": REQUESTS.empty(),
            "events": EVENTS.empty(),
            "recording_quality": _quality(clock, 0, 0, None, 0, "the load generator did not start"),
        }
    options = LoadOptions.from_json(json.dumps(settings["options"]))
    began_ns: int = settings["monotonic_ns"]
    last_ns = int(rows["end_ns"].max()) if len(rows) else began_ns
    ended_ns: int = max(last_ns, summary.get("ended_ns", 0))
    if summary:
        due, note = summary["due"], summary["note"]
    else:
        # The schedule is known, so what a killed generator did not write can be counted.
        due = sum(1 for _ in takewhile(lambda offset: began_ns + offset <= last_ns, options.schedule.offsets_ns()))
        note = (
            "the load generator was killed: its last moments are missing, and whether it kept its schedule is unknown"
        )
    events = [*_lateness(rows, options, clock), *_waits(rows, options, clock)]
    load = {
        "at_ns": clock.from_monotonic(began_ns),
        "duration_ns": ended_ns - began_ns,
        "kind": "load",
        "name": f"load: {options.schedule} ({options.schedule.arrivals})",
    }
    return {
        "requests": _requests(rows, options, clock),
        "events": EVENTS.from_rows({**event, "pid": settings["pid"]} for event in [load, *events]),
        "recording_quality": _quality(clock, began_ns, ended_ns, due, len(rows), note or None),
    }


def _read_json(file: Path) -> dict[str, Any]:
    """Return a JSON object; empty when it is missing or cut."""
    try:
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content


def _read_rows(file: Path) -> Rows:
    """Return all whole records of the file."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        data = b""
    if not data.startswith(MAGIC):
        return np.empty(0, _ROW)
    return np.frombuffer(data, _ROW, (len(data) - len(MAGIC)) // _ROW.itemsize, len(MAGIC))


def _requests(rows: Rows, options: LoadOptions, clock: Clock) -> pa.Table:
    """Return the `requests` table."""
    routes = [route.name for route in options.routes]
    methods = [route.method for route in options.routes]
    traces = [f"{high:016x}{low:016x}" for high, low in zip(rows["trace_high"], rows["trace_low"], strict=True)]
    shift = clock.from_monotonic(0)
    return REQUESTS.from_columns(
        {
            "intended_ns": rows["intended_ns"] + shift,
            "start_ns": rows["start_ns"] + shift,
            "dispatched_ns": rows["dispatched_ns"] + shift,
            "latency_ns": rows["end_ns"] - rows["intended_ns"],
            "status": pa.array(rows["status"], pa.int32(), mask=rows["status"] == 0),
            "error": pa.array(np.array(ERRORS, object)[rows["error"]], pa.string(), mask=rows["error"] == 0),
            "route": np.array(routes, object)[rows["route"]],
            "method": np.array(methods, object)[rows["route"]],
            "trace_id": traces,
            "sent_bytes": rows["sent_bytes"],
            "received_bytes": rows["received_bytes"],
            "reused": pa.array(rows["reused"] == 1, pa.bool_(), mask=rows["reused"] < 0),
        }
    )


def _lateness(rows: Rows, options: LoadOptions, clock: Clock) -> Iterator[dict[str, Any]]:
    """Yield when the generator was late itself."""
    for at_ns, duration_ns, worst_ns, count in _episodes(
        rows["intended_ns"], rows["dispatched_ns"], options.late_after_s
    ):
        yield {
            "at_ns": clock.from_monotonic(at_ns),
            "duration_ns": duration_ns,
            "kind": "load",
            "name": f"the load generator itself was late by up to {worst_ns / 1e6:.1f} ms ({count} requests)",
        }


def _waits(rows: Rows, options: LoadOptions, clock: Clock) -> Iterator[dict[str, Any]]:
    """Yield when requests waited for a connection."""
    for at_ns, duration_ns, worst_ns, count in _episodes(rows["dispatched_ns"], rows["start_ns"], options.late_after_s):
        yield {
            "at_ns": clock.from_monotonic(at_ns),
            "duration_ns": duration_ns,
            "kind": "load",
            "name": f"requests waited for one of {options.max_connections} connections, up to {worst_ns / 1e6:.1f} ms"
            f" ({count} requests)",
        }


def _episodes(wanted_ns: Times, got_ns: Times, late_after_s: float) -> Iterator[tuple[int, int, int, int]]:
    """Yield (start, length, worst delay, requests) of each stretch of time with delays above the limit."""
    late = got_ns - wanted_ns > round(late_after_s * 1e9)
    order = np.argsort(wanted_ns[late], kind="stable")
    wanted_ns, got_ns = wanted_ns[late][order], got_ns[late][order]
    if not len(wanted_ns):
        return
    ends = np.maximum.accumulate(got_ns)
    firsts = np.flatnonzero(np.r_[True, wanted_ns[1:] > ends[:-1] + _EPISODE_GAP_NS])
    for first, after in zip(firsts, [*firsts[1:], len(wanted_ns)], strict=True):
        delays = got_ns[first:after] - wanted_ns[first:after]
        start = int(wanted_ns[first])
        yield start, int(ends[after - 1]) - start, int(delays.max()), int(after - first)


def _quality(clock: Clock, from_ns: int, until_ns: int, due: int | None, taken: int, note: str | None) -> pa.Table:
    """Return the row of `recording_quality`."""
    return RECORDING_QUALITY.from_rows(
        [
            {
                "collector": "load",
                "pid": None,
                "from_ns": clock.from_monotonic(from_ns) if from_ns else 0,
                "until_ns": clock.from_monotonic(until_ns) if until_ns else 0,
                "expected": due,
                "taken": taken,
                "lost": max(0, (due or taken) - taken),
                "note": note,
            }
        ]
    )
