"""`perfkit experiment pool`: which sizes and lifetimes of a connection pool are tried."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perfkit.attach.session import Session
from perfkit.attach.target import Target
from perfkit.collectors.pool_events import COLLECTOR as POOL_EVENTS
from perfkit.errors import CannotRecord, UsageError
from perfkit.experiments import Flag, Followed, NothingToTry, Plan, most_descriptors, numbers_of
from perfkit.profile import Profile
from perfkit.recorder import Progress

_WORDS = {"sizes": "size", "lifetimes": "lifetime", "idle_times": "idle", "kept_idle": "kept"}
_TIMES = ("lifetime", "idle")
_LOOK_S = 5.0
_WINDOW_S = 8.0
_LIVES_PER_WINDOW = 2.0
"""A window has to be so many times as long as the shortest time that is tried, or that time cannot show in it."""
_MOST_OPEN = 1.5
_SPARE_OPEN = 10


@dataclass(frozen=True)
class PoolKind:
    """Try sizes and lifetimes of a connection pool: first the present ones twice, then all in random order.

    \b
    perfkit experiment pool --pid 4242
    perfkit experiment pool --pid 4242 --pool QueuePool --sizes 5,10,20
    perfkit experiment pool --pid 4242 --lifetimes 30,300 --window 90s --load http://127.0.0.1:8080/ --rate 200
    """

    flags: tuple[Flag, ...] = (
        Flag("pool", "Which pool, by a part of its name.  [default: the only one]", "NAME"),
        Flag("sizes", "Sizes to try.  [default: half and twice the present one]", "N[,N...]"),
        Flag("lifetimes", "Lifetimes of connections to try, in seconds.", "S[,S...]"),
        Flag("idle-times", "Times to try after which idle connections are closed, in seconds.", "S[,S...]"),
        Flag("kept-idle", "Numbers of idle connections to keep.", "N[,N...]"),
    )
    collector: str = "pool_experiment"
    collect: tuple[str, ...] = ("pool_events", "process_stats", "pool_experiment")
    rule: str = "pool_tuning"
    notebook: str = "pool_lifecycle"

    def options(self, target: Target, plan: Plan, progress: Progress) -> dict[str, Any]:
        """Return the settings to try and the limits, after a look at the pools of the process.

        Raises:
            CannotRecord: the process has no pool, or its library does not allow the change, with the reason.
            UsageError: more than one pool may be meant, or the windows are too short for the times.
        """
        wanted = {
            word: list(numbers_of(tuple(plan.asked[name]), f"--{name.replace('_', '-')}", whole=word not in _TIMES))
            for name, word in _WORDS.items()
            if plan.asked.get(name)
        }
        pool = _chosen(_pools(target, wanted), tuple(plan.asked.get("pool") or ()))
        if not wanted:
            size = pool["settings"].get(pool["tunes"].get("size", ""))
            if size is None:
                why = "Name what to try: --sizes, --lifetimes, --idle-times or --kept-idle."
                raise NothingToTry(f"{pool['name']} has no size that could be changed", hint=why)
            wanted = {"size": [each for each in (size // 2, size * 2) if each > 0]}
            pool = _chosen(_pools(target, wanted), (pool["name"],))
        arms = self._arms(pool, wanted, progress)
        times = [value for word in _TIMES for value in wanted.get(word, ())]
        window_s = plan.window_s if plan.window_s is not None else max([_WINDOW_S, *_needed(times)])
        if times and window_s < min(_needed(times)):
            raise UsageError(
                f"a window of {window_s:g} s cannot show a time of {min(times):g} s",
                hint=f"Give --window {min(_needed(times)):g}s, or leave it out.",
            )
        for each in times:
            if each > window_s:
                progress.say(f"in windows of {window_s:g} s, {each:g} s shows as if there were no such time")
        present = max(pool["open"] or 0, pool["limit"] or 0)
        grown = max([0, *(int(each) - int(_present(pool, "size") or 0) for each in wanted.get("size", ()))])
        return {
            "arms": arms,
            "pool": pool["name"],
            "window_s": window_s,
            "max_open": int((present + grown) * _MOST_OPEN) + _SPARE_OPEN,
            "max_descriptors": most_descriptors(target.pid) + grown,
        }

    def afterwards(self, _profile: Profile, _plan: Plan, _progress: Progress) -> Followed | None:
        """Return nothing: what was found is said by the rule."""
        return None

    def other_options(self) -> dict[str, dict[str, Any]]:
        """Return nothing: the others run as usual."""
        return {}

    def _arms(
        self, pool: Mapping[str, Any], wanted: Mapping[str, list[float]], progress: Progress
    ) -> dict[str, dict[str, Any]]:
        """Return the settings to try, by their names and values.

        Raises:
            CannotRecord: none of them can be.
        """
        for why in dict.fromkeys(pool["refused"].values()):
            progress.say(f"not tried: {why}")
        arms = {
            f"{pool['tunes'][word]}={value:g}": {"values": {word: value}}
            for word, values in wanted.items()
            for value in values
            if f"{word} {value}" not in pool["refused"] and value != _present(pool, word)
        }
        if not arms:
            why = " ".join(dict.fromkeys(pool["refused"].values())) or "These are the present settings."
            raise CannotRecord(f"nothing can be tried on {pool['name']}: {why}", hint="Try other settings.")
        return arms


def _present(pool: Mapping[str, Any], word: str) -> Any:
    """Return the present value of a setting."""
    return pool["settings"].get(pool["tunes"].get(word, ""))


def _needed(times: list[float]) -> list[float]:
    """Return the shortest window in which a time can show, none without times."""
    return [_LIVES_PER_WINDOW * min(times)] if times else []


def _pools(target: Target, wanted: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    """Return the pools of a process, and why which values cannot be tried on which; the process is left as it was.

    Raises:
        CannotRecord: it has none, or cannot be entered.
    """
    found: list[dict[str, Any]] = []
    until = time.monotonic() + _LOOK_S
    with Session.open(target) as session:
        parts: Any = POOL_EVENTS.parts()
        session.start("pools", **parts, every_s=0.2)
        session.start("pool_settings")
        while not found and time.monotonic() < until:
            found = [each for each in session.call("pool_settings", look=wanted) if each["settings"]]
            if not found:
                time.sleep(0.2)
    if not found:
        raise CannotRecord(
            f"no connection pool was seen in process {target.pid}",
            hint=f"Those of {', '.join(parts['adapters'])} are known. One that was never used may not be seen.",
        )
    return found


def _chosen(pools: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the pool that is meant.

    Raises:
        UsageError: none of them is, or more than one may be.
    """
    fitting = [each for each in pools if all(name.casefold() in each["name"].casefold() for name in names)]
    exact = [each for each in fitting if each["name"] in names]
    if len(exact or fitting) != 1:
        known = ", ".join(each["name"] for each in pools)
        said = "no pool has that name" if names and not fitting else "the process has more than one pool"
        raise UsageError(said, hint=f"Say which one with --pool: {known}.")
    return (exact or fitting)[0]


KIND = PoolKind()
