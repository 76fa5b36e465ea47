"""The only place that runs collectors: which ones, on which processes, until when.

Everything here happens while the target is being watched; nothing is decoded or formatted.
"""

import os
import platform
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from perfkit.attach.budget import Budget
from perfkit.attach.target import Target, children
from perfkit.clock import Clock
from perfkit.collectors import Collector, Recording, collectors
from perfkit.decode import EVENTS_FILE, HEARTBEAT, EventLog, decode
from perfkit.errors import CannotRecord, PerfkitError, UnknownName
from perfkit.profile import Profile, ProfileWriter

if TYPE_CHECKING:
    from perfkit.attach.session import Session

GROUPS = ("process", "cpu", "sockets", "gc", "pools", "objects", "heap")
"""Words for `--collect`, in the order in which their collectors start: the cheap ones first."""

_TICK_S = 0.25
_CHILDREN_EVERY_S = 1.0
_BUDGET_EVERY_S = 1.0


class Progress(Protocol):
    """Where the recorder tells how far it is."""

    def say(self, text: str) -> None:
        """Show one line."""
        ...

    def stage(self, name: str, total_s: float | None) -> AbstractContextManager[Callable[[float], None]]:
        """Open a stage of known or unknown length; the callable takes the seconds done."""
        ...


class Silent:
    """Progress that nobody looks at."""

    def say(self, text: str) -> None:
        """Drop the line."""

    @contextmanager
    def stage(self, name: str, total_s: float | None) -> Iterator[Callable[[float], None]]:
        """Drop the progress of the stage."""
        yield lambda done_s: None


@dataclass(frozen=True)
class Settings:
    """How to record, whatever the target is.

    `collect` holds groups or collector names; None takes every collector that works on the
    target and says what was left out. `options` maps a collector's name to its settings.
    `duration_s` None records until the target ends or the user interrupts. `budget` is the share of
    the target's time that recording may cost it; None lets it take what it takes. `fetch` allows to
    download what the target's interpreter lacks.
    """

    output: Path | None = None
    duration_s: float | None = 60.0
    collect: tuple[str, ...] | None = None
    children: bool = False
    keep_raw: bool = False
    budget: float | None = None
    fetch: bool = False
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The collectors chosen for one target, and what was left out and why."""

    target: Target
    chosen: tuple[Collector, ...]
    left_out: tuple[str, ...] = ()


def plan_for(target: Target, settings: Settings) -> Plan:
    """Return which collectors to run; refuses before anything is touched.

    Raises:
        UnknownName: `collect` names something that does not exist.
        CannotRecord: a collector asked for by name cannot work, or none can.
    """
    known = collectors()
    names = sorted({*known, *(collector.group for collector in known.values())})
    for word in settings.collect or ():
        if word not in names:
            raise UnknownName("collector", word, names)
    chosen, left_out, problems = [], [], []
    for collector in sorted(known.values(), key=_turn):
        if not _is_wanted(collector, settings.collect):
            continue
        problem = collector.problem(target)
        if problem is None:
            chosen.append(collector)
            continue
        if settings.collect is not None:
            raise problem
        problems.append(problem)
        remedy = getattr(problem, "hint", "")
        left_out.append(f"{collector.name} was left out: {problem}. {remedy}".strip())
    if not any(collector.group != "process" for collector in chosen) and problems:
        raise problems[0]
    return Plan(target, tuple(chosen), tuple(left_out))


def _turn(collector: Collector) -> tuple[bool, int, str]:
    """Return when a collector's turn to start is; they stop the other way round."""
    return not getattr(collector, "encloses", False), GROUPS.index(collector.group), collector.name


def _is_wanted(collector: Collector, collect: tuple[str, ...] | None) -> bool:
    """Whether a collector was asked for, by its name or by its group, or belongs to every recording."""
    on_request = getattr(collector, "on_request", False)
    if collect is None:
        return not on_request
    return collector.name in collect or (collector.group in collect and not on_request)


class Recorder:
    """Runs collectors on one or more processes until the time is up or the targets are gone."""

    def __init__(
        self, writer: ProfileWriter, settings: Settings, progress: Progress, scenario: dict[str, Any] | None = None
    ) -> None:
        self.writer = writer
        self.settings = settings
        self.progress = progress
        self.clock = Clock.start()
        self.until_ns = 0
        self._scenario = scenario
        self._plans: dict[int, Plan] = {}
        self._given_sessions: dict[int, Session] = {}
        self._sessions: dict[int, Session] = {}
        self._budgets: dict[int, Budget] = {}
        self._log = EventLog(writer.path / "raw" / EVENTS_FILE, self.clock)

    def add(self, plan: Plan, session: "Session | None" = None) -> None:
        """Plan to record a process, with its descendants when asked for."""
        self._plans[plan.target.pid] = plan
        if session is not None:
            self._given_sessions[plan.target.pid] = session
        if self.settings.children:
            for child in children(plan.target.pid):
                self._plans.setdefault(child.pid, plan_for(child, self.settings))
        self._describe()

    def run(self) -> None:
        """Record. Returns when the time is up, every target is gone, or the user stops it."""
        self.clock = Clock.start()
        self._log = EventLog(self.writer.path / "raw" / EVENTS_FILE, self.clock)
        self._describe()
        with ExitStack() as sessions, ExitStack() as running, _stop_signals() as stopped:
            self._log.write("recorder", "recording began")
            started = sum(self._start(plan, sessions, running) for plan in list(self._plans.values()))
            if not started:
                raise CannotRecord(
                    "no collector could be started", hint=self._reasons() or "Run `perfkit doctor --pid PID`."
                )
            duration_s = self.settings.duration_s
            with self.progress.stage("recording", duration_s) as done:
                self._watch(sessions, running, stopped, done)
            if stopped():
                self.progress.say("stopped early: what was recorded is kept; Ctrl-C again leaves it undecoded")
            self._keep_budgets()
            self.until_ns = self.clock.now_ns()
            self._log.write("recorder", "recording ended")
        self._sum_up_budgets()

    def finish(self) -> Profile:
        """Return the profile of what was recorded."""
        with self.progress.stage("decoding", None):
            return decode(self.writer, self.clock, self.until_ns, keep_raw=self.settings.keep_raw)

    def _start(self, plan: Plan, sessions: ExitStack, running: ExitStack) -> int:
        """Start the collectors of one process; return how many did."""
        target = plan.target
        started = 0
        for sentence in plan.left_out:
            self.progress.say(sentence)
            self._log.missing(sentence, target.pid)
        session = self._session_of(target, sessions)
        budget = None
        if self.settings.budget is not None:
            get = partial(self._sessions.get, target.pid)
            budget = Budget(self.settings.budget, target.pid, self.settings.duration_s, get)
            self._budgets[target.pid] = budget
        for collector in plan.chosen:
            recording = Recording(
                target=target,
                raw=self.writer.raw(collector.name, target.pid),
                clock=self.clock,
                session=session,
                say=self.progress.say,
                duration_s=self.settings.duration_s,
                options={
                    **collector.options,
                    **(budget.options(collector.options) if budget else {}),
                    **self.settings.options.get(collector.name, {}),
                },
                budget=budget,
            )
            try:
                recorder = collector.record(recording)
                recorder.__enter__()
                running.push(partial(self._leave, collector.name, target.pid, recorder))
                started += 1
            except (PerfkitError, OSError) as error:
                shutil.rmtree(recording.raw)
                if not target.is_alive():
                    self._log.missing(f"process {target.pid} ended before {collector.name} could start", target.pid)
                    break
                sentence = f"{collector.name} could not start: {error}. {getattr(error, 'hint', '')}".rstrip()
                self.progress.say(sentence)
                self._log.missing(sentence, target.pid)
        return started

    def _leave(
        self,
        name: str,
        pid: int,
        recorder: AbstractContextManager[None],
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """End a collector; one that cannot write down its end, as on a full disk, does not keep others from theirs."""
        try:
            return recorder.__exit__(kind, error, trace)
        except OSError as problem:
            sentence = f"{name} could not write its end: {problem.strerror or problem}"
            self.progress.say(sentence)
            self._log.missing(sentence, pid)
            return None

    def _session_of(self, target: Target, sessions: ExitStack) -> "Callable[[], Session]":
        """Return a function that injects the probe on its first call and gives the same session ever after."""
        if given := self._given_sessions.get(target.pid):
            self._sessions[target.pid] = given
            return lambda: given

        @cache
        def session() -> "Session":
            from perfkit.attach.session import Session

            self.progress.say(f"attaching to process {target.pid}")
            opened = self._sessions[target.pid] = sessions.enter_context(Session.open(target))
            return opened

        return session

    def _watch(
        self, sessions: ExitStack, running: ExitStack, stopped: Callable[[], bool], done: Callable[[float], None]
    ) -> None:
        """Wait, notice targets that end and children that come, and leave a sign of life for `finish`."""
        heartbeat = self.writer.path / "raw" / HEARTBEAT
        began = time.monotonic()
        duration_s = self.settings.duration_s
        next_children = next_poll = began
        alive = {pid: plan.target for pid, plan in self._plans.items()}
        while not stopped():
            now = time.monotonic()
            done(now - began)
            heartbeat.touch()
            for pid, target in list(alive.items()):
                if not target.is_alive():
                    del alive[pid]
                    self._log.write("target", f"process {pid} ended", pid)
                    if duration_s is not None:
                        self._log.missing(
                            f"process {pid} ended {now - began:.1f} s after the start of a recording "
                            f"of {duration_s:.0f} s",
                            pid,
                        )
            if not alive or (duration_s is not None and now - began >= duration_s):
                return
            if now >= next_poll:
                next_poll = now + _BUDGET_EVERY_S
                self._keep_budgets()
            if self.settings.children and now >= next_children:
                next_children = now + _CHILDREN_EVERY_S
                for child in self._new_children(alive):
                    plan = self._plans[child.pid] = plan_for(child, self.settings)
                    alive[child.pid] = child
                    self._log.write("target", f"process {child.pid} appeared", child.pid)
                    self._describe()
                    self._start(plan, sessions, running)
            time.sleep(_TICK_S if duration_s is None else max(0.01, min(_TICK_S, began + duration_s - now)))

    def _keep_budgets(self) -> None:
        """Slow down what costs too much, and say so."""
        for pid, budget in self._budgets.items():
            for sentence in budget.poll():
                self.progress.say(sentence)
                self._log.write("recorder", sentence, pid)

    def _sum_up_budgets(self) -> None:
        """Say what recording has cost."""
        for pid, budget in self._budgets.items():
            self.progress.say(budget.summary())
            self._log.write("recorder", budget.summary(), pid)

    def _new_children(self, alive: Mapping[int, Target]) -> list[Target]:
        """Return descendants that are not recorded yet."""
        return [child for pid in list(alive) for child in children(pid) if child.pid not in self._plans]

    def _reasons(self) -> str:
        """Return why collectors did not start, for an error message."""
        rows = EventLog.read(self.writer.path / "raw" / EVENTS_FILE)
        return " ".join(dict.fromkeys(row["name"] for row in rows if row["kind"] == "missing"))

    def _describe(self) -> None:
        """Save what is being recorded, so that another process can finish it."""
        self.writer.describe(
            {
                "recorder_pid": os.getpid(),
                "clock": {"monotonic_ns": self.clock.monotonic_ns, "unix_ns": self.clock.unix_ns},
                "targets": [plan.target.describe() for plan in self._plans.values()],
                "collectors": {
                    collector.name: {**collector.options, **self.settings.options.get(collector.name, {})}
                    for plan in self._plans.values()
                    for collector in plan.chosen
                },
                "roots": sorted({root for plan in self._plans.values() if (root := _folder_of(plan.target.pid))}),
                "scenario": self._scenario,
                "host": host(),
                "tools": {name: version(name) for name in ("perfkit", "py-spy", "memray")},
            }
        )


def _folder_of(pid: int) -> str | None:
    """Return the working directory of a process, as it sees it; None where we may not know."""
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return None


def host() -> dict[str, Any]:
    """Return what the manifest says of the machine: no host name, no user."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory,
    }


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a request to stop and decode; a second SIGINT interrupts."""
    received: list[int] = []

    def on_signal(number: int, _frame: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    try:
        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread, as in a notebook's worker: the caller stops us
        yield lambda: False
        return
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait(seconds: float, done: Callable[[float], None]) -> None:
    """Sleep, telling how far it is."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        done(passed)
        time.sleep(min(_TICK_S, seconds - passed))
