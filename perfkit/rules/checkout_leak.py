"""The rule `checkout_leak`: does every connection that is taken from a pool come back, and which line keeps it?"""

from dataclasses import dataclass, replace

from perfkit.analysis.abandonment import Abandoned, abandoned
from perfkit.analysis.pools import Checkout, Pool, by_site
from perfkit.findings import Finding, Verdict
from perfkit.pool_findings import MIN_WINDOW_S, judged, pool_finding, sampled
from perfkit.profile import Profile
from perfkit.units import count_text

_ADVICE = {
    "sqlalchemy": "use `with engine.connect() as connection:` or `with Session(engine) as session:`",
    "psycopg_pool": "use `with pool.connection() as connection:`",
    "asyncpg": "use `async with pool.acquire() as connection:`",
    "redis": "use the client or its context manager instead of `get_connection`",
    "httpcore": "use `with client.stream(...) as response:`, or read or close each response",
    "urllib3": "read or close each response, or use it as a context manager",
    "aiohttp": "use `async with session.get(...) as response:`",
}


@dataclass(frozen=True)
class CheckoutLeak:
    """A connection is taken from a pool and never given back.

    Why it matters: each one is a slot less; when the last is gone, every request waits for a connection
    until it times out, and only a restart helps. The line that takes it is where to look.
    Evidence: uses that began while it was recorded, did not end, and whose holder is not there any more:
    its task or thread has ended, or the frames that are active when such connections are returned
    have returned without it (`pool_events`, `pool_holders`), with nothing going over its socket.
    How long a use lasts is not evidence by itself. The residual of Little's law is given beside.
    Limits: above some 300 acquisitions per second the lines of a sample are noted, and counts are of that sample.
    Connections taken before the recording have no line. A connection that is handed over to
    somebody else to return, and stays idle there, looks the same; `min_leaked` of them must be seen,
    over more than `min_spread_s`.
    Source: https://github.com/brettwooldridge/HikariCP (leak detection by the stack at check-out)
    """

    min_leaked: int = 2
    """One may be a mistake that happened once, or a connection that is kept on purpose."""
    min_spread_s: float = 1.0
    """Connections taken for keeps are taken together, at start-up; leaks happen as requests come."""
    pressure_ratio: float = 0.5
    """Share of the limit from which on connections that were out before the recording are spoken of."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per line that keeps connections, or one per process."""

        def of_pool(pool: Pool) -> list[Finding]:
            sites = by_site(profile, pool.checkouts).values()
            found = [self._of_site(pool, uses, abandoned(uses, pool.until_ns), profile) for uses in sites]
            return [*(each for each in found if each), *self._from_before(pool, profile)]

        return judged(profile, "checkout_leak", of_pool, "Every connection that was taken came back, or is in use")

    def _of_site(self, pool: Pool, uses: list[Checkout], kept: Abandoned, profile: Profile) -> Finding | None:
        """Return the finding for one line, None: there is nothing to say."""
        suspects = kept.strong or kept.weak
        if not suspects:
            return None
        spread_s = (suspects[-1].acquired_ns - suspects[0].acquired_ns) / 1e9
        sure = len(kept.strong) >= self.min_leaked and spread_s >= self.min_spread_s
        if not sure and len(suspects) < self.min_leaked:
            return None
        verb = "does not give back" if sure else "may not give back"
        advice = _ADVICE.get(str(pool.settings.get("library")), "return it in a `finally` block")
        finding = pool_finding(
            "checkout_leak",
            pool,
            profile,
            f"{{site}} {verb} {count_text(len(suspects))} of {count_text(len(uses))} connections that it took"
            f" in {pool.window_s:.0f} s from {pool.name}{sampled(pool)}",
            f"Give the connection back on every path out of it, exceptions too: {advice}.",
            verdict=Verdict.FAIL if sure else Verdict.UNDECIDED,
            stack_id=suspects[-1].stack_id,
            measured=float(len(suspects)),
            limit=0.0,
            unit="connections",
            confidence=round(1 - 0.3 * 0.5 ** (len(kept.strong) - 1), 3) if sure else 0.5,
            evidence={
                "taken": len(uses),
                "returned": sum(each.how in ("released", "closed") for each in uses),
                "not_returned": len(suspects),
                "holder_ended": sum(bool(each.finished) for each in suspects),
                "oldest_s": round(suspects[0].held_ns(pool.until_ns) / 1e9, 3),
                "considered_from_age_s": round(kept.gate_s, 3),
                "never_returned_by_littles_law": None if (left := pool.never_returned()) is None else round(left, 2),
                "limit": pool.limit,
                "connections": [each.connection for each in suspects[:20]],
            },
            needs=() if sure else ("a longer recording, to see whether they come back and whether there are more",),
        )
        return replace(finding, seconds_to_limit=_seconds_to_limit(pool, len(suspects)))

    def _from_before(self, pool: Pool, profile: Profile) -> list[Finding]:
        """Return the finding for a pool that is nearly used up by connections taken before the recording."""
        missing, limit = pool.before - pool.before_back, pool.limit
        if not limit or missing < self.pressure_ratio * limit or pool.window_s < MIN_WINDOW_S:
            return []
        return [
            pool_finding(
                "checkout_leak",
                pool,
                profile,
                f"{missing} of {limit} connections of {pool.name} were out before the recording and did not come back",
                "Restart the process and record from its start, to see the line that takes them.",
                verdict=Verdict.UNDECIDED,
                measured=float(missing),
                limit=0.0,
                unit="connections",
                confidence=0.5,
                evidence={"out_since_before": missing, "limit": limit},
                needs=("a recording that begins before they are taken",),
            )
        ]


RULE = CheckoutLeak()


def _seconds_to_limit(pool: Pool, leaked: int) -> tuple[float | None, float | None, float | None]:
    """Return when the pool is used up (soonest, expected, latest), None: it has no limit."""
    in_use = pool.gauge("in_use")
    if pool.limit is None or not in_use:
        return None, None, None
    left = max(pool.limit - in_use[-1][1], 0)
    rate_per_s = leaked / pool.window_s
    # The number of leaks is a Poisson count: its square root is its standard deviation.
    spread = 2 * leaked**0.5 / pool.window_s
    slow = rate_per_s - spread
    return left / (rate_per_s + spread), left / rate_per_s, left / slow if slow > 0 else None
