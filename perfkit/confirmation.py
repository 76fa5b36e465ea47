"""`perfkit experiment gc --confirm COMMAND`: does what an experiment found hold for a process started with the setting?

A setting that was changed on a live process misses what happens before: imports, the moment of freezing, and what
the program sets itself. So the command is started anew, as it is and with the setting in turn, under the same load.
"""

import http.client
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from perfkit.analysis.gc_case import gather
from perfkit.analysis.gc_trial import outcomes
from perfkit.attach.launch import CommandFailed, launch
from perfkit.attach.target import children
from perfkit.errors import CannotRecord, UsageError
from perfkit.findings import Verdict
from perfkit.lab import guarded, load_on
from perfkit.profile import Profile
from perfkit.recorder import Progress, Recorder, Settings, Silent, plan_for
from perfkit.recordings import writing
from perfkit.units import percent_text

if TYPE_CHECKING:
    from perfkit.attach.session import Session

_PROBE = "gc_settings"
_COLLECT = ("gc_pauses", "loop_lag", "python_memory", "process_stats")
_LEAST_KEPT = 0.5
"""Of what the experiment saved; a fresh process has less in its heap, so not all of it has to come back."""
_WORSE = 1.1
_POLL_S = 0.1


class NotReady(CannotRecord):
    """A command that was started anew did not answer."""

    hint = "Give the address it answers at as --confirm-load URL, and let it listen on another port than the live one."


@dataclass(frozen=True)
class Trying:
    """How to start the command and what to send to it.

    Without `load_url` the command has to have work of its own, and is taken for ready after `warm_up_s`.
    """

    command: tuple[str, ...]
    load_url: str | None = None
    load_per_s: float = 100.0
    starts: int = 2
    warm_up_s: float = 3.0
    measure_s: float = 10.0
    ready_s: float = 60.0


@dataclass(frozen=True)
class Start:
    """One start of the command: what was measured of it. `in_force`: the setting was still there at the end."""

    profile: str
    time_ratio: float
    p99_ms: float | None
    rss_bytes: float | None
    in_force: bool
    has_workers: bool


@dataclass(frozen=True)
class Confirmation:
    """Whether an effect holds on fresh processes; `pairs` are starts without and with the setting."""

    setting: str
    verdict: Verdict
    title: str
    hint: str
    expected_saving: float
    pairs: tuple[tuple[Start, Start], ...]

    def to_json_form(self) -> dict[str, Any]:
        """Return it as JSON values."""
        pairs = [{"without": asdict(without), "with": asdict(with_it)} for without, with_it in self.pairs]
        return {
            "setting": self.setting, "verdict": str(self.verdict), "title": self.title, "hint": self.hint,
            "expected_saving": self.expected_saving, "starts": pairs,
        }  # fmt: skip


def confirm(profile: Profile, trying: Trying, progress: Progress | None = None) -> Confirmation | None:
    """Return whether the best setting of an experiment holds on fresh processes; None when it found none.

    The recordings of the starts are kept beside the experiment's.

    Raises:
        UsageError: something else answers at the address.
        CannotRecord: the command cannot be started, or does not get ready.
    """
    case = gather(profile, profile.pids[0])
    tried = case.experiment if case is not None else None
    best = tried.best if tried is not None and tried.ended_early is None else None
    if best is None:
        return None
    saving = -best.effects["time_ratio"].estimate
    return confirmed(best.setting, saving, trying, profile.path, progress)


def confirmed(
    setting: str, saving: float, trying: Trying, beside: Path, progress: Progress | None = None
) -> Confirmation:
    """Return whether a setting saves on fresh processes what it saved in an experiment.

    Args:
        setting: as code, such as `gc.freeze(); gc.set_threshold(5000)`.
        saving: share of the time in collections that it saved.
        trying: the command and its load.
        beside: the folder beside which recordings are kept.
        progress: who is told what goes on.
    """
    progress = progress or Silent()
    if trying.load_url is not None and _answers(trying.load_url):
        raise UsageError(
            f"something answers at {trying.load_url} already", hint="Let the command listen on another port than the "
            "live process does, and give its address as --confirm-load URL.",
        )  # fmt: skip
    pairs = []
    for number in range(1, trying.starts + 1):
        order = (None, setting) if number % 2 else (setting, None)
        found: dict[str | None, Start] = {}
        for each in order:
            progress.say(f"starting the command {f'with {each}' if each else 'as it is'} ({number} of {trying.starts})")
            output = beside.with_name(f"{beside.name}-fresh-{number}-{'with' if each else 'without'}")
            found[each] = _started(each, trying, output, progress)
        pairs.append((found[None], found[setting]))
    return judged(setting, saving, pairs)


def judged(setting: str, saving: float, pairs: Sequence[tuple[Start, Start]]) -> Confirmation:
    """Return what pairs of starts say about a setting that saved a share of the time before."""

    def said(verdict: Verdict, title: str, hint: str) -> Confirmation:
        return Confirmation(setting, verdict, title, hint, saving, tuple(pairs))

    if any(start.has_workers for pair in pairs for start in pair):
        return said(
            Verdict.UNDECIDED, "The command forks workers, and only its first process was looked at",
            "Let the command start one worker without a parent for this.",
        )  # fmt: skip
    if not all(with_it.in_force for _without, with_it in pairs):
        return said(
            Verdict.UNDECIDED, f"The program itself changes the setting after its start: {setting} was not in force",
            "Put the setting behind the place where the program sets it, or change it there.",
        )  # fmt: skip
    numbers = "; ".join(
        f"{percent_text(without.time_ratio)} of the time without, {percent_text(with_it.time_ratio)} with it"
        for without, with_it in pairs
    )
    if all(without.time_ratio < _LEAST_KEPT * saving for without, _with in pairs):
        return said(
            Verdict.UNDECIDED, f"A fresh process spends too little in collections to save anything yet: {numbers}",
            "What costs builds up later. Let the starts be longer (--confirm-for), under the load of the live process.",
        )  # fmt: skip
    slower = all(
        without.p99_ms is not None and with_it.p99_ms is not None and with_it.p99_ms > _WORSE * without.p99_ms
        for without, with_it in pairs
    )
    if slower:
        return said(
            Verdict.FAIL, f"On fresh processes {setting} makes the 99th percentile worse: {numbers}",
            "Do not deploy it; find out what else differs from the live process.",
        )  # fmt: skip
    kept = [without.time_ratio - with_it.time_ratio >= _LEAST_KEPT * saving for without, with_it in pairs]
    if all(kept):
        return said(
            Verdict.PASS, f"{setting} holds on {len(pairs)} of {len(pairs)} fresh processes: {numbers}",
            "Set it where the application starts.",
        )  # fmt: skip
    if not any(kept):
        return said(
            Verdict.FAIL, f"{setting} does not hold on fresh processes: {numbers}",
            "What the experiment changed was the live process's own state. Do not deploy it.",
        )  # fmt: skip
    return said(
        Verdict.UNDECIDED, f"{setting} held on {sum(kept)} of {len(pairs)} fresh processes: {numbers}",
        "Start it more often (--confirm-starts), or measure for longer (--confirm-for).",
    )  # fmt: skip


def thresholds_of(setting: str) -> list[int]:
    """Return the thresholds that a setting gives, none if it leaves them.

    >>> thresholds_of("gc.freeze(); gc.set_threshold(5000)"), thresholds_of("gc.freeze()")
    ([5000], [])
    """
    given = setting.partition("set_threshold(")[2].partition(")")[0]
    return [int(each) for each in given.split(",")] if given else []


def _started(setting: str | None, trying: Trying, output: Path, progress: Progress) -> Start:
    """Start the command, wait until it is ready, send the load, record, and ask it to end."""
    thresholds = thresholds_of(setting) if setting else []
    environment = dict(os.environ)
    if thresholds:
        environment["PERFKIT_GC_THRESHOLDS"] = ",".join(map(str, thresholds))
    with ExitStack() as stack:
        writer = stack.enter_context(writing(output))
        said = stack.enter_context((writer.raw("command") / "output.txt").open("wb"))
        command = list(trying.command)
        if (program := shutil.which(command[0])) is not None:
            command = guarded([program, *command[1:]])
        process, session = stack.enter_context(launch(command, env=environment, output=said))
        load = None
        if trying.load_url is not None:
            _wait_until_ready(trying, process.poll)
            load = stack.enter_context(load_on(trying.load_url, trying.load_per_s, writer.raw("load")))
        _sleep(trying.warm_up_s, trying, process.poll)
        session.start(_PROBE, stream=output / "raw" / "gc_settings.jsonl")
        seen = _set(session, setting, thresholds)
        settings = Settings(duration_s=trying.measure_s, collect=_COLLECT)
        recorder = Recorder(writer, settings, progress)
        recorder.add(plan_for(session.target, settings), session)
        began = time.monotonic()
        recorder.run()
        if process.poll() is not None:
            raise CommandFailed(trying.command, f"it ended with exit code {process.returncode} while it was measured")
        if time.monotonic() - began < trying.measure_s:
            raise CannotRecord("stopped before the setting was confirmed", hint="The experiment itself is complete.")
        at_end = session.call(_PROBE, keep=True)
        has_workers = bool(children(session.target.pid))
        if load is not None:
            load.stop()
        profile = recorder.finish()
        pid = session.target.pid
    case = gather(profile, pid)
    if case is None:
        raise CannotRecord("the collections of the fresh process were not seen", hint="Run it with --collect gc alone.")
    measured = outcomes(profile, case.costs, 0, profile.manifest.duration_ns)
    return Start(
        profile=profile.path.name,
        time_ratio=measured["time_ratio"],
        p99_ms=measured.get("p99_ms"),
        rss_bytes=measured.get("rss_bytes"),
        in_force=at_end["enabled"] and at_end["thresholds"] == seen["thresholds"] and at_end["frozen"] == seen["frozen"]
        and at_end["thresholds"][: len(thresholds)] == thresholds,
        has_workers=has_workers,
    )  # fmt: skip


def _set(session: "Session", setting: str | None, thresholds: list[int]) -> dict[str, Any]:
    """Freeze, which only makes sense after the start-up; return the settings as they are.

    Thresholds are there from the first line on, unless the interpreter ignores `sitecustomize`.
    """
    late = thresholds if session.method != "launched" else []
    if setting is not None and ("gc.freeze()" in setting or late):
        now: list[int] = session.call(_PROBE, keep=True)["thresholds"]
        told: dict[str, Any] = session.call(
            _PROBE, thresholds=late or now, freeze="gc.freeze()" in setting, collect="gc.freeze()" in setting
        )
        return told
    seen: dict[str, Any] = session.call(_PROBE, keep=True)
    return seen


def _wait_until_ready(trying: Trying, ended: Any) -> None:
    """Return once the command answers.

    Raises:
        NotReady: it did not in time.
        CommandFailed: it ended.
    """
    assert trying.load_url is not None
    until = time.monotonic() + trying.ready_s
    while not _answers(trying.load_url):
        _sleep(_POLL_S, trying, ended)
        if time.monotonic() > until:
            raise NotReady(f"nothing answers at {trying.load_url} after {trying.ready_s:.0f} s")


def _sleep(seconds: float, trying: Trying, ended: Any) -> None:
    """Wait, unless the command ends."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if ended() is not None:
            raise CommandFailed(trying.command, f"it ended with exit code {ended()} before it could be measured")
        time.sleep(min(left, _POLL_S))


def _answers(url: str) -> bool:
    """Whether a server answers at an address, whatever it says."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "localhost", parts.port or 80, timeout=2.0)
    try:
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", parts.path or "/")
            return connection.getresponse().status > 0
        return False
    finally:
        connection.close()
