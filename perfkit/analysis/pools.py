"""The only place that turns events of connection pools into uses: who took a connection where, when it came back.

What perfkit wants to know of a connection that is still out is whether it ever comes back. A
long use looks like a leak until it ends, so age alone says nothing: what counts is whether
whoever would return it is still there (`abandonment`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from perfkit.analysis.survival import Place
from perfkit.profile import Profile

COLLECTOR = "pool_events"
_NEARLY_ALL = 0.99
_ENDS = ("released", "closed", "collected")
NO_CONNECTION = ("timeout", "cancelled", "failed")
"""Events of those who went without."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """One use of a connection; times in nanoseconds since the recording began, None: unknown or not yet.

    `how` is released, closed or collected; None: still out at the end. The fields after it are of the
    last look at its holder, and None for uses that were too short to be looked at.
    """

    connection: int | None
    acquired_ns: int
    wait_ns: int | None
    holder: int | None
    stack_id: int | None
    ended_ns: int | None = None
    how: str | None = None
    active_at_end: int | None = None
    finished: bool | None = None
    frames: int | None = None
    active_frames: int | None = None
    silent_ns: int | None = None
    answered: bool | None = None
    unread_bytes: int | None = None
    holder_stack_id: int | None = None

    def held_ns(self, until_ns: int) -> int:
        """Return how long it was out, so far."""
        return (until_ns if self.ended_ns is None else self.ended_ns) - self.acquired_ns


@dataclass(frozen=True, slots=True)
class Wait:
    """A wish for a connection that was not granted, or not before the end (`event` is waiting)."""

    event: str
    wished_ns: int
    wait_ns: int
    holder: int | None
    stack_id: int | None


@dataclass(frozen=True)
class Pool:
    """What was recorded of one pool of one process.

    `checkouts` are in the order of their acquisition. `before` counts connections that were out when the
    recording began, `before_back` those of them that came back. `states` and `looks` are the rows of
    pool_states and pool_holders; `closed` holds (connection, at_ns).
    """

    pid: int
    name: str
    from_ns: int
    until_ns: int
    settings: dict[str, Any]
    checkouts: tuple[Checkout, ...]
    waits: tuple[Wait, ...]
    looks: tuple[dict[str, Any], ...]
    before: int
    before_back: int
    born_ns: dict[int, int]
    created_ns: tuple[int, ...]
    closed: tuple[tuple[int | None, int], ...]
    states: tuple[dict[str, Any], ...]
    lost: int = 0

    @property
    def window_s(self) -> float:
        """Seconds that were watched."""
        return max((self.until_ns - self.from_ns) / 1e9, 1e-9)

    @cached_property
    def returned(self) -> list[Checkout]:
        """Uses that ended while it was recorded."""
        return [each for each in self.checkouts if each.how in ("released", "closed")]

    @cached_property
    def out(self) -> list[Checkout]:
        """Uses that had not ended."""
        return [each for each in self.checkouts if each.how is None]

    @cached_property
    def lines_known_ratio(self) -> float:
        """Share of the acquisitions whose line was noted: above some 300 per second it is a sample."""
        seen = [each.stack_id is not None for each in self.checkouts if each.wait_ns is not None]
        return sum(seen) / len(seen) if seen else 1.0

    @property
    def is_sampled(self) -> bool:
        """Whether counts per line are those of a sample."""
        return self.lines_known_ratio < _NEARLY_ALL

    def age_s(self, connection: int | None, at_ns: int) -> float | None:
        """Return how old a connection was, in seconds, at least; None: unknown."""
        born_ns = self.born_ns.get(-1 if connection is None else connection)
        return None if born_ns is None else (at_ns - born_ns) / 1e9

    def gauge(self, name: str) -> list[tuple[int, int]]:
        """Return `(at_ns, value)` of a gauge where it is known."""
        return [(row["at_ns"], row[name]) for row in self.states if row[name] is not None]

    @property
    def limit(self) -> int | None:
        """Most connections the pool may have, as of its last reading."""
        limits = [value for _at, value in self.gauge("max")]
        return limits[-1] if limits else None

    @property
    def full_at(self) -> int | None:
        """Least number of connections in use at which somebody may have to wait: a host may have a limit of its own."""
        per_host = self.settings.get("max_per_host")
        limits = [each for each in (self.limit, per_host) if isinstance(each, int) and each > 0]
        return min(limits, default=None)

    def hold_quantile_s(self, quantile: float) -> float | None:
        """Return a quantile of the time that returned connections were out, in seconds; None: none was returned."""
        held = [each.held_ns(self.until_ns) / 1e9 for each in self.returned]
        return float(np.quantile(held, quantile)) if held else None

    def never_returned(self) -> float | None:
        """Return how many connections are out on average beyond what the returned uses explain; None: unknown.

        Little's law: the mean number in use is the sum of all holding times over the time watched.
        What is in use and belongs to no use that ended has been out since before, or never comes back.

        Source: J. D. C. Little (1961), doi:10.1287/opre.9.3.383
        """
        in_use = [value for at, value in self.gauge("in_use") if at >= self.from_ns]
        if len(in_use) < 2:
            return None
        explained = sum(each.held_ns(self.until_ns) for each in self.returned) / (self.until_ns - self.from_ns)
        return float(np.mean(in_use)) - explained


@dataclass(frozen=True)
class Pools:
    """All pools of one process; `recorded` tells whether the collector ran on it."""

    pid: int
    recorded: bool
    pools: tuple[Pool, ...] = field(default=())


_GATHERED: WeakKeyDictionary[Profile, dict[int, Pools]] = WeakKeyDictionary()
"""Every rule asks for the same; a profile never changes."""


def recorded_pools(profile: Profile) -> list[Pools]:
    """Return what was recorded of the pools of each process that the collector ran on."""
    known = _GATHERED.setdefault(profile, {})
    for pid in profile.pids:
        if pid not in known:
            known[pid] = gather(profile, pid)
    return [known[pid] for pid in profile.pids if known[pid].recorded]


def pools_of_process(profile: Profile, pid: int) -> list[Pool]:
    """Return the pools of one process; none when the collector did not run on it."""
    return [pool for process in recorded_pools(profile) if process.pid == pid for pool in process.pools]


def gather(profile: Profile, pid: int) -> Pools:
    """Return what was recorded of the pools of a process."""
    quality = profile.sql(
        "select from_ns, until_ns, lost from recording_quality where collector = $name and pid = $pid",
        name=COLLECTOR,
        pid=pid,
    ).to_dict("records")
    if not quality:
        return Pools(pid, recorded=False)
    span = quality[0]
    events = _by_pool(profile, "pool_events", pid)
    states = _by_pool(profile, "pool_states", pid)
    holders = _by_pool(profile, "pool_holders", pid)
    settings = _settings(profile, pid)
    pools = [
        _pool(pid, name, int(span["from_ns"]), int(span["until_ns"]), int(span["lost"]), settings.get(name, {}),
              events.get(name, []), states.get(name, []), holders.get(name, []))
        for name in sorted(events.keys() | states.keys())
    ]  # fmt: skip
    return Pools(pid, recorded=True, pools=tuple(pools))


def site_of(profile: Profile, stack_id: int | None) -> Place | None:
    """Return the innermost line of the program's own code in a stack, else its innermost line; None: unknown."""
    if stack_id is None:
        return None
    frames = profile.sql(
        "select function, file, line, module, kind from stack_frames join frames using (frame_id)"
        " where stack_id = $stack order by kind = 'python' desc, pos desc limit 1",
        stack=stack_id,
    ).to_dict("records")
    if not frames:
        return None
    frame: dict[Any, Any] = {name: None if value != value else value for name, value in frames[0].items()}
    line = None if frame["line"] is None else int(frame["line"])
    return Place(frame["function"], frame["file"], line, frame["module"], frame["kind"])


def called_library(profile: Profile, stack_id: int | None) -> str | None:
    """Return the top-level package that the program's own innermost code has called, by its stack; None: none."""
    if stack_id is None:
        return None
    frames = profile.sql(
        "select module, kind from stack_frames join frames using (frame_id) where stack_id = $stack order by pos",
        stack=stack_id,
    ).to_dict("records")
    kinds = [frame["kind"] for frame in frames]
    own = max((place for place, kind in enumerate(kinds) if kind == "python"), default=-1)
    called = next((frame["module"] for frame in frames[own + 1 :] if frame["kind"] == "library"), None)
    return str(called).partition(".")[0] if called else None


def path_to(profile: Profile, stack_id: int | None) -> list[str]:
    """Return the program's own frames of a stack as `function (file:line)`, outermost first."""
    rows = profile.sql(
        "select function, file, line from stack_frames join frames using (frame_id)"
        " where stack_id = $stack and kind = 'python' order by pos",
        stack=-1 if stack_id is None else stack_id,
    )
    return [f"{row.function} ({row.file}:{row.line})" for row in rows.itertuples()]


def by_site(profile: Profile, checkouts: Sequence[Checkout]) -> dict[Place, list[Checkout]]:
    """Return uses by the line that took them; those from before the recording have none and are left out."""
    places: dict[int, Place | None] = {}
    found: dict[Place, list[Checkout]] = {}
    for each in checkouts:
        if each.stack_id is None:
            continue
        if each.stack_id not in places:
            places[each.stack_id] = site_of(profile, each.stack_id)
        place = places[each.stack_id]
        if place is not None:
            found.setdefault(place, []).append(each)
    return found


def _by_pool(profile: Profile, table: str, pid: int) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a table as mappings with None for NULL, by the name of the pool, in the order of time."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in profile.table(table).to_pylist():
        if row["pid"] == pid:
            found.setdefault(row["pool"], []).append(row)
    return found


def _settings(profile: Profile, pid: int) -> dict[str, dict[str, Any]]:
    """Return the last value of each setting, by the name of the pool."""
    found: dict[str, dict[str, Any]] = {}
    for row in profile.table("settings").to_pylist():
        if row["pid"] == pid and row["name"].startswith("pool."):
            pool, _, name = row["name"].removeprefix("pool.").rpartition(".")
            found.setdefault(pool, {})[name] = json.loads(row["value"])
    return found


def _pool(
    pid: int, name: str, from_ns: int, until_ns: int, lost: int, settings: dict[str, Any],
    events: list[dict[str, Any]], states: list[dict[str, Any]], holders: list[dict[str, Any]],
) -> Pool:  # fmt: skip
    """Return one pool: its events put together into uses."""
    out: dict[tuple[int, int | None], Checkout] = {}
    done: list[Checkout] = []
    waits: list[Wait] = []
    before: dict[int, bool] = {}
    pending: dict[tuple[int | None, int], Wait] = {}
    for event in events:
        kind, at_ns = event["event"], event["at_ns"]
        if kind == "acquired":
            use = Checkout(event["connection"], at_ns, event["wait_ns"], event["holder"], event["stack_id"])
            out[at_ns, event["holder"]] = use
            pending.pop((event["holder"], at_ns - (event["wait_ns"] or 0)), None)
        elif kind in _ENDS and event["held_ns"] is not None:
            known = out.pop((at_ns - event["held_ns"], event["holder"]), None)
            if known is not None:
                done.append(
                    replace(
                        known,
                        connection=event["connection"] or known.connection,
                        ended_ns=at_ns,
                        how=kind,
                        active_at_end=event["active_frames"],
                    )
                )
            elif event["connection"] in before:
                before[event["connection"]] = True
        elif kind == "found_in_use":
            before[event["connection"]] = False
        elif kind == "waiting":
            pending[event["holder"], at_ns] = Wait(kind, at_ns, until_ns - at_ns, event["holder"], event["stack_id"])
        elif kind in NO_CONNECTION:
            wished = at_ns - event["wait_ns"]
            pending.pop((event["holder"], wished), None)
            waits.append(Wait(kind, wished, event["wait_ns"], event["holder"], event["stack_id"]))
    looks: dict[tuple[int, int | None], dict[str, Any]] = {}
    for row in holders:
        looks[row["connection"], row["holder"]] = row
    checkouts = [_looked_at(each, looks, until_ns) for each in (*done, *out.values())]
    waits += pending.values()
    return Pool(
        pid=pid,
        name=name,
        from_ns=from_ns,
        until_ns=until_ns,
        settings=settings,
        checkouts=tuple(sorted(checkouts, key=lambda each: each.acquired_ns)),
        waits=tuple(sorted(waits, key=lambda each: each.wished_ns)),
        looks=tuple(holders),
        before=len(before),
        before_back=sum(before.values()),
        born_ns={
            each["connection"]: each["at_ns"]
            for each in events
            if each["event"] in ("created", "found", "found_in_use") and each["connection"] is not None
        },
        created_ns=tuple(each["at_ns"] for each in events if each["event"] == "created"),
        closed=tuple((each["connection"], each["at_ns"]) for each in events if each["event"] == "closed"),
        states=tuple(states),
        lost=lost,
    )


def _looked_at(use: Checkout, looks: dict[tuple[int, int | None], dict[str, Any]], until_ns: int) -> Checkout:
    """Return a use with what was seen of its holder last, if it was seen during this use."""
    row = looks.get((use.connection if use.connection is not None else -1, use.holder))
    if row is None or abs(row["at_ns"] - row["held_ns"] - use.acquired_ns) > 100_000_000:
        return use
    silent_ns = row["silent_ns"]
    if silent_ns is not None and silent_ns >= 0.8 * row["held_ns"]:
        silent_ns += until_ns - row["at_ns"]  # of many holders not all are looked at to the end
    return replace(
        use,
        finished=row["finished"],
        frames=row["frames"],
        active_frames=row["active_frames"],
        silent_ns=silent_ns,
        answered=row["answered"],
        unread_bytes=row["unread_bytes"],
        holder_stack_id=row["stack_id"],
    )
