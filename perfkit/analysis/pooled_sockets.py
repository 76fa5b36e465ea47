"""The only place that joins sockets, seen from outside, with the pools that they belong to, seen from inside."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from perfkit.analysis.pool_churn import closed_at_return, is_fresh, kept, set_so
from perfkit.analysis.pools import pools_of_process
from perfkit.analysis.socket_lifetimes import rows_of
from perfkit.profile import Profile

_LENT, _BACK = ("acquired", "found_in_use"), ("released", "closed", "collected", "found", "created")
_NEARLY_ALL = 0.8


@dataclass(frozen=True, slots=True)
class Pooled:
    """A connection of a pool: when it was lent and when it came back, `(at_ns, is it lent)` in the order of time."""

    pool: str
    connection: int
    changes: tuple[tuple[int, bool], ...]

    def is_lent(self, at_ns: int) -> bool | None:
        """Return whether somebody had it at a time; None: it was not known by then."""
        before = [lent for at, lent in self.changes if at <= at_ns]
        return before[-1] if before else None


def lent_at(profile: Profile, pid: int, sockets: Iterable[tuple[int, float]]) -> dict[int, bool]:
    """Return whether the connections of sockets were lent by their pools, of those that a pool is known to have.

    Args:
        profile: the recording.
        pid: the process.
        sockets: cookie of each, and the time, in seconds into the recording.
    """
    known = _pooled(profile, pid)
    ends = {row["cookie"]: _key(row["local"], row["peer"]) for row in rows_of(profile, "sockets", pid)}
    found = {}
    for cookie, at_s in sockets:
        states = [each.is_lent(int(at_s * 1e9)) for each in known.get(ends.get(cookie, ("", "")), ())]
        states = [each for each in states if each is not None]
        if states:
            found[cookie] = bool(states[-1])  # ports are used again: the last connection that there was by then
    return found


def closed_by_peer(profile: Profile, pid: int) -> dict[tuple[str, int], int]:
    """Return from when on pooled connections were seen to be closed by their peers and open here, in nanoseconds.

    By pool and connection: the time of the first reading of its socket in CLOSE_WAIT. It was closed at that time or
    before, so what is taken after it is dead. Nothing where sockets were not recorded.
    """
    since_ns: dict[int, int] = {}
    ends: dict[int, tuple[str, str]] = {}
    for row in rows_of(profile, "sockets", pid):
        if row["state"] == "close_wait" and row["cookie"] not in since_ns:
            since_ns[row["cookie"]] = row["at_ns"]
            ends[row["cookie"]] = _key(row["local"], row["peer"])
    known = _pooled(profile, pid) if since_ns else {}
    found = {}
    for cookie, at_ns in since_ns.items():
        # Ports are used again: it is the last connection that there was by then.
        mine = [each for each in known.get(ends[cookie], ()) if each.is_lent(at_ns) is not None]
        if mine:
            found[mine[-1].pool, mine[-1].connection] = at_ns
    return found


def peers_of(profile: Profile, pid: int) -> dict[str, set[str]]:
    """Return the peers that the connections of each pool are known to lead to."""
    found: dict[str, set[str]] = defaultdict(set)
    for (_local, peer), connections in _pooled(profile, pid).items():
        for each in connections:
            found[each.pool].add(peer)
    return found


@dataclass(frozen=True, slots=True)
class Closing:
    """How the pools of a process come to open connections to one peer anew.

    `pools` have connections to it. `set_so` names the setting by which each connection is closed after use.
    `fresh` are pools that had a connection or two, which were used once or twice: one pool per request; those that are
    gone before anybody could look where their connections lead are among them. `surplus` are connections that were
    closed just after they had come back, while the pool was limited to `kept` idle ones and more than those were open
    (`most_open`). `stack_id` is who used them.
    """

    pools: tuple[str, ...]
    set_so: str | None
    fresh: int
    surplus: int
    kept: int | None
    most_open: int
    stack_id: int | None


def closing(profile: Profile, pid: int, peer: str, opened: int) -> Closing | None:
    """Return what pool data says of the connections to a peer; None: no pool is known to have any.

    Args:
        profile: the recording.
        pid: the process.
        peer: address and port.
        opened: how many connections to it were seen from outside.
    """
    names: set[str] = set()
    elsewhere: set[str] = set()
    for (_local, to), connections in _pooled(profile, pid).items():
        (names if to == plain(peer) else elsewhere).update(each.pool for each in connections)
    pools = pools_of_process(profile, pid)
    fresh = [pool for pool in pools if pool.name not in elsewhere and is_fresh(pool)]
    if names <= {pool.name for pool in fresh} and sum(len(pool.created_ns) for pool in fresh) < _NEARLY_ALL * opened:
        return None
    pools = [pool for pool in pools if pool.name in names] or fresh
    if not pools:
        return None
    largest = max(pools, key=lambda pool: len(pool.created_ns))
    use = next((each for pool in (fresh or [largest]) for each in reversed(pool.checkouts)), None)
    return Closing(
        pools=tuple(pool.name for pool in pools),
        set_so=set_so(largest),
        fresh=len(fresh),
        surplus=closed_at_return(largest),
        kept=kept(largest),
        most_open=max((value for _at, value in largest.gauge("open")), default=0),
        stack_id=use.stack_id if use is not None else None,
    )


_GATHERED: WeakKeyDictionary[Profile, dict[int, dict[tuple[str, str], list[Pooled]]]] = WeakKeyDictionary()
"""Rules ask once per peer, and a service may have hundreds of them; a profile never changes."""


def _pooled(profile: Profile, pid: int) -> dict[tuple[str, str], list[Pooled]]:
    """Return the connections of all pools of a process by the two ends of their sockets, the earliest first."""
    known = _GATHERED.setdefault(profile, {})
    if pid not in known:
        known[pid] = _gathered(profile, pid)
    return known[pid]


def _gathered(profile: Profile, pid: int) -> dict[tuple[str, str], list[Pooled]]:
    """Return the same, put together from the events of the pools."""
    unknown = {
        pool.name
        for pool in pools_of_process(profile, pid)
        if pool.settings.get("uses_before_unknown")  # a connection that was there before may be lent or idle
    }
    rows: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in profile.table("pool_events").to_pylist():
        if row["pid"] == pid and row["connection"] is not None and row["peer"] is not None:
            rows[row["pool"], row["connection"]].append(row)
    found: dict[tuple[str, str], list[Pooled]] = defaultdict(list)
    for (pool, connection), events in rows.items():
        changes = [
            (each["at_ns"], each["event"] in _LENT)
            for each in events
            if each["event"] in (*_LENT, *_BACK) and not (each["event"] == "found" and pool in unknown)
        ]
        if changes:
            found[_key(events[0]["local"] or "", events[0]["peer"])].append(Pooled(pool, connection, tuple(changes)))
    for each in found.values():
        each.sort(key=lambda one: one.changes[0][0])
    return found


def _key(local: str, peer: str) -> tuple[str, str]:
    """Return the two ends of a socket, written one way."""
    return plain(local), plain(peer)


def plain(address: str) -> str:
    """Return an address without the brackets that some put around IPv6.

    >>> plain("[::1]:80")
    '::1:80'
    """
    return address.replace("[", "").replace("]", "")
