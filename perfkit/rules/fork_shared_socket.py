"""The rule `fork_shared_socket`: does a child use a connection that it inherited from its parent."""

from dataclasses import dataclass
from typing import Any

from perfkit.analysis.socket_lifetimes import Window, rows_of, socket_window
from perfkit.findings import Finding, Verdict
from perfkit.profile import Profile
from perfkit.rules import undecided

_NAME = "fork_shared_socket"


@dataclass(frozen=True)
class ForkSharedSocket:
    """Two processes hold the same established connection.

    Why it matters: two users of one connection read each other's answers: wrong data, broken TLS records, protocol
    errors that come and go. And while either holds it, a close by the other is not seen by the peer.
    Evidence: the inode of an established upstream socket in the descriptor tables of two processes, at two looks or
    more, and the data that went over it in between.
    Limits: which of the two sent the data is not known from outside. Looks for parents, children and siblings only.
    Shared listening sockets are normal and left out, as are accepted connections, which servers hand to workers.
    Source: https://man7.org/linux/man-pages/man2/fork.2.html (open descriptors are shared)
    """

    min_shared_s: float = 5.0
    """Longer than between fork and exec, where inherited descriptors are closed."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per process; none when its sockets were not recorded."""
        windows = {pid: socket_window(profile, pid) for pid in profile.pids}
        return [self._judge(profile, pid, window) for pid, window in windows.items() if window is not None]

    def _judge(self, profile: Profile, pid: int, window: Window) -> Finding:
        """Return the finding for one process."""
        sightings: dict[tuple[int, int], list[dict[str, Any]]] = {}
        for row in rows_of(profile, "socket_events", pid):
            if row["event"] == "shared" and row["role"] == "upstream":
                sightings.setdefault((row["cookie"], row["other_pid"]), []).append(row)
        lasting = {
            pair: rows
            for pair, rows in sightings.items()
            if rows[-1]["at_ns"] - rows[0]["at_ns"] >= self.min_shared_s * 1e9
        }
        used = {pair: rows for pair, rows in lasting.items() if self._bytes(profile, pid, pair[0], rows)}
        if not lasting:
            if sightings or window.length_s < 2 * self.min_shared_s:
                return undecided(
                    _NAME,
                    "Not recorded long enough to see whether connections are shared",
                    f"at least {4 * self.min_shared_s:.0f} s",
                    pid=pid,
                )
            return Finding(
                _NAME, Verdict.PASS, "none", "No other process holds its connections", "Nothing to do.",
                measured=0.0, limit=0.0, unit="connections", confidence=0.9, pid=pid,
            )  # fmt: skip
        chosen = used or lasting
        sockets = sorted({cookie for cookie, _ in chosen})
        others = sorted({other for _, other in chosen})
        peers = sorted({rows[0]["peer"] for rows in chosen.values()})
        evidence = {
            "direction": "upstream",
            "peer": peers[0],
            "peers": peers,
            "cookies": sockets,
            "processes": [pid, *others],
            "shared_s": max((rows[-1]["at_ns"] - rows[0]["at_ns"]) / 1e9 for rows in chosen.values()),
            "bytes_while_shared": sum(self._bytes(profile, pid, cookie, rows) for (cookie, _), rows in chosen.items()),
        }
        what = f"{len(sockets)} connection{'s' if len(sockets) > 1 else ''} to {', '.join(peers)}"
        who = f"process {', '.join(map(str, others))}"
        if not used:
            return undecided(
                _NAME,
                f"{who[0].upper()}{who[1:]} holds {what} too, over which nothing went meanwhile",
                "the process while it uses the connection",
                hint="Close or dispose of connections in the child right after the fork.",
                pid=pid,
                measured=float(len(sockets)),
                limit=0.0,
                unit="connections",
                evidence=evidence,
            )
        return Finding(
            _NAME,
            Verdict.FAIL,
            _NAME,
            f"{what} {'are' if len(sockets) > 1 else 'is'} in use and held by {who} too",
            "Open connections after the fork, or dispose of the pool in the child (os.register_at_fork, gunicorn's "
            "post_fork, SQLAlchemy's engine.dispose(close=False)).",
            measured=float(len(sockets)),
            limit=0.0,
            unit="connections",
            confidence=0.8,
            pid=pid,
            evidence=evidence,
            needs=("`--children --collect pools`, to see who uses the connection",),
        )

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


RULE = ForkSharedSocket()
