"""What /proc says of the process, once a second: memory, CPU time, threads, descriptors, its cgroup.

Nothing runs in the target. One CSV line per reading is flushed at once, so that a recorder
that is killed loses one reading at most.
"""

import csv
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfkit.attach.cgroup import MemoryCgroup, memory_cgroup
from perfkit.attach.errors import NoSuchProcess
from perfkit.attach.target import Target
from perfkit.collectors import Raw, Recording, watching

if TYPE_CHECKING:
    import pyarrow as pa

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_DISAGREE_RATIO = 0.05
"""Above this, the kernel's fast counters and its exact sum (smaps_rollup) are said to disagree."""


@dataclass(frozen=True, eq=False)
class ProcessStats:
    """Reads /proc/PID; see the module for how.

    Options: `every_s` distance of the readings; `exact_every_s` distance of the readings of
    smaps_rollup, which is exact but walks all page tables of the process; 0 never reads it.
    """

    name: str = "process_stats"
    group: str = "process"
    writes: tuple[str, ...] = ("process_stats", "memory_ledger")
    options: Mapping[str, Any] = field(default_factory=lambda: {"every_s": 1.0, "exact_every_s": 10.0})

    def problem(self, target: Target) -> Exception | None:
        """Return why /proc cannot be read, or None; touches nothing."""
        try:
            (Path("/proc") / str(target.pid) / "stat").read_bytes()
        except OSError:
            return NoSuchProcess(target.pid)
        return None

    @contextmanager
    def record(self, recording: Recording) -> Iterator[None]:
        """Read while the context is open, or until the target is gone."""
        with watching(_watch, recording, {**self.options, **recording.options}):
            yield

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return process_stats, memory_ledger and the row of recording_quality.

        Columns are matched by name: whatever the readings have that a table knows is kept, and
        columns of the ledger that only the inside of the process can tell stay NULL here.
        """
        from perfkit.tables import MEMORY_LEDGER, PROCESS_STATS, RECORDING_QUALITY, Table

        meta = _meta(raw.folder / "meta.json", raw.clock.monotonic_ns)
        readings = [
            {"pid": raw.pid} | row | {"at_ns": raw.clock.from_monotonic(row["at_ns"])}
            for row in _readings(raw.folder / "readings.csv")
        ]
        readings = [row for row in readings if row["at_ns"] <= raw.until_ns]

        def table(contract: Table) -> "pa.Table":
            return contract.from_rows(
                {name: value for name, value in row.items() if name in contract} for row in readings
            )

        ended_ns = raw.clock.from_monotonic(meta["ended_ns"]) if "ended_ns" in meta else raw.until_ns
        until_ns = min(ended_ns, raw.until_ns)
        from_ns = raw.clock.from_monotonic(meta["began_ns"])
        # Half a period of grace: the reading that was due when the recording ended is not lost.
        expected = (max(0, until_ns - from_ns) + meta["every_ns"] // 2) // meta["every_ns"]
        notes = [note for note in (meta.get("note"), _disagreement(readings)) if note]
        quality = {
            "collector": self.name,
            "pid": raw.pid,
            "from_ns": from_ns,
            "until_ns": until_ns,
            "expected": max(expected, len(readings)),
            "taken": len(readings),
            "lost": max(0, expected - len(readings)),
            "cost_ns": 0,  # nothing runs in the target
            "note": "; ".join(notes) or None,
        }
        return {
            "process_stats": table(PROCESS_STATS),
            "memory_ledger": table(MEMORY_LEDGER),
            "recording_quality": RECORDING_QUALITY.from_rows([quality]),
        }


class Readings:
    """Reads one process; every call of `read` gives one row, named as the columns of the tables."""

    def __init__(self, pid: int) -> None:
        self._proc = Path("/proc") / str(pid)
        self._cgroup: MemoryCgroup | None = memory_cgroup(pid)
        self._switches: dict[str, tuple[int, int]] = {}

    def read(self, *, exact: bool = False) -> dict[str, int | None]:
        """Return one reading.

        Args:
            exact: also read smaps_rollup.

        Raises:
            OSError: the process is gone.
        """
        row: dict[str, int | None] = {"at_ns": time.monotonic_ns()}
        # The name of the program is in brackets and may hold blanks and brackets.
        stat = (self._proc / "stat").read_bytes().rpartition(b")")[2].split()
        row["minor_faults"], row["major_faults"] = int(stat[7]), int(stat[9])
        row["cpu_user_ns"], row["cpu_system_ns"] = int(stat[11]) * _TICK_NS, int(stat[12]) * _TICK_NS
        row["threads"] = int(stat[17])
        status = _fields(self._proc / "status")
        # A zombie has none of these, and is gone for our purpose.
        if "VmRSS" not in status:
            raise ProcessLookupError(f"{self._proc} has no memory")
        for column, name in (
            ("rss_bytes", "VmRSS"),
            ("anon_bytes", "RssAnon"),
            ("file_bytes", "RssFile"),
            ("shmem_bytes", "RssShmem"),
        ):
            row[column] = status[name] * 1024
        row["voluntary_switches"], row["involuntary_switches"] = self._context_switches()
        row["descriptors"] = self._descriptors()
        if self._cgroup is not None:
            memory = self._cgroup.read()
            row["cgroup_bytes"] = memory.used_bytes
            row["cgroup_inactive_file_bytes"] = memory.inactive_file_bytes
            row["cgroup_limit_bytes"] = memory.limit_bytes
        row["exact_rss_bytes"] = self._exact_rss_bytes() if exact else None
        return row

    def _context_switches(self) -> tuple[int, int]:
        """Return the context switches of all threads that were ever seen: /proc/PID/status counts the main one only."""
        for thread in (self._proc / "task").iterdir():
            try:
                status = _fields(thread / "status")
            except OSError:  # it ended just now; its last count stays
                continue
            self._switches[thread.name] = status["voluntary_ctxt_switches"], status["nonvoluntary_ctxt_switches"]
        counts = self._switches.values()
        return sum(voluntary for voluntary, _ in counts), sum(involuntary for _, involuntary in counts)

    def _descriptors(self) -> int | None:
        """Return the number of open descriptors, None when we may not look."""
        try:
            return sum(1 for _ in (self._proc / "fd").iterdir())
        except PermissionError:
            return None

    def _exact_rss_bytes(self) -> int | None:
        """Return the sum over all mappings, None when we may not look."""
        try:
            return _fields(self._proc / "smaps_rollup").get("Rss", 0) * 1024
        except (PermissionError, FileNotFoundError):
            return None


COLUMNS = (
    "at_ns", "cpu_user_ns", "cpu_system_ns", "threads", "descriptors", "voluntary_switches", "involuntary_switches",
    "minor_faults", "major_faults", "rss_bytes", "anon_bytes", "file_bytes", "shmem_bytes", "cgroup_bytes",
    "cgroup_inactive_file_bytes", "cgroup_limit_bytes", "exact_rss_bytes",
)  # fmt: skip


def _watch(recording: Recording, options: Mapping[str, Any], stop: threading.Event) -> None:
    """Write one line per period; a period that was missed is left out, so that the schedule never drifts."""
    every_ns = round(float(options["every_s"]) * 1e9)
    exact_every = round(float(options["exact_every_s"]) * 1e9 / every_ns) if options["exact_every_s"] else 0
    meta: dict[str, Any] = {"every_ns": every_ns, "began_ns": time.monotonic_ns()}
    save = recording.raw / "meta.json"
    save.write_text(json.dumps(meta), "utf-8")
    readings = Readings(recording.target.pid)
    try:
        with (recording.raw / "readings.csv").open("w", newline="", encoding="ascii") as file:
            rows = csv.DictWriter(file, COLUMNS, restval="")
            rows.writeheader()
            number = 0
            while True:
                try:
                    if not recording.target.is_alive():
                        raise ProcessLookupError  # noqa: TRY301 - the id may belong to another process by now
                    exact = bool(exact_every) and number % exact_every == 0
                    rows.writerow(readings.read(exact=exact))
                except (FileNotFoundError, ProcessLookupError):
                    meta["note"] = "the process ended"
                    break
                file.flush()
                number = max(number + 1, (time.monotonic_ns() - meta["began_ns"]) // every_ns)
                due_ns = meta["began_ns"] + number * every_ns
                if stop.wait((due_ns - time.monotonic_ns()) / 1e9):
                    break
        meta["ended_ns"] = time.monotonic_ns()
        save.write_text(json.dumps(meta), "utf-8")
    except OSError as error:
        recording.say(f"process figures are not recorded any more: {error.strerror}")


def _meta(file: Path, began_ns: int) -> dict[str, Any]:
    """Return the sidecar; the plain one when the recorder was killed before it was written."""
    try:
        meta: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {"every_ns": round(COLLECTOR.options["every_s"] * 1e9), "began_ns": began_ns}
    return meta


def _readings(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines that were written whole."""
    if not file.exists():
        return
    whole = file.read_text("ascii", "replace").rpartition("\n")[0]  # the last line may be half a line
    for row in csv.DictReader(whole.splitlines()):
        if None in row.values():
            return
        yield {name: int(value) if value else None for name, value in row.items()}


def _disagreement(readings: list[dict[str, Any]]) -> str | None:
    """Return a sentence when the resident size is not what the exact sum says."""
    exact = [(row["rss_bytes"], row["exact_rss_bytes"]) for row in readings if row.get("exact_rss_bytes")]
    worst = max((abs(fast - sure) / sure for fast, sure in exact), default=0.0)
    return f"rss_bytes is up to {worst:.0%} off what smaps_rollup says" if worst > _DISAGREE_RATIO else None


def _fields(file: Path) -> dict[str, int]:
    """Return the `Name: number unit` lines of a file of /proc."""
    found: dict[str, int] = {}
    for line in file.read_text("utf-8", "replace").splitlines():
        name, _, rest = line.partition(":")
        number = rest.split(maxsplit=1)
        if number and number[0].isdigit():
            found[name] = int(number[0])
    return found


COLLECTOR = ProcessStats()
