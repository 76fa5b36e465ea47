"""Tries settings of the collector on the live process, in windows of random order, and puts everything back.

It belongs to `perfkit experiment gc`, which records the collections and the requests meanwhile. The
settings come back whatever happens: the probe in the target sees to that, see `perfkit.probe.gc_settings`.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfkit.analysis.gc_trial import AGAIN, NOW
from perfkit.analysis.switchback import design
from perfkit.attach.errors import ProbeFailed, TargetGone
from perfkit.attach.permission import preflight
from perfkit.attach.streams import Stream, streaming
from perfkit.attach.target import Target
from perfkit.collectors import Raw, Recording

if TYPE_CHECKING:
    import pyarrow as pa

    from perfkit.attach.session import Session

_PROBE = "gc_settings"
_WINDOWS = "windows.jsonl"
_LOOK_S = 0.2


@dataclass(frozen=True)
class GcExperiment:
    """Switches between settings of the collector; runs only when `--collect` names it.

    Options: `arms`, a mapping from a name to `{"thresholds": [t0]}` and/or `{"freeze": true}`;
    `window_s` and `washout_s`, what of each window counts and what comes before; `blocks` and
    `noise_blocks`, how often each setting is tried, and the present one against itself before;
    `seed` of the order; `max_rss_bytes` and `max_descriptors`, beyond which all is put back at once;
    `load_pid`, a process without which the experiment ends.
    """

    name: str = "gc_experiment"
    group: str = "gc"
    on_request: bool = True
    writes: tuple[str, ...] = ("experiment_windows", "settings", "events")
    options: Mapping[str, Any] = field(
        default_factory=lambda: {
            "arms": {},
            "window_s": 8.0,
            "washout_s": 1.0,
            "blocks": 6,
            "noise_blocks": 6,
            "seed": 1,
            "max_rss_bytes": None,
            "max_descriptors": None,
            "load_pid": None,
        }
    )

    def problem(self, target: Target) -> Exception | None:
        """Return why the target cannot be entered, or None; touches nothing in it."""
        return preflight(target)

    @contextmanager
    def record(self, recording: Recording) -> Iterator[None]:
        """Try settings while the context is open, or until all were tried, a limit is passed or the target is gone."""
        options = {**self.options, **recording.options}
        limits = {name: options[name] for name in ("max_rss_bytes", "max_descriptors")}
        over = threading.Event()
        session = recording.session()
        with streaming(session, _PROBE, recording.raw, **limits):
            driver = _Driver(session, options, recording.raw / _WINDOWS, over)
            thread = threading.Thread(target=driver.run, name="perfkit experiment", daemon=True)
            thread.start()
            try:
                yield
            finally:
                over.set()
                thread.join(30.0)

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return experiment_windows, the settings that were read back at the end, events and the row of quality."""
        from perfkit.tables import EVENTS, EXPERIMENT_WINDOWS, RECORDING_QUALITY, SETTINGS

        stream = Stream.read(raw.folder)
        said = _lines(raw.folder / _WINDOWS)
        windows = [
            {
                "pid": raw.pid,
                "from_ns": raw.clock.from_monotonic(each["from"]),
                "until_ns": raw.clock.from_monotonic(each["until"]),
                "phase": each["phase"],
                "block": each["block"],
                "setting": each["arm"],
                "read_back": json.dumps(each["read_back"], sort_keys=True),
            }
            for each in said
            if "arm" in each
        ]
        ends = [(row["at"], row["ended"]) for row in stream.rows if "ended" in row]
        ends += [(each["at"], each["ended"]) for each in said if "ended" in each]
        events = [
            {"at_ns": raw.clock.from_monotonic(at), "duration_ns": 0, "kind": "recorder", "pid": raw.pid,
             "name": f"the experiment ended early: {reason}; all settings were put back"}
            for at, reason in ends[:1]
        ]  # fmt: skip
        start, end = stream.start, stream.end
        settings = []
        for name, note in (("gc_experiment.before", start), ("gc_experiment.after", end)):
            if "thresholds" in note:
                value = {key: note[key] for key in ("thresholds", "enabled", "frozen_objects")}
                settings.append(
                    {"pid": raw.pid, "at_ns": raw.clock.from_monotonic(note["monotonic_ns"]), "name": name,
                     "value": json.dumps(value, sort_keys=True)}
                )  # fmt: skip
        notes = [each["note"] for each in said if "note" in each]
        notes += [f"It ended early: {reason}." for _at, reason in ends[:1]]
        planned = next((each["planned"] for each in said if "planned" in each), 0)
        from_ns = raw.clock.from_monotonic(start["monotonic_ns"]) if start else 0
        quality = {
            "collector": self.name,
            "pid": raw.pid,
            "from_ns": from_ns,
            "until_ns": max([from_ns, *(row["until_ns"] for row in windows)]),
            "expected": planned,
            "taken": len(windows),
            "lost": max(0, planned - len(windows)),
            "stopped_ns": start.get("stopped_ns"),
            "note": " ".join(notes) or None,
        }
        return {
            "experiment_windows": EXPERIMENT_WINDOWS.from_rows(windows),
            "settings": SETTINGS.from_rows(settings),
            "events": EVENTS.from_rows(events),
            "recording_quality": RECORDING_QUALITY.from_rows([quality]),
        }


def planned_windows(options: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """Return `(phase, block, setting)` of each window: first the present setting against itself, then all settings."""
    noise = design((NOW, AGAIN), options["noise_blocks"], options["seed"])
    trial = design((NOW, *options["arms"]), options["blocks"], options["seed"] + 1)
    return [("noise", *each) for each in noise] + [("trial", *each) for each in trial]


class _Driver:
    """Goes through the windows in a thread of its own."""

    def __init__(self, session: "Session", options: Mapping[str, Any], file: Path, over: threading.Event) -> None:
        self._session = session
        self._options = options
        self._file = file
        self._over = over

    def run(self) -> None:
        """Try every window; end when told, when the probe has ended it, or when the load is gone."""
        with suppress(TargetGone, ProbeFailed):
            if self._session.call(_PROBE, keep=True)["frozen_objects"]:
                # gc.unfreeze() would let them loose, too, and nothing could bring them back.
                arms = {name: arm for name, arm in self._options["arms"].items() if not arm.get("freeze")}
                self._options = {**self._options, "arms": arms}
                self._write({"note": "Freezing was not tried: the process has frozen objects of its own."})
            windows = planned_windows(self._options)
            self._write({"planned": len(windows)})
            for phase, block, arm in windows:
                if not self._window(phase, block, arm):
                    break
            self._session.call(_PROBE, back=True)

    def _window(self, phase: str, block: int, arm: str) -> bool:
        """Try one window; return whether to go on."""
        setting = self._options["arms"].get(arm, {})
        began = self._session.call(_PROBE, collect=True, **setting)
        if began["ended"] or not self._wait(self._options["washout_s"]):
            return False
        since = self._session.call(_PROBE, keep=True)
        if not self._wait(self._options["window_s"]):
            return False
        until = self._session.call(_PROBE, keep=True)
        if until["ended"]:
            return False
        read_back = {key: until[key] for key in ("thresholds", "frozen", "frozen_objects")}
        self._write(
            {"phase": phase, "block": block, "arm": arm, "from": since["monotonic_ns"], "until": until["monotonic_ns"],
             "read_back": read_back}
        )  # fmt: skip
        return True

    def _wait(self, seconds: float) -> bool:
        """Wait; return false when it is over before."""
        pid = self._options["load_pid"]
        while seconds > 0:
            if self._over.wait(min(_LOOK_S, seconds)):
                return False
            seconds -= _LOOK_S
            if pid is not None and not _is_running(pid):
                with suppress(TargetGone, ProbeFailed):
                    told = self._session.call(_PROBE, back=True)
                    self._write({"at": told["monotonic_ns"], "ended": "the load ended"})
                return False
        return True

    def _write(self, row: Mapping[str, Any]) -> None:
        """Note something, at once."""
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _is_running(pid: int) -> bool:
    """Whether a process of ours has not ended; a zombie has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"


def _lines(file: Path) -> list[dict[str, Any]]:
    """Return the rows that were written whole."""
    rows: list[dict[str, Any]] = []
    with suppress(OSError, ValueError):
        rows.extend(json.loads(line) for line in file.read_text("utf-8").splitlines())
    return rows


COLLECTOR = GcExperiment()
