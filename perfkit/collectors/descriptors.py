"""What the open descriptors of the process are, from /proc: nothing runs in the target.

Files are told by their path with numbers masked, sockets by protocol, peer and state: so that a
leak of descriptors can say what is leaked. One JSON line per reading is flushed at once.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfkit.attach.descriptors import DescriptorKind, open_descriptors, sockets
from perfkit.attach.errors import NoSuchProcess
from perfkit.attach.permission import denied
from perfkit.attach.target import Target
from perfkit.collectors import Raw, Recording, watching

if TYPE_CHECKING:
    import pyarrow as pa

_READINGS = "readings.jsonl"
_MOST_KINDS = 200
_MAX_SHARE = 0.003
"""Of one CPU: on a host with very many connections, what sockets are is asked less often than how many there are."""


@dataclass(frozen=True)
class Descriptors:
    """Counts open descriptors by kind.

    Options: `every_s` distance of the readings.
    """

    name: str = "descriptors"
    group: str = "process"
    writes: tuple[str, ...] = ("descriptors",)
    options: Mapping[str, Any] = field(default_factory=lambda: {"every_s": 5.0})

    def problem(self, target: Target) -> Exception | None:
        """Return why the descriptors cannot be seen, or None; touches nothing."""
        try:
            open_descriptors(target.pid)
        except PermissionError:
            return denied(target.pid)
        except OSError:
            return NoSuchProcess(target.pid)
        return None

    @contextmanager
    def record(self, recording: Recording) -> Iterator[None]:
        """Read while the context is open, or until the target is gone."""
        with watching(_watch, recording, float({**self.options, **recording.options}["every_s"])):
            yield

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return descriptors and the row of recording_quality."""
        from perfkit.attach.streams import read_lines
        from perfkit.tables import DESCRIPTORS, RECORDING_QUALITY

        readings = read_lines(raw.folder / _READINGS)
        rows = [
            {"pid": raw.pid, "at_ns": raw.clock.from_monotonic(reading["at"]), "kind": kind, "name": name,
             "state": state, "descriptors": count}
            for reading in readings
            for kind, name, state, count in reading["kinds"]
        ]  # fmt: skip
        times = [raw.clock.from_monotonic(reading["at"]) for reading in readings]
        quality = {
            "collector": self.name,
            "pid": raw.pid,
            "from_ns": times[0] if times else 0,
            "until_ns": times[-1] if times else 0,
            "taken": len(readings),
            "lost": 0,
            "cost_ns": 0,  # nothing runs in the target
        }
        return {
            "descriptors": DESCRIPTORS.from_rows(rows),
            "recording_quality": RECORDING_QUALITY.from_rows([quality]),
        }


def _watch(recording: Recording, every_s: float, stop: threading.Event) -> None:
    """Write one line per reading."""
    try:
        with (recording.raw / _READINGS).open("a", encoding="utf-8", buffering=1) as file:
            known: dict[int, DescriptorKind] = {}
            due = time.monotonic()
            while recording.target.is_alive():
                began, before_s = time.monotonic(), time.thread_time()
                if began >= due:
                    known = sockets(recording.target.pid)
                    due = began + (time.thread_time() - before_s) / _MAX_SHARE
                at_ns, before_s = time.monotonic_ns(), time.thread_time()
                kinds = _bounded(open_descriptors(recording.target.pid, known=known))
                row = {"at": at_ns, "kinds": [[*kind, count] for kind, count in kinds.items()]}
                file.write(json.dumps(row) + "\n")
                spent_s = time.thread_time() - before_s
                if stop.wait(max(every_s, spent_s / _MAX_SHARE)):
                    return
    except (FileNotFoundError, ProcessLookupError):
        return  # the process ended
    except OSError as error:
        recording.say(f"descriptors are not recorded any more: {error.strerror}")


def _bounded(kinds: Counter[DescriptorKind]) -> Counter[DescriptorKind]:
    """Return the counts with the names left out of all but the most frequent kinds, if there are too many."""
    if len(kinds) <= _MOST_KINDS:
        return kinds
    bounded: Counter[DescriptorKind] = Counter()
    for rank, (kind, count) in enumerate(kinds.most_common()):
        bounded[kind if rank < _MOST_KINDS else DescriptorKind(kind.kind, _folder_of(kind), kind.state)] += count
    return bounded


def _folder_of(kind: DescriptorKind) -> str | None:
    """Return what many files have in common, None for anything else."""
    return kind.name.rpartition("/")[0] + "/*" if kind.kind == "file" and kind.name else None


COLLECTOR = Descriptors()
