"""The only place that turns raw data into a profile, right after recording or long after a crash."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from perfkit.clock import Clock
from perfkit.collectors import Raw, collectors
from perfkit.profile import MANIFEST, RECORDING, Manifest, Profile, ProfileWriter
from perfkit.symbols import Symbols
from perfkit.tables import EVENTS, TABLES

HEARTBEAT = "heartbeat"
"""File whose modification time says until when the recorder lived."""
EVENTS_FILE = "events.ndjson"


def open_profile(path: str | os.PathLike[str]) -> Profile:
    """Return the profile in a folder; one whose recording was interrupted is finished first.

    A relative folder that is not here is looked for beside the current folder: Jupyter runs a notebook in its own.

    Raises:
        NotAProfile: the folder holds none.
        StillRecording: it is being recorded right now.
    """
    folder = _located(Path(path))
    if (folder / RECORDING).exists() and not (folder / MANIFEST).exists():
        return finish(folder)
    return Profile(folder)


def _located(folder: Path) -> Path:
    """Return a folder, or the one of that name beside the current folder when only that one exists."""
    beside = Path("..") / folder
    return beside if not folder.is_absolute() and not folder.exists() and beside.is_dir() else folder


def finish(path: str | os.PathLike[str]) -> Profile:
    """Return the profile of an interrupted recording, made of the raw data that was saved.

    Raises:
        StillRecording: its recorder is alive.
        ProfileError: nothing of use was saved.
    """
    with ProfileWriter.resume(path) as writer:
        raw = writer.path / "raw"
        clock = Clock(**writer.recording["clock"])
        until_ns = clock.from_unix((raw / HEARTBEAT).stat().st_mtime_ns) if (raw / HEARTBEAT).exists() else 0
        log = EventLog(raw / EVENTS_FILE, clock)
        log.missing(f"the recorder was killed {until_ns / 1e9:.0f} s after the start: the rest is missing")
        return decode(writer, clock, max(until_ns, 0), keep_raw=True)


class EventLog:
    """Events and missing things, one JSON line each, flushed at once."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self._file = file
        self._clock = clock

    def write(self, kind: str, name: str, pid: int | None = None) -> None:
        """Note that something happened now."""
        row = {"at_ns": self._clock.now_ns(), "duration_ns": 0, "kind": kind, "name": name, "pid": pid}
        with suppress(OSError), self._file.open("a", encoding="utf-8") as file:
            # A full disk is told of when the tables are written.
            file.write(json.dumps(row) + "\n")

    def missing(self, sentence: str, pid: int | None = None) -> None:
        """Note that something is not in the recording."""
        self.write("missing", sentence, pid)

    @staticmethod
    def read(file: Path) -> list[dict[str, Any]]:
        """Return the rows that were written whole."""
        rows = []
        for line in file.read_text("utf-8").splitlines() if file.exists() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:  # the line that was being written when the disk filled up
                break
        return rows


def decode(writer: ProfileWriter, clock: Clock, until_ns: int, *, keep_raw: bool) -> Profile:
    """Turn raw/ into tables and write the manifest."""
    raw, symbols = writer.path / "raw", Symbols(writer.recording.get("roots", ()))
    events = EventLog.read(raw / EVENTS_FILE)
    missing = [row["name"] for row in events if row["kind"] == "missing"]
    parts: dict[str, list[pa.Table]] = {}
    jobs: list[tuple[str, Callable[[], Mapping[str, pa.Table]]]] = []
    for name, collector in collectors().items():
        folders = sorted((raw / name).glob("*"), key=lambda path: int(path.name))
        jobs.extend(
            (name, partial(collector.decode, Raw(folder, int(folder.name), clock, symbols, until_ns)))
            for folder in folders
        )
    if (raw / "load").exists():
        from perfkit.load.results import decode as decode_load

        jobs.append(("load", partial(decode_load, raw / "load", clock)))
    for name, job in jobs:
        try:
            for table, rows in job().items():
                parts.setdefault(table, []).append(rows)
        except Exception as error:  # noqa: BLE001 - one collector's damaged data must not cost the others theirs
            missing.append(f"what {name} recorded could not be read: {type(error).__name__}: {error}")
            keep_raw = True
    parts.setdefault("events", []).append(EVENTS.from_rows(row for row in events if row["kind"] != "missing"))
    if "requests" in parts:
        parts["requests"] = [_within(rows, "intended_ns", until_ns) for rows in parts["requests"]]
    tables = {name: TABLES[name].sorted(pa.concat_tables(chunks)) for name, chunks in parts.items()}
    tables |= symbols.tables()
    described = writer.recording
    profile = writer.finish(
        tables,
        Manifest(
            name=writer.path.resolve().name,
            started_unix_ns=clock.unix_ns,
            started_monotonic_ns=clock.monotonic_ns,
            duration_ns=until_ns,
            complete=not missing,
            missing=tuple(dict.fromkeys(missing)),
            targets=tuple(described.get("targets", ())),
            host=described.get("host", {}),
            tools=described.get("tools", {}),
            collectors=described.get("collectors", {}),
            scenario=described.get("scenario"),
        ),
    )
    if not keep_raw:
        shutil.rmtree(raw)
        (writer.path / "recording.json").unlink()
    return profile


def _within(rows: pa.Table, time: str, until_ns: int) -> pa.Table:
    """Return the rows of the recording itself: the load runs before and after it."""
    return rows.filter((pc.field(time) >= 0) & (pc.field(time) <= until_ns))
