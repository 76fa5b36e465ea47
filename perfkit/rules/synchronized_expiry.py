"""The rule `synchronized_expiry`: do connections that were opened together end together, again and again."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from perfkit.analysis.pooled_sockets import peers_of, plain
from perfkit.analysis.pools import pools_of_process
from perfkit.analysis.socket_lifetimes import Cohort, cohorts, connections, socket_window
from perfkit.findings import Finding, Verdict
from perfkit.profile import Profile
from perfkit.rules import undecided
from perfkit.units import percent_text, seconds_text

_NAME = "synchronized_expiry"


@dataclass(frozen=True)
class SynchronizedExpiry:
    """A pool's connections reach their maximum age at the same moment and are all opened anew at once.

    Why it matters: every request of that moment waits for a new connection, and the peer gets all handshakes at once;
    the stripe in the latency comes back with each lifetime, on all instances that were started together.
    Evidence: groups of connections to one peer that died within half a second at the same age, were in use until
    then, and were replaced at once; and that this happened again a lifetime later.
    Where pools were recorded, too, what a pool without a lifetime closes itself has not ended of its age, and
    one that draws each lifetime at random does what is advised.
    Limits: needs at least two lifetimes in the recording; one is undecided, because a restart of the peer looks the
    same. Idle connections that a timeout closes together cost nothing and do not count.
    Source: https://github.com/brettwooldridge/HikariCP/pull/2035 (why maxLifetime is varied)
    """

    smallest: int = 5
    """Fewer connections at once are no burden."""
    max_spread_ratio: float = 0.02
    """Standard deviation of the ages at death over their mean: an even jitter of 10 % makes 2.9 %."""
    min_together_ratio: float = 0.8
    """Share of the connections opened together that also end together; with jitter they scatter."""
    max_idle_ratio: float = 0.25
    """Idle for a larger part of its age, a connection was not in use when it ended."""
    min_age_s: float = 5.0
    """Below it a batch that opens and closes its own connections looks the same."""
    replaced_ratio: float = 0.6
    """Share of a cohort that is opened anew right after."""
    same_age_ratio: float = 0.15
    """How far the distance of two cohorts may be from the age of the later one."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per process; none when its sockets were not recorded."""
        found = []
        for pid in profile.pids:
            window = socket_window(profile, pid)
            if window is not None:
                groups = cohorts(connections(profile, pid), smallest=self.smallest)
                others = _not_in_step(profile, pid)
                groups = [g for g in groups if plain(g.peer) not in others or g.closed_by_us <= g.deaths / 2]
                found.append(self.judge(pid, groups, window.length_s))
        return found

    def judge(self, pid: int, groups: Sequence[Cohort], window_s: float) -> Finding:
        """Return the finding for one process.

        Args:
            pid: the process.
            groups: its cohorts, in time order.
            window_s: length of the recording, in seconds.
        """
        fitting = [group for group in groups if self._in_use_and_replaced(group)]
        in_step = [group for group in fitting if self._at_one_age(group)]
        for group in in_step:
            age_s = median(group.ages_s)
            earlier = [
                each
                for each in fitting
                if each.peer == group.peer and abs(group.at_s - each.at_s - age_s) <= self.same_age_ratio * age_s
            ]
            if earlier:
                return self._fail(pid, [*earlier[-1:], group], age_s)
        if in_step:
            group = in_step[0]
            return undecided(
                _NAME,
                f"{group.deaths} connections to {group.peer} ended together at an age of "
                f"{seconds_text(median(group.ages_s))}, once",
                f"at least {seconds_text(2.5 * median(group.ages_s))}, to see whether it happens again",
                pid=pid,
                measured=group.spread_ratio,
                limit=self.max_spread_ratio,
                unit="ratio",
                evidence=_evidence([group]),
            )
        title = "Connections do not end in step"
        if not groups:
            title = f"No {self.smallest} connections to one peer ended together in {window_s:.0f} s"
        return Finding(
            _NAME, Verdict.PASS, "none", title, "Nothing to do.",
            limit=self.max_spread_ratio, unit="ratio", confidence=0.8, pid=pid,
            evidence={"cohorts": len(groups)}, needs=("a recording of more than two lifetimes of a connection",),
        )  # fmt: skip

    def _in_use_and_replaced(self, group: Cohort) -> bool:
        """Whether the connections were needed when they ended, and are opened anew."""
        in_use = group.idle_ratio is None or group.idle_ratio <= self.max_idle_ratio
        return in_use and group.replaced >= self.replaced_ratio * group.deaths

    def _at_one_age(self, group: Cohort) -> bool:
        """Whether the ages that are known are alike."""
        return (
            len(group.ages_s) >= self.smallest
            and group.spread_ratio is not None
            and group.spread_ratio <= self.max_spread_ratio
            and group.together_ratio >= self.min_together_ratio
            and median(group.ages_s) >= self.min_age_s
        )

    def _fail(self, pid: int, groups: list[Cohort], age_s: float) -> Finding:
        """Return the finding for cohorts that follow each other."""
        last = groups[-1]
        assert last.spread_ratio is not None
        return Finding(
            _NAME,
            Verdict.FAIL,
            _NAME,
            f"{last.deaths} connections to {last.peer} end at once every {seconds_text(age_s)} "
            f"(ages differ by {percent_text(last.spread_ratio)})",
            "Give each connection a lifetime of its own: subtract a random 10 to 25 % when it is opened.",
            measured=last.spread_ratio,
            limit=self.max_spread_ratio,
            unit="ratio",
            confidence=0.9,
            pid=pid,
            evidence=_evidence(groups),
            needs=("`--collect pools`, to name the pool and its settings",),
        )


def _not_in_step(profile: Profile, pid: int) -> set[str]:
    """Return the peers to which only pools have connections that set no lifetime, or draw one for each at random.

    A lifetime of seconds, as in a test, leaves no room for the differences that one of an hour would have.
    """
    peers = peers_of(profile, pid)
    limited = {
        pool.name
        for pool in pools_of_process(profile, pid)
        if pool.settings.get("max_lifetime_s", 1) is not None and not pool.settings.get("lifetime_jitter_ratio")
    }
    return {peer for each in peers.values() for peer in each} - {
        peer for name in limited for peer in peers.get(name, ())
    }


def _evidence(groups: list[Cohort]) -> dict[str, Any]:
    """Return the numbers behind a finding."""
    return {
        "direction": "upstream",
        "peer": groups[-1].peer,
        "cohorts": [
            {
                "at_s": round(group.at_s, 3),
                "deaths": group.deaths,
                "replaced": group.replaced,
                "median_age_s": round(median(group.ages_s), 3) if group.ages_s else None,
            }
            for group in groups
        ],
    }


RULE = SynchronizedExpiry()
