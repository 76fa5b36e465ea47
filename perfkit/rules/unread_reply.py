"""The rule `unread_reply`: does an answer lie unread in a connection that will be used again."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from perfkit.analysis.pooled_sockets import lent_at, peers_of, plain
from perfkit.analysis.socket_lifetimes import socket_window
from perfkit.analysis.socket_states import Spell, spells
from perfkit.findings import Finding, Verdict
from perfkit.profile import Profile
from perfkit.rules import undecided
from perfkit.units import bytes_text, seconds_text

_NAME = "unread_reply"


@dataclass(frozen=True)
class UnreadReply:
    """An answer was received on an upstream connection and is not read.

    Why it matters: the request was cancelled and its connection went back into the pool with the answer still in it.
    The next user of the connection reads somebody else's answer; from then on all are off by one.
    Evidence: an established upstream socket with data in its receive queue, soon after the process had sent
    something, for longer than `age_limit_s` with nothing sent or received since; or data that always lies unread
    while requests go on.
    Where pools were recorded, too, a connection that is lent does not count (who has it may read on, or has leaked
    it), one that is idle in its pool is sure, and what was out when the recording began is undecided.
    Limits: what the data are is not known: a download that is read slowly looks like an answer that nobody wants,
    so that large queues are undecided unless there are several. Data that came without a request (notifications,
    pings) do not count. When the whole process does nothing it is undecided.
    Source: https://github.com/redis/redis-py/issues/2624 (a cancelled command leaves its reply in the pool)
    """

    age_limit_s: float = 15.0
    """Longer than a busy event loop or a thread takes to come back to a socket."""
    prompt_s: float = 60.0
    """An answer comes within the time that clients wait for one; later data came by themselves."""
    large_bytes: int = 65_536
    """From here on it may be a body that is read slowly. Source: default window of RFC 9293 without scaling."""
    small_bytes: int = 4096
    """Session tickets of TLS 1.3 that nobody has read yet are smaller, and come before the first request."""
    several: int = 3
    """So many bodies that stand still at once are not read slowly, but not at all."""
    min_rows: int = 8
    """Readings in a row with unread data, of a connection in use, before they are called a habit."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per process; none when its sockets were not recorded."""
        found = []
        for pid in profile.pids:
            window = socket_window(profile, pid)
            if window is None:
                continue
            seen = spells(profile, pid, window.until_s, unread=True)
            lent = lent_at(
                profile, pid, [(spell.cookie, spell.until_s) for spell in seen if spell.highest_unread_bytes]
            )
            peers = set().union(*peers_of(profile, pid).values())
            before = {
                spell.cookie
                for spell in seen
                if spell.open_start and spell.cookie not in lent and plain(spell.service) in peers
            }
            found.append(self.judge(pid, seen, window.length_s, lent, before))
        return found

    def judge(
        self,
        pid: int,
        found: Sequence[Spell],
        window_s: float,
        lent: Mapping[int, bool] = MappingProxyType({}),
        before: Collection[int] = (),
    ) -> Finding:
        """Return the finding for one process.

        Args:
            pid: the process.
            found: spells of its sockets, those with unread data apart.
            window_s: length of the recording, in seconds.
            lent: whether the pool has lent the connection of a socket, by its cookie; others are not known.
            before: cookies of those that are older than the recording and were not idle in the pool to their peer:
                somebody had taken them, or they are of no pool.
        """
        unread = [s for s in found if s.role == "upstream" and s.state == "established" and s.lowest_unread_bytes > 0]
        taken = [s for s in unread if lent.get(s.cookie) and self._is_left(s)]
        unread = [s for s in unread if not lent.get(s.cookie)]
        silent = [s for s in unread if self._is_left(s)]
        behind = [s for s in unread if self._is_behind(s)]
        idle = [s for s in silent if lent.get(s.cookie) is False]
        sure = [s for s in silent if s.cookie not in before]
        small = [s for s in sure if s.lowest_unread_bytes < self.large_bytes]
        large = [s for s in sure if s.lowest_unread_bytes >= self.large_bytes]
        alive = bool(silent) and _goes_on(found, silent)
        if idle:
            return replace(self._finding(pid, Verdict.FAIL, idle), confidence=0.95, needs=())
        if behind or (alive and (small or len(large) >= self.several)):
            return self._finding(pid, Verdict.FAIL, behind or small or large)
        if silent:
            return self._finding(pid, Verdict.UNDECIDED, silent)
        if taken:
            return Finding(
                _NAME, Verdict.PASS, "none",
                "Answers lie unread only in connections that somebody has taken from the pool and not given back",
                "See `checkout_leak`: nobody else gets them.", limit=self.age_limit_s, unit="s", confidence=0.9,
                pid=pid, evidence={"lent": len({s.cookie for s in taken})},
            )  # fmt: skip
        if window_s < self.age_limit_s:
            return undecided(
                _NAME,
                "Not recorded long enough to see answers that nobody reads",
                f"{2 * self.age_limit_s:.0f} s",
                pid=pid,
            )
        return Finding(
            _NAME, Verdict.PASS, "none", "No answer lay unread for long", "Nothing to do.",
            measured=max((s.length_s for s in unread), default=0.0), limit=self.age_limit_s, unit="s",
            confidence=0.9, pid=pid, evidence={"spells": len(unread)},
        )  # fmt: skip

    def _is_left(self, spell: Spell) -> bool:
        """Whether an answer lies in a connection on which nothing happens any more."""
        if spell.silent_s is None or min(spell.silent_s, spell.length_s) < self.age_limit_s or spell.sent:
            return False
        if spell.reply_after_s is None or not 0 <= spell.reply_after_s <= self.prompt_s:
            return False
        return not ((spell.segments_out or 0) <= 2 and spell.lowest_unread_bytes < self.small_bytes)

    def _is_behind(self, spell: Spell) -> bool:
        """Whether requests go on while an older answer always lies unread."""
        return (
            spell.received
            and spell.length_s >= self.age_limit_s
            and spell.highest_unread_bytes < self.large_bytes
            and spell.sends >= self.min_rows / 2
            and spell.waited_rows >= max(self.min_rows, 0.9 * spell.rows)
        )

    def _finding(self, pid: int, verdict: Verdict, spells_: list[Spell]) -> Finding:
        """Return the finding for answers that are not read."""
        worst = max(spells_, key=lambda spell: spell.length_s)
        failed = verdict is Verdict.FAIL
        number = len({spell.cookie for spell in spells_})
        return Finding(
            _NAME,
            verdict,
            _NAME if failed else "undetermined",
            f"{bytes_text(worst.lowest_unread_bytes)} lie unread in a connection to {worst.service} for "
            f"{seconds_text(worst.length_s)}" + (f", and in {number - 1} more" if number > 1 else ""),
            "Close a connection whose request was cancelled instead of putting it back into the pool.",
            measured=worst.length_s,
            limit=self.age_limit_s,
            unit="s",
            confidence=0.8 if failed else None,
            pid=pid,
            evidence={
                "direction": "upstream",
                "peer": worst.service,
                "connections": number,
                "cookies": sorted({spell.cookie for spell in spells_})[:20],
                "unread_bytes": worst.lowest_unread_bytes,
                "requests_go_on": worst.sent,
                "older_than_the_recording": worst.open_start,
            },
            needs=("`--collect pools`, to see whether the connection is idle in its pool",)
            if failed
            else ("the process while it works, and `--collect pools`",),
        )


def _goes_on(found: Sequence[Spell], silent: Sequence[Spell]) -> bool:
    """Whether the process used other sockets while these were silent."""
    cookies, since_s = {spell.cookie for spell in silent}, min(spell.from_s for spell in silent)
    others = [spell for spell in found if spell.cookie not in cookies and spell.until_s > since_s]
    return any(spell.sent or spell.received or spell.from_s > since_s for spell in others)


RULE = UnreadReply()
