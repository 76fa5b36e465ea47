"""The rule `unreaped_peer_close`: do connections pile up that the other side has closed and the process keeps."""

from collections.abc import Sequence
from dataclasses import dataclass

from perfkit.analysis.socket_lifetimes import quantile, socket_window
from perfkit.analysis.socket_states import Spell, most_at_once, spells
from perfkit.findings import Finding, Verdict
from perfkit.profile import Profile
from perfkit.rules import undecided
from perfkit.units import seconds_text

_NAME = "unreaped_peer_close"
_HINT = {
    "upstream": "The pool notices a close only when it hands the connection out. Use a pool that closes idle "
    "connections by itself, make its idle timeout shorter than the peer's, or clear it after a burst.",
    "downstream": "Whoever accepted the connection must close it when the client is gone: look for a handler that does "
    "not read any more, or an exception that skips the close.",
}


@dataclass(frozen=True)
class UnreapedPeerClose:
    """Connections that the peer has closed stay open on our side (CLOSE_WAIT).

    Why it matters: each holds a descriptor and a slot of its pool, and the next request that is
    given one fails or has to be sent again. A pile that only grows ends at the descriptor limit.
    Evidence: sockets in CLOSE_WAIT on which nothing is sent any more, how many at once, how long each has
    been so at least, and with which peer.
    Limits: needs a recording longer than `age_limit_s`. A connection that was in CLOSE_WAIT before the
    recording has been so for longer than is said. Which code owns the socket is not known from outside.
    Source: RFC 9293, section 3.6 (CLOSE-WAIT: waiting for a close of the local user)
    """

    age_limit_s: float = 15.0
    """A client that reaps by a timer does it within its keep-alive timeout; aiohttp's is 15 s, urllib3 has none."""
    min_sockets: int = 3
    """One or two are the idle connections of a client that has nothing to do."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per process, or per peer with which they pile up; none where no sockets were recorded."""
        found: list[Finding] = []
        for pid in profile.pids:
            window = socket_window(profile, pid)
            if window is None:
                continue
            waiting = [s for s in spells(profile, pid, window.until_s) if s.state == "close_wait" and not s.sent]
            found += self.judge(pid, waiting, window.length_s)
        return found

    def judge(self, pid: int, waiting: Sequence[Spell], window_s: float) -> list[Finding]:
        """Return the findings for one process.

        Args:
            pid: the process.
            waiting: its spells in CLOSE_WAIT.
            window_s: length of the recording, in seconds.
        """
        services = sorted({(each.role, each.service) for each in waiting})
        piles = [
            self._pile(pid, role, service, [s for s in waiting if (s.role, s.service) == (role, service)])
            for role, service in services
        ]
        if failing := [pile for pile in piles if pile is not None]:
            return failing
        open_now = [each for each in waiting if each.open_end]
        if (
            window_s < self.age_limit_s
            or len([s for s in open_now if s.length_s < self.age_limit_s]) >= self.min_sockets
        ):
            return [
                undecided(
                    _NAME,
                    f"{len(open_now)} connections closed by their peers are open at the end of {window_s:.0f} s"
                    if open_now
                    else "Not recorded long enough to see connections that stay open after their peers closed them",
                    f"at least {2 * self.age_limit_s:.0f} s",
                    pid=pid,
                    measured=float(len(open_now)),
                    limit=float(self.min_sockets),
                    unit="connections",
                )
            ]
        return [
            Finding(
                _NAME,
                Verdict.PASS,
                "none",
                "Connections that peers close are closed on this side too"
                if waiting
                else "No connection stayed open after its peer had closed it",
                "Nothing to do.",
                measured=float(most_at_once(list(waiting), self.age_limit_s)[0]),
                limit=float(self.min_sockets),
                unit="connections",
                confidence=0.9,
                pid=pid,
                evidence={"spells": len(waiting), "longest_s": max((s.length_s for s in waiting), default=0.0)},
            )
        ]

    def _pile(self, pid: int, role: str, service: str, waiting: list[Spell]) -> Finding | None:
        """Return the finding when so many wait for so long at once."""
        most, when_s = most_at_once(waiting, self.age_limit_s)
        if most < self.min_sockets:
            return None
        old = [each for each in waiting if each.length_s >= self.age_limit_s]
        lengths = [each.length_s for each in old]
        where = f"to {service}" if role == "upstream" else f"accepted on {service}"
        at_least = "at least " if any(each.open_start or each.open_end for each in old) else ""
        return Finding(
            _NAME,
            Verdict.FAIL,
            _NAME,
            f"{most} connections {where} were closed by the peer and kept open for {at_least}"
            f"{seconds_text(quantile(lengths, 0.5))}",
            _HINT[role],
            measured=float(most),
            limit=float(self.min_sockets),
            unit="connections",
            confidence=0.95 if len(old) >= 2 * self.min_sockets or min(lengths) >= 2 * self.age_limit_s else 0.85,
            pid=pid,
            evidence={
                "direction": role,
                "peer" if role == "upstream" else "listening_on": service,
                "most_at_once": most,
                "at_s": round(when_s, 3),
                "longest_s": round(max(lengths), 3),
                "never_closed": sum(1 for each in old if each.open_end),
                "older_than_the_recording": sum(1 for each in old if each.open_start),
                "reaped_in_time": sum(1 for s in waiting if not s.open_end and s.length_s < self.age_limit_s),
            },
            needs=("`--collect pools`, to name the pool and its settings",),
        )


RULE = UnreapedPeerClose()
