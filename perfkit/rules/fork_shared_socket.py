"""The rule `fork_shared_socket`: does a child use a connection that it inherited from its parent."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perfkit.analysis.socket_lifetimes import Window, rows_of, socket_window
from perfkit.findings import Finding, Verdict
from perfkit.profile import Profile
from perfkit.rules import undecided

_NAME = "fork_shared_socket"
_Pairs = Mapping[tuple[int, int], list[dict[str, Any]]]
"""Sightings by socket and other process."""


@dataclass(frozen=True)
class ForkSharedSocket:
    """Two processes hold the same established connection.

    Why it matters: two users of one connection read each other's answers: wrong data, broken TLS records, protocol
    errors that come and go.
    Evidence: the inode of an established upstream socket in the descriptor tables of two processes, at two looks or
    more, and two processes seen waiting on it in a system call (read, write, poll).
    Limits: one that was never caught using it is undecided until the other was seen `enough_uses` times: then it merely
    inherited the descriptor, which is harmless as long as it stays so. Waits in epoll are not seen, nor any on machines
    other than x86-64. Looks for relatives only.
    Shared listening sockets are normal and left out, as are accepted connections, which servers hand to workers.
    Source: https://man7.org/linux/man-pages/man2/fork.2.html (open descriptors are shared)
    """

    min_shared_s: float = 5.0
    """Longer than between fork and exec, where inherited descriptors are closed."""
    enough_uses: int = 20
    """If both used it equally often, seeing only one of them 20 times has a chance of one in a million."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per process; none when its sockets were not recorded."""
        windows = {pid: socket_window(profile, pid) for pid in profile.pids}
        return [self._judge(profile, pid, window) for pid, window in windows.items() if window is not None]

    def _judge(self, profile: Profile, pid: int, window: Window) -> Finding:
        """Return the finding for one process."""
        sightings: dict[tuple[int, int], list[dict[str, Any]]] = {}
        users: dict[int, Counter[int]] = {}
        for row in rows_of(profile, "socket_events", pid):
            if row["role"] == "upstream" and row["event"] == "shared":
                sightings.setdefault((row["cookie"], row["other_pid"]), []).append(row)
            elif row["role"] == "upstream" and row["event"] == "used":
                users.setdefault(row["cookie"], Counter())[row["other_pid"]] += 1
        lasting = {
            pair: rows
            for pair, rows in sightings.items()
            if rows[-1]["at_ns"] - rows[0]["at_ns"] >= self.min_shared_s * 1e9
        }
        if sightings and not lasting:
            return self._undecided(pid, "Not recorded long enough to see whether connections are shared")
        if not lasting and window.length_s < 2 * self.min_shared_s:
            return self._undecided(pid, "Not recorded long enough to see whether connections are shared")
        both = {pair: rows for pair, rows in lasting.items() if len(users.get(pair[0], ())) > 1}
        if both:
            return self._fail(pid, both, self._evidence(profile, pid, both, users))
        unclear = {
            pair: rows for pair, rows in lasting.items() if users.get(pair[0], Counter()).total() < self.enough_uses
        }
        if unclear:
            return self._undecided(
                pid,
                f"{_what(unclear)} held by {_who(unclear)} too; whether both use it was not seen",
                evidence=self._evidence(profile, pid, unclear, users),
                hint="Close or dispose of connections in the child right after the fork.",
            )
        title = "No other process holds its connections"
        if lasting:
            title = f"{_what(lasting)} held by {_who(lasting)} too, which never used it"
        return Finding(
            _NAME, Verdict.PASS, "none", title, "Nothing to do.",
            measured=0.0, limit=0.0, unit="connections", confidence=0.9, pid=pid,
            evidence=self._evidence(profile, pid, lasting, users) if lasting else {},
        )  # fmt: skip

    def _undecided(self, pid: int, title: str, **more: Any) -> Finding:
        """Return that it cannot be told."""
        needs = f"at least {4 * self.min_shared_s:.0f} s, while the connection is used"
        return undecided(_NAME, title, needs, pid=pid, limit=0.0, unit="connections", **more)

    def _fail(self, pid: int, pairs: _Pairs, evidence: dict[str, Any]) -> Finding:
        """Return the finding for connections that two processes use."""
        return Finding(
            _NAME,
            Verdict.FAIL,
            _NAME,
            f"{_what(pairs)} held by {_who(pairs)} too, and used by both",
            "Open connections after the fork, or dispose of the pool in the child (os.register_at_fork, gunicorn's "
            "post_fork, SQLAlchemy's engine.dispose(close=False)).",
            measured=float(len({cookie for cookie, _ in pairs})),
            limit=0.0,
            unit="connections",
            confidence=0.95,
            pid=pid,
            evidence=evidence,
            needs=("`--children --collect pools`, to name the pool",),
        )

    def _evidence(self, profile: Profile, pid: int, pairs: _Pairs, users: dict[int, Counter[int]]) -> dict[str, Any]:
        """Return the numbers behind a finding."""
        cookies = sorted({cookie for cookie, _ in pairs})
        peers = sorted({rows[0]["peer"] for rows in pairs.values()})
        seen = sum((users.get(cookie, Counter()) for cookie in cookies), Counter[int]())
        return {
            "direction": "upstream",
            "peer": peers[0],
            "peers": peers,
            "cookies": cookies,
            "processes": [pid, *sorted({other for _, other in pairs})],
            "seen_using": {str(user): number for user, number in sorted(seen.items())},
            "shared_s": max((rows[-1]["at_ns"] - rows[0]["at_ns"]) / 1e9 for rows in pairs.values()),
            "bytes_while_shared": sum(self._bytes(profile, pid, cookie, rows) for (cookie, _), rows in pairs.items()),
        }

    def _bytes(self, profile: Profile, pid: int, cookie: int, sightings: list[dict[str, Any]]) -> int:
        """Return how many bytes went over a socket while both held it."""
        from_ns, until_ns = sightings[0]["at_ns"], sightings[-1]["at_ns"]
        totals = [
            (row["at_ns"], (row["sent_bytes"] or 0) + (row["received_bytes"] or 0))
            for row in rows_of(profile, "sockets", pid)
            if row["cookie"] == cookie
        ]
        before = [total for at_ns, total in totals if at_ns <= from_ns]
        after = [total for at_ns, total in totals if at_ns <= until_ns]
        return after[-1] - before[-1] if before and after else 0


def _what(pairs: _Pairs) -> str:
    """Return the connections in words, with their verb.

    >>> _what({(7, 4243): [{"peer": "10.0.0.7:80"}]})
    '1 connection to 10.0.0.7:80 is'
    """
    number = len({cookie for cookie, _ in pairs})
    peers = ", ".join(sorted({rows[0]["peer"] for rows in pairs.values()}))
    return f"{number} connection{'s' if number > 1 else ''} to {peers} {'are' if number > 1 else 'is'}"


def _who(pairs: _Pairs) -> str:
    """Return the other processes in words."""
    return f"process {', '.join(str(other) for other in sorted({other for _, other in pairs}))}"


RULE = ForkSharedSocket()
