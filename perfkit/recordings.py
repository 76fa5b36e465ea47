"""Recording in its three forms: a process id, a command, a scenario of the reference proxy.

`record` is for notebooks and scripts; the command line and experiments use the functions that it calls.
"""

import os
import shlex
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from perfkit.attach.target import Target, inspect, inspect_any
from perfkit.errors import CannotRecord, UsageError
from perfkit.profile import RECORDING, Profile, ProfileWriter
from perfkit.recorder import Progress, Recorder, Settings, Silent, plan_for, wait


def record(
    target: int | str | Sequence[str] | None = None,
    duration: float | str | None = None,
    *,
    scenario: str | None = None,
    output: str | os.PathLike[str] | None = None,
    collect: Iterable[str] | None = None,
    children: bool = False,
    keep_raw: bool = False,
    budget: float | None = None,
    fetch: bool = False,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    quiet: bool = False,
) -> Profile:
    """Return the profile of a process, recorded now: what `perfkit record` does, for notebooks and scripts.

    >>> profile = perfkit.record(4242, "30s")  # doctest: +SKIP
    >>> profile = perfkit.record(["python", "app.py"], "2m")  # doctest: +SKIP
    >>> profile = perfkit.record(scenario="heap_leak_sessions")  # doctest: +SKIP

    Args:
        target: a process id to attach to, or a command to start; None with a scenario.
        duration: seconds, or a text such as "30s" or "5m"; 0 until it ends. Without: a minute of a process, a command
            until it ends, a scenario for as long as it says. Interrupting ends it earlier, and keeps what was recorded.
        scenario: name of a scenario of the reference proxy, see `perfkit scenarios`.
        output: folder of the profile, new or empty. Without: profiles/PROGRAM-DATE-TIME.
        collect: groups or names of collectors. Without: all that work on the target.
        children: record its Python descendants, too.
        keep_raw: keep what the tools wrote, beside the tables.
        budget: share of the target's time that recording may cost it, such as 0.02. Without: what it takes.
        fetch: download what the target's interpreter lacks.
        options: settings by name of collector, such as `{"pyspy_stacks": {"rate_hz": 50}}`.
        quiet: show no progress.

    Raises:
        UsageError: not exactly one of target and scenario, or a duration that is none.
        CannotRecord: the process cannot be recorded; nothing was touched.
        ProfileError: the output folder cannot be used; nothing was touched.
    """
    from perfkit.terminal import TerminalProgress

    if (target is None) == (scenario is None):
        raise UsageError("say what to record", hint="Give a process id, a command, or scenario=NAME.")
    if duration is None and isinstance(target, int):
        duration = 60.0
    settings = Settings(
        output=None if output is None else Path(output),
        duration_s=None if duration in (None, 0, "0") else parse_duration(str(duration)),
        collect=None if collect is None else (collect,) if isinstance(collect, str) else tuple(collect),
        children=children,
        keep_raw=keep_raw,
        budget=budget,
        fetch=fetch,
        options=options or {},
    )
    progress = TerminalProgress(quiet=quiet)
    if scenario is not None:
        return record_scenario(scenario, settings, progress)
    if isinstance(target, int):
        return record_pid(target, settings, progress)
    return record_command(shlex.split(target) if isinstance(target, str) else list(target or ()), settings, progress)


def record_pid(pid: int, settings: Settings, progress: Progress | None = None) -> Profile:
    """Return the profile of a running process, recorded by attaching to it.

    Raises:
        CannotRecord: the process cannot be recorded; nothing was touched.
        ProfileError: the output folder cannot be used; nothing was touched.
    """
    progress = progress or Silent()
    # Asked for by name, what looks from outside records any process; otherwise a process that is not Python is a slip.
    target = inspect(pid) if settings.collect is None else inspect_any(pid)
    output = settings.output or default_output(target.program)
    _fetch(target, settings, progress)
    plan = plan_for(target, settings)
    with writing(output) as writer:
        recorder = Recorder(writer, settings, progress)
        recorder.add(plan)
        recorder.run()
        return recorder.finish()


def record_command(command: Sequence[str], settings: Settings, progress: Progress | None = None) -> Profile:
    """Return the profile of a command that is started for it; needs no right to trace processes.

    The command is left running when the recording ends before it does, unless it was
    started for a limited time only: then it is asked to end with SIGTERM.

    Raises:
        CannotRecord: the command cannot be started or is not Python.
    """
    from perfkit.attach.launch import launch
    from perfkit.collectors import collectors

    progress = progress or Silent()
    program = Path(command[0]).name
    with writing(settings.output or default_output(program)) as writer:
        recorder = Recorder(writer, settings, progress)
        collectors()  # importing them takes a second of the command's life otherwise
        with launch(command) as (_, session):
            _fetch(session.target, settings, progress)
            recorder.add(plan_for(session.target, settings), session)
            recorder.run()
        return recorder.finish()


def record_scenario(name: str, settings: Settings, progress: Progress | None = None) -> Profile:
    """Return the profile of the reference proxy in a scenario, under load, attached to by PID like any other.

    Raises:
        UnknownName: there is no such scenario.
        CannotRecord: the lab could not be started.
    """
    from perfkit.lab import lab
    from perfkit.scenarios import load as load_scenario

    progress = progress or Silent()
    scenario = load_scenario(name)
    duration_s = settings.duration_s if settings.duration_s is not None else scenario.record.duration_s
    collect = settings.collect if settings.collect is not None else scenario.record.collect
    output = settings.output or Path("profiles") / scenario.name
    options = {**scenario.record.options, **settings.options}
    settings = replace(settings, duration_s=duration_s, collect=collect, options=options)
    with writing(output) as writer, lab(scenario, writer.raw("lab")) as running:
        progress.say(f"proxy is process {running.proxy_pid}, port {running.proxy_port}; starting the load")
        recorder = Recorder(writer, settings, progress, scenario=scenario.to_dict())
        running.start_load(writer.raw("load"), duration_s + scenario.record.warmup_s + 30.0)
        with progress.stage("warming up", scenario.record.warmup_s) as done:
            wait(scenario.record.warmup_s, done)
        recorder.add(plan_for(inspect(running.proxy_pid), settings))
        recorder.run()
        running.stop_load()
        return recorder.finish()


def default_output(program: str) -> Path:
    """Return a folder name that is not taken yet: profiles/PROGRAM-YYYYMMDD-HHMMSS."""
    return Path("profiles") / f"{Path(program).name}-{time.strftime('%Y%m%d-%H%M%S')}"


def _fetch(target: Target, settings: Settings, progress: Progress) -> None:
    """Download what the target's interpreter lacks, if that is allowed; what cannot be had is left out as ever."""
    if not settings.fetch:
        return
    from perfkit.attach.memray_builds import FetchFailed, fetch

    try:
        fetch(target)
    except FetchFailed as error:
        progress.say(f"{error}. {error.hint}")


@contextmanager
def writing(output: Path) -> Iterator[ProfileWriter]:
    """Yield a writer for a new folder; a folder in which nothing was recorded is removed again."""
    existed = output.exists()
    writer = ProfileWriter.create(output)
    try:
        yield writer
    except CannotRecord:
        writer.recording = {}
        raise
    finally:
        writer.close()
        if not writer.recording:
            shutil.rmtree(output / "raw")
            (output / RECORDING).unlink()
            if not existed:
                output.rmdir()


def parse_duration(text: str) -> float:
    """Return seconds.

    >>> parse_duration("90"), parse_duration("20s"), parse_duration("2m"), parse_duration("1.5h")
    (90.0, 20.0, 120.0, 5400.0)

    Raises:
        UsageError: it is not a length of time.
    """
    units = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text[len(number) :].strip() or "s"
    try:
        seconds = float(number) * units[unit]
    except (ValueError, KeyError):
        raise UsageError(f"{text!r} is not a length of time", hint="Write it as 90, 20s, 5m or 1h.") from None
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{text!r} is not a positive length of time", hint="Write it as 90, 20s, 5m or 1h.")
    return seconds


def parse_share(text: str) -> float:
    """Return a share of 1.

    >>> parse_share("2%"), parse_share("0.5 %"), parse_share("10")
    (0.02, 0.005, 0.1)

    Raises:
        UsageError: it is not a percentage above 0 and up to 100.
    """
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UsageError(f"{text!r} is not a share of the target's time", hint="Write it as 2% or 0.5%.")
    return share
