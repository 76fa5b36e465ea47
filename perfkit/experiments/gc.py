"""`perfkit experiment gc`: which settings of the garbage collector are tried."""

import shlex
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perfkit.analysis.gc_case import Case, gather
from perfkit.attach.cgroup import memory_cgroup
from perfkit.attach.target import Target, children
from perfkit.confirmation import Trying, confirm
from perfkit.errors import CannotRecord
from perfkit.experiments import Flag, Followed, NothingToTry, Plan, most_descriptors, numbers_of
from perfkit.profile import Profile
from perfkit.recorder import Progress, Settings
from perfkit.recordings import parse_duration, record_pid
from perfkit.rules.gc_tuning import RULE

SCOUT_S = 12.0
"""How long to look before settings are chosen: the rule's shortest recording, and a margin."""
_MAX_LIMIT_SHARE = 0.7
"""Of the memory limit. Source: Uber's GOGCTuner, https://www.uber.com/blog/how-we-saved-70k-cores/"""
_MOST_GROWTH = 1.5
_SPARE_BYTES = 128 << 20
_FALLBACK = (10_000,)


@dataclass(frozen=True)
class GcKind:
    """Try settings of the garbage collector: first the present one against itself, then all in random order.

    \b
    perfkit experiment gc --pid 4242
    perfkit experiment gc --pid 4242 --load http://127.0.0.1:8080/ --rate 200 --thresholds 10000 --freeze
    perfkit experiment gc --pid 4242 --load http://127.0.0.1:8080/ \\
        --confirm "python app.py --port 8081" --confirm-load http://127.0.0.1:8081/
    """

    flags: tuple[Flag, ...] = (
        Flag("thresholds", "First thresholds to try.  [default: chosen]", "T0[,T0...]"),
        Flag("freeze", "Try gc.freeze(), too."),
        Flag("confirm", "Then start this anew, without and with the setting that was best.", "COMMAND"),
        Flag("confirm-load", "Where that answers.  [default: --load]", "URL"),
        Flag("confirm-starts", "How often each is started.", "N", default="2"),
        Flag("confirm-for", "How long each is measured.", "TIME", default="10s"),
        Flag("confirm-warm-up", "How long each is left alone before.", "TIME", default="3s"),
    )
    collector: str = "gc_experiment"
    collect: tuple[str, ...] = (
        "gc_pauses", "loop_lag", "python_memory", "process_stats", "cyclic_garbage", "gc_experiment",
    )  # fmt: skip
    rule: str = "gc_tuning"
    notebook: str = "gc_tuning"

    def options(self, target: Target, plan: Plan, progress: Progress) -> dict[str, Any]:
        """Return the settings to try and the limits; chosen by a look of `SCOUT_S` at the process when none are named.

        Raises:
            NothingToTry: collections cost next to nothing, and no setting was named.
            CannotRecord: the process cannot be entered, or its collector is not one to be tuned.
        """
        if children(target.pid):
            progress.say(
                "the process has children: one that is forked meanwhile keeps the setting of that moment. "
                "Where workers are forked, try settings on a worker, not on its parent"
            )
        return {"arms": self._arms(target.pid, plan, progress), **_limits(target.pid)}

    def afterwards(self, profile: Profile, plan: Plan, progress: Progress) -> Followed | None:
        """Return whether the setting that was best holds on fresh processes; nothing when that was not asked for.

        Raises:
            UsageError: it cannot be asked for like this.
            CannotRecord: the command could not be started or measured.
        """
        asked = plan.asked
        command = _last(asked.get("confirm"))
        if not command:
            return None
        (starts,) = numbers_of((str(asked.get("confirm_starts") or 2),), "--confirm-starts")
        confirmed = confirm(
            profile,
            Trying(
                command=tuple(shlex.split(command)),
                load_url=_last(asked.get("confirm_load")) or plan.load_url,
                load_per_s=plan.load_per_s,
                starts=int(starts),
                warm_up_s=parse_duration(str(asked.get("confirm_warm_up") or "3s")),
                measure_s=parse_duration(str(asked.get("confirm_for") or "10s")),
            ),
            progress,
        )
        if confirmed is None:
            return Followed("confirmation", "on fresh processes: nothing to confirm, no setting was better")
        text = f"on fresh processes: {confirmed.verdict}  {confirmed.title}\n  {confirmed.hint}"
        return Followed("confirmation", text, confirmed.to_json_form())

    def other_options(self) -> dict[str, dict[str, Any]]:
        """Return more readings than usual: windows are short."""
        return {"loop_lag": {"asks_per_s": 50.0}, "python_memory": {"every_s": 0.5}}

    def _arms(self, pid: int, plan: Plan, progress: Progress) -> dict[str, dict[str, Any]]:
        """Return the settings to try, by the code that makes them."""
        thresholds = tuple(int(each) for each in numbers_of(tuple(plan.asked.get("thresholds") or ()), "--thresholds"))
        freeze = bool(plan.asked.get("freeze"))
        if not thresholds and not freeze:
            thresholds, freeze = _candidates(_scout(pid, progress))
        arms: dict[str, dict[str, Any]] = {f"gc.set_threshold({each})": {"thresholds": [each]} for each in thresholds}
        if freeze:
            arms["gc.freeze()"] = {"freeze": True}
        if freeze and len(thresholds) == 1:
            arms[f"gc.freeze(); gc.set_threshold({thresholds[0]})"] = {"thresholds": [*thresholds], "freeze": True}
        return arms


def _last(texts: Any) -> str | None:
    """Return the last of an option that was given some times, None: it was not."""
    return str(texts[-1]) if texts else None


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
            collect=("gc_pauses", "loop_lag", "python_memory", "cyclic_garbage", "object_census", "pool_events"),
        )
        profile = record_pid(pid, replace(settings, keep_raw=False), progress)
        case = gather(profile, pid)
    if case is None:
        raise CannotRecord(f"the collections of process {pid} were not seen", hint="Run `perfkit doctor --pid PID`.")
    return case


def _limits(pid: int) -> dict[str, Any]:
    """Return beyond which memory and how many descriptors everything is put back at once."""
    import psutil

    rss = psutil.Process(pid).memory_info().rss
    limit = _MOST_GROWTH * rss + _SPARE_BYTES
    cgroup = memory_cgroup(pid)
    if cgroup is not None and (most := cgroup.read().limit_bytes) is not None:
        limit = max(rss + (16 << 20), min(limit, _MAX_LIMIT_SHARE * most))
    return {"max_rss_bytes": int(limit), "max_descriptors": most_descriptors(pid)}


KIND = GcKind()
