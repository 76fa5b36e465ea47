"""The only place that goes through the windows of an experiment: one setting after the other, on the live process.

What an experiment changes is the business of a recorder in the target, which puts everything back
whenever its session closes (`perfkit.probe.gc_settings`, `perfkit.probe.pool_settings`). A kind of
experiment derives its collector from `Switching`.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from perfkit.analysis.switchback import AGAIN, NOW, design
from perfkit.attach.errors import ProbeFailed, TargetGone
from perfkit.attach.permission import preflight
from perfkit.attach.streams import Stream, read_lines, streaming
from perfkit.attach.target import Target

if TYPE_CHECKING:
    import pyarrow as pa

    from perfkit.attach.session import Session
    from perfkit.collectors import Raw, Recording

WINDOWING: Mapping[str, Any] = {
    "arms": {},
    "window_s": 8.0,
    "washout_s": 1.0,
    "blocks": 6,
    "noise_blocks": 6,
    "seed": 1,
    "load_pid": None,
}
"""Options of every experiment.

`arms`, a mapping from the name of a setting to what the probe is called with for it; `window_s` and
`washout_s`, what of each window counts and what comes before; `blocks` and `noise_blocks`, how often each
setting is tried, and the present one against itself before; `seed` of the order; `load_pid`, a process
without which the experiment ends.
"""
_WINDOWS = "windows.jsonl"
_LOOK_S = 0.2
_READY_S = 5.0


@dataclass(frozen=True)
class Switching:
    """A collector that switches between settings; runs only when `--collect` names it.

    `probe` is the recorder in the target; `starts_with` are the options it is started with; `reads` are
    the keys of its answers that tell the settings, `compared` those that must be at the end as they were before.
    """

    name: str = ""
    group: str = ""
    on_request: bool = True
    writes: tuple[str, ...] = ("experiment_windows", "settings", "events")
    options: Mapping[str, Any] = field(default_factory=lambda: WINDOWING)

    probe: ClassVar[str]
    starts_with: ClassVar[tuple[str, ...]]
    reads: ClassVar[tuple[str, ...]]
    compared: ClassVar[tuple[str, ...]]

    def problem(self, target: Target) -> Exception | None:
        """Return why the target cannot be entered, or None; touches nothing in it."""
        return preflight(target)

    def refused(self, _told: Mapping[str, Any], _arms: Mapping[str, Any]) -> dict[str, str]:
        """Return which settings must not be tried on a process that told this of itself, and why, in a sentence."""
        return {}

    def is_ready(self, _told: Mapping[str, Any]) -> bool:
        """Whether what is to be changed is there."""
        return True

    def counts(self, _told: Mapping[str, Any]) -> bool:
        """Whether a setting was in force at the end of a window."""
        return True

    @contextmanager
    def record(self, recording: "Recording") -> Iterator[None]:
        """Try settings while the context is open, or until all were tried, a limit is passed or the target is gone."""
        options = {**self.options, **recording.options}
        limits = {name: options[name] for name in self.starts_with}
        over = threading.Event()
        session = recording.session()
        with streaming(session, self.probe, recording.raw, **limits):
            driver = _Driver(self, session, options, recording.raw / _WINDOWS, over)
            thread = threading.Thread(target=driver.run, name="perfkit experiment", daemon=True)
            thread.start()
            try:
                yield
            finally:
                over.set()
                thread.join(30.0)

    def decode(self, raw: "Raw") -> dict[str, "pa.Table"]:
        """Return experiment_windows, the settings that were read back at the end, events and the row of quality."""
        from perfkit.tables import EVENTS, EXPERIMENT_WINDOWS, RECORDING_QUALITY, SETTINGS

        stream = Stream.read(raw.folder)
        said = read_lines(raw.folder / _WINDOWS)
        at = raw.clock.from_monotonic
        windows = [
            {
                "pid": raw.pid,
                "from_ns": at(each["from"]),
                "until_ns": at(each["until"]),
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
            {"at_ns": at(when), "duration_ns": 0, "kind": "recorder", "pid": raw.pid,
             "name": f"the experiment ended early: {reason}; all settings were put back"}
            for when, reason in ends[:1]
        ]  # fmt: skip
        before = next((each["before"] for each in said if "before" in each), stream.start)
        settings = []
        for name, note in ((f"{self.name}.before", before), (f"{self.name}.after", stream.end)):
            if all(key in note for key in self.compared):
                value = {key: note[key] for key in self.compared}
                settings.append(
                    {"pid": raw.pid, "at_ns": at(note["monotonic_ns"]), "name": name,
                     "value": json.dumps(value, sort_keys=True)}
                )  # fmt: skip
        notes = [each["note"] for each in said if "note" in each]
        notes += [f"It ended early: {reason}." for _at, reason in ends[:1]]
        planned = next((each["planned"] for each in said if "planned" in each), 0)
        from_ns = at(stream.start["monotonic_ns"]) if stream.start else 0
        quality = {
            "collector": self.name,
            "pid": raw.pid,
            "from_ns": from_ns,
            "until_ns": max([from_ns, *(row["until_ns"] for row in windows)]),
            "expected": planned,
            "taken": len(windows),
            "lost": max(0, planned - len(windows)),
            "stopped_ns": stream.start.get("stopped_ns"),
            "note": " ".join(dict.fromkeys(notes)) or None,
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

    def __init__(
        self, kind: Switching, session: "Session", options: Mapping[str, Any], file: Path, over: threading.Event
    ) -> None:
        self._kind = kind
        self._session = session
        self._options = options
        self._file = file
        self._over = over

    def run(self) -> None:
        """Try every window; end when told, when the probe has ended it, or when the load is gone."""
        with suppress(TargetGone, ProbeFailed):
            if (before := self._ready()) is None:
                return
            self._write({"before": before})
            refused = self._kind.refused(before, self._options["arms"])
            arms = {name: arm for name, arm in self._options["arms"].items() if name not in refused}
            self._options = {**self._options, "arms": arms}
            for sentence in dict.fromkeys(refused.values()):
                self._write({"note": sentence})
            windows = planned_windows(self._options)
            self._write({"planned": len(windows)})
            for phase, block, arm in windows:
                if not self._window(phase, block, arm):
                    break
            self._session.call(self._kind.probe, back=True)

    def _ready(self) -> dict[str, Any] | None:
        """Return the settings from before, once there is something to change; None: it ends before."""
        left = _READY_S
        while True:
            told: dict[str, Any] = self._session.call(self._kind.probe, keep=True)
            if self._kind.is_ready(told):
                return told
            if left <= 0:
                self._write({"at": told["monotonic_ns"], "ended": "what was to be changed is not there any more"})
                return None
            if not self._wait(_LOOK_S):
                return None
            left -= _LOOK_S

    def _window(self, phase: str, block: int, arm: str) -> bool:
        """Try one window; return whether to go on."""
        setting = self._options["arms"].get(arm, {})
        began = self._session.call(self._kind.probe, collect=True, **setting)
        if began["ended"] or not self._wait(self._options["washout_s"]):
            return False
        since = self._session.call(self._kind.probe, keep=True)
        if not self._wait(self._options["window_s"]):
            return False
        until = self._session.call(self._kind.probe, keep=True)
        if until["ended"]:
            return False
        if not self._kind.counts(until):
            self._write({"note": f"A window of {arm} was left out: the setting was not in force in it."})
            return True
        read_back = {key: until[key] for key in self._kind.reads}
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
                    told = self._session.call(self._kind.probe, back=True)
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
