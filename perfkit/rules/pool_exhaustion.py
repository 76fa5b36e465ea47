"""The rule `pool_exhaustion`: does anybody wait in vain for a connection, and who has them all?"""

from collections import Counter
from dataclasses import dataclass

from perfkit.analysis.pools import Pool, by_site
from perfkit.analysis.queueing import enough_servers
from perfkit.findings import Finding, Verdict
from perfkit.pool_findings import judged, pool_finding
from perfkit.profile import Profile
from perfkit.units import seconds_text


@dataclass(frozen=True)
class PoolExhaustion:
    """All connections are taken, and requests give up waiting for one.

    Why it matters: each of these requests fails although the server behind the pool may have time. A pool that
    is always full but hands connections on at once is none of this: it is well used.
    Evidence: acquisitions that ended with the pool's timeout, or wait at the end for `stuck_s` and longer
    (`pool_events`), in a pool that is at its limit (`pool_states`); the line whose uses take most of the
    connections' time. How many would be enough is computed from the arrival rate and the holding time (Erlang C).
    Where nobody gives up, but requests wait longer for a connection than they then have it, all the time, it is
    undecided: a small limit may be there to spare the server.
    Limits: fewer than `min_waits` are not judged. Arrivals that come in bursts need more than the formula says.
    Connections that leak use up a pool too: `checkout_leak` names their line.
    Source: Erlang C, see perfkit.analysis.queueing; https://github.com/brettwooldridge/HikariCP/wiki/About-Pool-Sizing
    """

    min_waits: int = 3
    """One or two may be a server that did not answer for a moment."""
    stuck_s: float = 5.0
    """Nobody waits so long for a connection in a service that answers."""
    seen_ratio: float = 0.2
    """Share of the connections' time from which on a line is named; with less, they were taken before the recording."""
    kept_ratio: float = 0.3
    """Share of the connections that never come back (Little's law) from which on the size is not what is wrong."""
    queue_ratio: float = 0.5
    """Share of the readings at which the pool is full and somebody waits, from which on it always is."""
    min_uses: int = 20
    """Fewer uses do not tell how long one waits as a rule."""
    target_wait_s: float = 0.05
    """What 99 of 100 requests should wait at most with the size that is advised."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per pool that is used up, or one per process."""

        def of_pool(pool: Pool) -> list[Finding]:
            return self._of_pool(pool, profile)

        return judged(profile, "pool_exhaustion", of_pool, "Nobody waited in vain for a connection")

    def _of_pool(self, pool: Pool, profile: Profile) -> list[Finding]:
        """Return the finding for one pool."""
        in_vain = [wait for wait in pool.waits if wait.event == "timeout"]
        stuck = [wait for wait in pool.waits if wait.event == "waiting" and wait.wait_ns >= self.stuck_s * 1e9]
        failed = [*in_vain, *stuck]
        if len(failed) < self.min_waits:
            return self._queue(pool, profile)
        in_use, limit = pool.gauge("in_use"), pool.full_at
        if limit is not None and in_use and max(value for _at, value in in_use) < limit:
            return []  # it could have opened more: they waited for the server, not for each other
        time_of = {
            uses[-1].stack_id: sum(use.held_ns(pool.until_ns) for use in uses)
            for uses in by_site(profile, pool.checkouts).values()
        }
        lent_ns = sum(value for _at, value in in_use) / max(len(in_use), 1) * (pool.until_ns - pool.from_ns)
        holder = max(time_of, key=lambda stack: time_of[stack], default=None)
        share = time_of[holder] / max(lent_ns, sum(time_of.values())) if holder is not None else 0.0
        if share < self.seen_ratio:
            holder = None
        hold_s = pool.hold_quantile_s(0.5) or 0.0
        mean_s = sum(use.held_ns(pool.until_ns) for use in pool.returned) / 1e9 / max(len(pool.returned), 1)
        arrivals_per_s = (len(pool.checkouts) + len(failed)) / pool.window_s
        enough = enough_servers(arrivals_per_s * mean_s, mean_s, self.target_wait_s) if mean_s else None
        left = pool.never_returned()
        advice = f"{enough} connections would be enough for {arrivals_per_s:.3g} requests/s; " if enough else ""
        hint = (
            f"{advice}or hold each for less than the {mean_s:.3g} s of now. More connections help only if the "
            "server behind has room for them."
        )
        if left is not None and left > self.kept_ratio * max(value for _at, value in in_use):
            hint = f"About {left:.0f} connections are out and do not come back: more connections would only put it off."
        return [
            pool_finding(
                "pool_exhaustion",
                pool,
                profile,
                f"{len(failed)} of {len(pool.checkouts) + len(failed)} requests for a connection of {pool.name} "
                "waited in vain; "
                + (
                    f"{{site}} has {share:.0%} of the connections' time"
                    if holder is not None
                    else "who has them all was not seen"
                ),
                hint,
                verdict=Verdict.FAIL,
                stack_id=holder,
                measured=len(failed) / (len(pool.checkouts) + len(failed)),
                limit=0.0,
                unit="ratio",
                evidence={
                    "limit": limit,
                    "gave_up": len(in_vain),
                    "still_waiting": len(stuck),
                    "longest_wait_s": round(max(wait.wait_ns for wait in failed) / 1e9, 3),
                    "requests_per_s": round(arrivals_per_s, 2),
                    "hold_p50_s": round(hold_s, 4),
                    "offered_connections": round(arrivals_per_s * mean_s, 2),
                    "enough_connections": enough,
                    "never_returned_by_littles_law": None if left is None else round(left, 2),
                },
            )
        ]

    def _queue(self, pool: Pool, profile: Profile) -> list[Finding]:
        """Return what is said where nobody gives up, but everybody waits for longer than he then has a connection."""
        uses = [use for use in pool.returned if use.wait_ns is not None]
        full_at = pool.full_at
        if full_at is None or len(uses) < self.min_uses:
            return []
        waited_s = sum(use.wait_ns or 0 for use in uses) / 1e9 / len(uses)
        held_s = sum(use.held_ns(pool.until_ns) for use in uses) / 1e9 / len(uses)
        full = [row for row in pool.states if row["waiting"] and (row["in_use"] or 0) >= full_at]
        if waited_s < max(held_s, self.target_wait_s) or len(full) < self.queue_ratio * len(pool.states):
            return []
        arrivals_per_s = len(uses) / pool.window_s
        # Who waits comes again the later for it: what all who are there would use at a time is the most that can help.
        enough = round(full_at * (1 + waited_s / held_s)) if held_s else full_at
        stack_id = Counter(use.stack_id for use in uses if use.stack_id is not None).most_common(1)
        return [
            pool_finding(
                "pool_exhaustion",
                pool,
                profile,
                f"Requests wait {seconds_text(waited_s)} for a connection of {pool.name} and have it for "
                f"{seconds_text(held_s)}, on average: {full_at} at a time are allowed, most are asked for by {{site}}",
                f"If the limit is not there to spare the server: up to {enough} would be used at a time. An experiment "
                "with the live pool says whether they help (perfkit experiment pool).",
                verdict=Verdict.UNDECIDED,
                stack_id=stack_id[0][0] if stack_id else None,
                measured=waited_s,
                limit=max(held_s, self.target_wait_s),
                unit="s",
                confidence=0.5,
                evidence={
                    "limit": full_at,
                    "full_and_waited_for_ratio": round(len(full) / len(pool.states), 3),
                    "requests_per_s": round(arrivals_per_s, 2),
                    "wait_mean_s": round(waited_s, 4),
                    "hold_mean_s": round(held_s, 4),
                },
                needs=("whether the limit is meant, or an experiment with a larger pool",),
            )
        ]


RULE = PoolExhaustion()
