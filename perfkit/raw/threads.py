"""The only place that reads what was written about threads beside the stacks: CPU times, names, ids, who runs.

`threads.csv` has a line whenever the CPU time of a thread has changed (-1: it is gone),
`dumps.ndjson` one snapshot of all threads per line, as `py-spy dump` tells it.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfkit.clock import Clock


@dataclass
class ThreadTimes:
    """CPU time of one thread: readings in recording time, cumulative, and when it was gone."""

    at_ns: list[int] = field(default_factory=list)
    cpu_ns: list[int] = field(default_factory=list)
    gone_ns: int | None = None


def snapshots(file: Path, clock: Clock) -> Iterator[dict[str, Any]]:
    """Yield the snapshots that were written whole, their times as recording time."""
    for line in file.read_text("utf-8").splitlines() if file.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            return
        yield {"at_ns": clock.from_monotonic(row["ended_ns"]), "threads": row["threads"]}


def thread_times(file: Path, clock: Clock) -> tuple[dict[int, ThreadTimes], list[int]]:
    """Return the CPU times by thread id of the operating system, and when they were read."""
    times: dict[int, ThreadTimes] = {}
    readings: list[int] = []
    if not file.exists():
        return times, readings
    whole = file.read_text("ascii", "replace").rpartition("\n")[0]  # the last line may be half a line
    for row in list(csv.reader(whole.splitlines()))[1:]:
        try:
            at_ns, tid, cpu_ns = clock.from_monotonic(int(row[0])), int(row[1]), int(row[2])
        except (ValueError, IndexError):
            break
        if not readings or at_ns > readings[-1]:
            readings.append(at_ns)
        thread = times.setdefault(tid, ThreadTimes())
        if cpu_ns < 0:
            thread.gone_ns = at_ns
        else:
            thread.gone_ns = None
            thread.at_ns.append(at_ns)
            thread.cpu_ns.append(cpu_ns)
    return times, readings


def os_tids(dumps: list[dict[str, Any]], pid: int) -> dict[int, list[tuple[int, int, str | None]]]:
    """Return for each pthread id when it was seen as which thread: (at_ns, os_tid, name).

    pthread ids are addresses: a new thread may have the id of one that ended.
    """
    seen: dict[int, list[tuple[int, int, str | None]]] = {}
    for dump in dumps:
        for thread in dump["threads"]:
            os_tid, name = thread.get("os_thread_id"), thread.get("thread_name")
            os_tid = pid if os_tid is None and name == "MainThread" else os_tid
            # Names come from the module `threading`, which the target may never have imported.
            name = "MainThread" if name is None and os_tid == pid else name
            if os_tid is not None:
                seen.setdefault(thread["thread_id"], []).append((dump["at_ns"], os_tid, name))
    return seen
