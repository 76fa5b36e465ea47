"""The rule `checkout_leak`: does every connection that is taken from a pool come back, and which line keeps it?"""

from dataclasses import dataclass, replace
from typing import Any

from perfkit.analysis.abandonment import Abandoned, abandoned
from perfkit.analysis.pools import Checkout, Pool, Pools, by_site, path_to, recorded_pools
from perfkit.analysis.survival import Place
from perfkit.findings import Finding, Site, Verdict
from perfkit.profile import Profile

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
    Limits: connections taken before the recording have no line. A connection that is handed over to
    somebody else to return, and stays idle there, looks the same; `min_leaked` of them must be seen,
    over more than `min_spread_s`. Needs `min_window_s`.
    Source: https://github.com/brettwooldridge/HikariCP (leak detection by the stack at check-out)
    """

    min_window_s: float = 10.0
    """Three times the age from which on a use is looked at."""
    min_leaked: int = 2
    """One may be a mistake that happened once, or a connection that is kept on purpose."""
    min_spread_s: float = 1.0
    """Connections taken for keeps are taken together, at start-up; leaks happen as requests come."""
    pressure_ratio: float = 0.8
    """Share of the limit from which on connections that were out before the recording are spoken of."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per line that keeps connections, or one per process."""
        return [finding for each in recorded_pools(profile) for finding in self._of_process(each, profile)]

    def _of_process(self, pools: Pools, profile: Profile) -> list[Finding]:
        """Return the findings for one process."""
        found: list[Finding] = []
        for pool in pools.pools:
            for place, uses in by_site(profile, pool.checkouts).items():
                finding = self._of_site(pool, place, uses, abandoned(uses, pool.until_ns), profile)
                found += [finding] if finding else []
            found += self._from_before(pool)
        if found:
            return found
        taken = sum(len(pool.checkouts) for pool in pools.pools)
        window_s = max((pool.window_s for pool in pools.pools), default=0.0)
        if pools.pools and (window_s < self.min_window_s or any(pool.lost for pool in pools.pools)):
            return [
                _finding(
                    pools.pid,
                    Verdict.UNDECIDED,
                    "Not recorded long enough, or not completely, to see whether connections come back",
                    "Record longer.",
                    needs=(f"at least {self.min_window_s:.0f} s of recording without losses",),
                )
            ]
        if not pools.pools:
            title = "The process uses no connection pool that perfkit knows"
        elif not taken:
            title = "No connection was taken from a pool"
        else:
            title = f"Connections come back: {taken:,} uses of {len(pools.pools)} pool(s), none was left behind"
        return [_finding(pools.pid, Verdict.PASS, title, "Nothing to do.", measured=0.0, confidence=0.9)]

    def _of_site(
        self, pool: Pool, place: Place, uses: list[Checkout], kept: Abandoned, profile: Profile
    ) -> Finding | None:
        """Return the finding for one line, None: there is nothing to say."""
        suspects = kept.strong or kept.weak
        if not suspects:
            return None
        first, last = suspects[0].acquired_ns, suspects[-1].acquired_ns
        spread_s = (last - first) / 1e9
        sure = len(kept.strong) >= self.min_leaked and spread_s >= self.min_spread_s
        if not sure and len(suspects) < self.min_leaked and not kept.strong:
            return None
        site = Site(place.function, place.file, place.line)
        rate_per_s = len(suspects) / pool.window_s
        many = f"{len(suspects)} of {len(uses)} connections that it took in {pool.window_s:.0f} s"
        verb = "does not give back" if sure else "may not give back"
        advice = _ADVICE.get(str(pool.settings.get("library")), "return it in a `finally` block")
        evidence: dict[str, Any] = {
            "pool": pool.name,
            "taken": len(uses),
            "returned": sum(each.how in ("released", "closed") for each in uses),
            "not_returned": len(suspects),
            "holder_ended": sum(bool(each.finished) for each in suspects),
            "oldest_s": round(suspects[0].held_ns(pool.until_ns) / 1e9, 3),
            "considered_from_age_s": round(kept.gate_s, 3),
            "never_returned_by_littles_law": None if (left := pool.never_returned()) is None else round(left, 2),
            "limit": pool.limit,
            "path": path_to(profile, suspects[-1].stack_id),
            "connections": [each.connection for each in suspects[:20]],
        }
        finding = _finding(
            pool.pid,
            Verdict.FAIL if sure else Verdict.UNDECIDED,
            f"{_short(site)} {verb} {many} from {pool.name}",
            f"Give the connection back on every path out of it, exceptions too: {advice}.",
            measured=float(len(suspects)),
            confidence=round(1 - 0.3 * 0.5 ** (len(kept.strong) - 1), 3) if sure else 0.5,
            evidence=evidence,
            needs=() if sure else ("a longer recording, to see whether they come back and whether there are more",),
        )
        return replace(finding, site=site, seconds_to_limit=_seconds_to_limit(pool, rate_per_s, len(suspects)))

    def _from_before(self, pool: Pool) -> list[Finding]:
        """Return the finding for a pool that is nearly used up by connections taken before the recording."""
        missing, limit = pool.before - pool.before_back, pool.limit
        if not limit or missing < self.pressure_ratio * limit or pool.window_s < self.min_window_s:
            return []
        return [
            _finding(
                pool.pid,
                Verdict.UNDECIDED,
                f"{missing} of {limit} connections of {pool.name} were out before the recording and did not come back",
                "Restart the process and record from its start, to see the line that takes them.",
                measured=float(missing),
                confidence=0.5,
                evidence={"pool": pool.name, "out_since_before": missing, "limit": limit},
                needs=("a recording that begins before they are taken",),
            )
        ]


RULE = CheckoutLeak()


def _finding(
    pid: int,
    verdict: Verdict,
    title: str,
    hint: str,
    *,
    measured: float | None = None,
    confidence: float | None = None,
    evidence: dict[str, Any] | None = None,
    needs: tuple[str, ...] = (),
) -> Finding:
    """Return a finding with what all of this rule share."""
    return Finding(
        rule="checkout_leak",
        verdict=verdict,
        class_={Verdict.FAIL: "checkout_leak", Verdict.PASS: "none"}.get(verdict, "undetermined"),
        title=title,
        hint=hint,
        measured=measured,
        limit=0.0,
        unit="count",
        confidence=confidence,
        pid=pid,
        evidence=evidence or {},
        needs=needs,
    )


def _seconds_to_limit(pool: Pool, rate_per_s: float, leaked: int) -> tuple[float | None, float | None, float | None]:
    """Return when the pool is used up (soonest, expected, latest), None: it has no limit."""
    in_use = pool.gauge("in_use")
    if pool.limit is None or not in_use:
        return None, None, None
    left = max(pool.limit - in_use[-1][1], 0)
    # The number of leaks is a Poisson count: its square root is its standard deviation.
    spread = 2 * leaked**0.5 / pool.window_s
    slow = rate_per_s - spread
    return left / (rate_per_s + spread), left / rate_per_s, left / slow if slow > 0 else None


def _short(site: Site) -> str:
    """Return a place in a sentence: function, and file without the folders around its package."""
    file = "/".join(site.file.split("/")[-2:]) if site.file else None
    return str(Site(site.function, file, site.line))
