"""`perfkit experiment gc`: try settings of the collector on a live process, guarded, and put everything back."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from perfkit.analysis.gc_case import Case, gather
from perfkit.attach.cgroup import memory_cgroup
from perfkit.attach.target import inspect
from perfkit.collectors.gc_experiment import COLLECTOR, planned_windows
from perfkit.errors import CannotRecord, UsageError
from perfkit.lab import Part, module_command
from perfkit.profile import Profile
from perfkit.record import default_output, record_pid, writing
from perfkit.recorder import Progress, Recorder, Settings, Silent, plan_for
from perfkit.rules.gc_tuning import RULE

SCOUT_S = 12.0
"""How long to look before settings are chosen: the rule's shortest recording, and a margin."""
_MAX_LIMIT_SHARE = 0.7
"""Of the memory limit, and 0.5 of descriptors. Source: Uber's GOGCTuner, https://www.uber.com/blog/how-we-saved-70k-cores/"""
_MOST_GROWTH = 1.5
_SPARE_BYTES = 128 << 20
_FALLBACK = (10_000,)


class NothingToTry(CannotRecord):
    """Collections cost so little that no setting could win anything: the process was looked at and left as it is."""

    hint = "No change needed. To try settings all the same, name them: --thresholds 10000, --freeze."


@dataclass(frozen=True)
class Plan:
    """What to try, for how long, under which load.

    `thresholds` are first thresholds, the other two stay; empty and no `freeze`: chosen after a
    look of `SCOUT_S` at the process.
    """

    thresholds: tuple[int, ...] = ()
    freeze: bool = False
    window_s: float = 8.0
    washout_s: float = 1.0
    blocks: int = 6
    seed: int = 1
    load_url: str | None = None
    load_per_s: float = 100.0
    load_options: tuple[str, ...] = field(default=())


def experiment_gc(pid: int, plan: Plan, output: Path | None = None, progress: Progress | None = None) -> Profile:
    """Return the recording of an experiment; the process has its settings back, whatever happened.

    Raises:
        NothingToTry: collections cost next to nothing, and no setting was named.
        CannotRecord: the process cannot be entered, or its collector is not one to be tuned.
    """
    progress = progress or Silent()
    target = inspect(pid)
    with ExitStack() as stack:
        writer = stack.enter_context(writing(output or default_output(f"experiment-{target.program}")))
        load = stack.enter_context(_load(plan, writer.raw("load"))) if plan.load_url else None
        if not plan.load_url:
            shutil.rmtree(writer.path / "raw" / "load", ignore_errors=True)
        arms = _arms(pid, plan, progress)
        options = {
            **COLLECTOR.options,
            "arms": arms,
            "window_s": plan.window_s,
            "washout_s": plan.washout_s,
            "blocks": plan.blocks,
            "noise_blocks": plan.blocks,
            "seed": plan.seed,
            "load_pid": load.pid if load else None,
            **_limits(pid),
        }
        windows = len(planned_windows(options))
        seconds = windows * (plan.window_s + plan.washout_s + 0.5) + 2.0
        progress.say(f"trying {', '.join(arms)} against the present setting: {windows} windows, {seconds:.0f} s")
        settings = Settings(
            duration_s=seconds,
            collect=("gc_pauses", "loop_lag", "python_memory", "process_stats", "cyclic_garbage", "gc_experiment"),
            options={"gc_experiment": options, "loop_lag": {"asks_per_s": 50.0}, "python_memory": {"every_s": 0.5}},
        )
        recorder = Recorder(writer, settings, progress)
        recorder.add(plan_for(target, settings))
        recorder.run()
        if load is not None:
            load.stop()
        return recorder.finish()


def _arms(pid: int, plan: Plan, progress: Progress) -> dict[str, dict[str, Any]]:
    """Return the settings to try, by the code that makes them; chosen by a look at the process when none are named."""
    thresholds, freeze = plan.thresholds, plan.freeze
    if not thresholds and not freeze:
        thresholds, freeze = _candidates(_scout(pid, progress))
    arms: dict[str, dict[str, Any]] = {f"gc.set_threshold({each})": {"thresholds": [each]} for each in thresholds}
    if freeze:
        arms["gc.freeze()"] = {"freeze": True}
    if freeze and len(thresholds) == 1:
        arms[f"gc.freeze(); gc.set_threshold({thresholds[0]})"] = {"thresholds": [*thresholds], "freeze": True}
    return arms


def _candidates(case: Case) -> tuple[tuple[int, ...], bool]:
    """Return the thresholds and whether to freeze, as the recording suggests.

    Raises:
        NothingToTry: there is nothing to win.
        CannotRecord: settings would do harm, or mean something else here.
    """
    finding = RULE.judge(case)
    if finding.class_ in ("refuse_raise", "gc_debt", "manual_collect", "slow_finalizer", "fix_cycles"):
        raise CannotRecord(f"no setting is worth a try: {finding.title}", hint=finding.hint)
    if not RULE.is_harmed(case):
        raise NothingToTry(finding.title)
    knee = case.model.knee if case.model else None
    return (knee,) if knee else _FALLBACK, case.costs.cost(2) is not None


def _scout(pid: int, progress: Progress) -> Case:
    """Return what a short look at the process tells.

    Raises:
        CannotRecord: its collections cannot be seen.
    """
    with tempfile.TemporaryDirectory(prefix="perfkit-scout-") as folder:
        settings = Settings(
            output=Path(folder) / "scout",
            duration_s=SCOUT_S,
            collect=("gc_pauses", "loop_lag", "python_memory", "cyclic_garbage", "object_census"),
        )
        profile = record_pid(pid, replace(settings, keep_raw=False), progress)
        case = gather(profile, pid)
    if case is None:
        raise CannotRecord(f"the collections of process {pid} were not seen", hint="Run `perfkit doctor --pid PID`.")
    return case


def _limits(pid: int) -> dict[str, Any]:
    """Return beyond which memory and how many descriptors everything is put back at once."""
    import psutil

    process = psutil.Process(pid)
    rss = process.memory_info().rss
    limit = _MOST_GROWTH * rss + _SPARE_BYTES
    cgroup = memory_cgroup(pid)
    if cgroup is not None and (most := cgroup.read().limit_bytes) is not None:
        limit = max(rss + (16 << 20), min(limit, _MAX_LIMIT_SHARE * most))
    soft = process.rlimit(psutil.RLIMIT_NOFILE)[0]
    return {"max_rss_bytes": int(limit), "max_descriptors": max(int(soft * 0.5), process.num_fds() + 50)}


@contextmanager
def _load(plan: Plan, folder: Path) -> Iterator[Part]:
    """Yield the load, which has begun; it ends with the context.

    Raises:
        UsageError: there is no length that fits.
        LabFailed: it could not start.
    """
    assert plan.load_url is not None
    if plan.load_per_s <= 0:
        raise UsageError("a load needs a rate above 0", hint="Give --rate 100.")
    command = module_command(
        "perfkit.load", plan.load_url, "--rate", str(plan.load_per_s), "--duration", "3600", "-o", str(folder),
        *plan.load_options,
    )  # fmt: skip
    part = Part("load", command, folder)
    try:
        part.ready()
        yield part
    finally:
        part.stop()


def arguments_of(texts: Sequence[str]) -> tuple[int, ...]:
    """Return first thresholds from the command line.

    >>> arguments_of(["10000,20000", "50000"])
    (10000, 20000, 50000)

    Raises:
        UsageError: one is not a number above zero.
    """
    try:
        found = tuple(int(part) for text in texts for part in text.split(","))
    except ValueError:
        found = (0,)
    if any(each <= 0 for each in found):
        raise UsageError(f"{' '.join(texts)!r} are not thresholds", hint="Write them as --thresholds 10000,50000.")
    return found
