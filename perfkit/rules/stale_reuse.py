"""The rule `stale_reuse`: are connections used again that the other side, or something between, has given up?"""

from dataclasses import dataclass
from functools import cache, partial

from perfkit.analysis.pooled_sockets import closed_by_peer
from perfkit.analysis.pools import Pool
from perfkit.analysis.stale_uses import Dead, Staleness, dead_on_arrival, reuses, staleness
from perfkit.findings import Finding, Verdict
from perfkit.pool_findings import judged, pool_finding
from perfkit.profile import Profile
from perfkit.units import seconds_text

_ADVICE = {
    "sqlalchemy": "pool_pre_ping=True looks before each use; pool_recycle only helps where connections are used seldom",
    "psycopg_pool": "check=ConnectionPool.check_connection looks before each use",
    "asyncpg": "max_inactive_connection_lifetime closes them in time",
    "httpcore": "keepalive_expiry closes them in time",
    "aiohttp": "keepalive_timeout closes them in time",
    "redis": "health_check_interval looks before each use",
}


@dataclass(frozen=True)
class StaleReuse:
    """A connection that was idle for longer than its peer allows is taken from the pool and found dead.

    Why it matters: the request that gets it fails, or is sent again: after each quiet moment users see a reset
    connection, a broken pipe or a 502. A server, a load balancer or a firewall gives idle connections up
    after a time of its own, which the pool does not know.
    Evidence: each use, with how long its connection was idle before, and whether it ended with the end of the
    connection (`pool_events`): those after a long idle time die, those after a short one do not.
    Where sockets were recorded, too, they say it of each use by itself: the peer had closed the connection before it
    was taken (CLOSE_WAIT).
    Limits: needs `min_died` deaths at `min_moments`, and uses after shorter idle times that went well. A use
    that hangs because packets are dropped without a word has not ended, and does not count. Pools that close what
    comes back because they keep few connections (`max_idle`) do so after a quiet moment, too: there it is undecided.
    What a pool notices before it lends a connection (pre-ping, a check) is no defect.
    Source: RFC 9112, section 9.5 (a close that crosses a request);
    https://docs.sqlalchemy.org/en/20/core/pooling.html#dealing-with-disconnects
    """

    min_died: int = 3
    """One or two may be a restart of the server."""
    min_moments: int = 2
    """Quiet times after which connections died; those that die all at once die of a restart."""
    min_share: float = 0.5
    """Of the uses after the long idle time: where a peer has a limit, nearly none outlives it."""
    max_share_before: float = 0.02
    """Of the uses after a shorter one: where more die, something else kills them."""
    max_p: float = 0.001
    """Probability that deaths fall on the long idle times by chance; a hundred pools are looked at in a day."""
    min_idle_s: float = 0.1
    """No peer gives a connection up sooner: what dies after less dies in use."""
    margin: float = 0.8
    """Share of the peer's time at which the pool should give up first: as much is lost to a pause or the network."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per pool whose connections go stale, or one per process."""
        closed = cache(partial(closed_by_peer, profile))

        def of_pool(pool: Pool) -> list[Finding]:
            uses = reuses(pool)
            closed_ns = {number: at for (name, number), at in closed(pool.pid).items() if name == pool.name}
            dead = dead_on_arrival(pool, uses, closed_ns)
            if len(dead.uses) >= self.min_died and dead.moments >= self.min_moments:
                return [self._seen_closed(profile, pool, dead)]
            found = staleness(uses)
            return [self._finding(profile, pool, found)] if found is not None and self._is_stale(found) else []

        return judged(profile, "stale_reuse", of_pool, "No connection was found dead after it had been idle")

    def _is_stale(self, found: Staleness) -> bool:
        """Whether it is the idle time that connections die of."""
        return (
            found.died_after >= self.min_died
            and found.moments >= self.min_moments
            and found.idle_s >= self.min_idle_s
            and found.died_after >= self.min_share * found.after
            and found.died_before <= self.max_share_before * found.before
            and found.p <= self.max_p
        )

    def _finding(self, profile: Profile, pool: Pool, found: Staleness) -> Finding:
        """Return what is said about a pool."""
        keeps_few = pool.settings.get("max_idle") is not None
        lowest_s = max(self.margin * found.longest_alive_s, self.min_idle_s)
        return pool_finding(
            "stale_reuse",
            pool,
            profile,
            f"{found.died_after} of {found.after} connections of {pool.name} that had been idle for "
            f"{seconds_text(found.idle_s)} or longer were dead when {{site}} used them; "
            f"{found.before - found.died_before} of {found.before} were well after less",
            f"Close idle connections before their peer does, after {seconds_text(lowest_s)} here, or let the peer wait "
            f"longer: {_advice(pool)}.",
            verdict=Verdict.UNDECIDED if keeps_few else Verdict.FAIL,
            stack_id=found.dead[-1].stack_id,
            measured=found.died_after / found.after,
            limit=0.0,
            unit="ratio",
            confidence=0.9,
            evidence={
                "idle_s": round(found.idle_s, 3),
                "longest_alive_s": round(found.longest_alive_s, 3),
                "died": found.died_after,
                "uses_after_longer": found.after,
                "died_after_less": found.died_before,
                "uses_after_less": found.before,
                "p": found.p,
                "idle_timeout_s": pool.settings.get("idle_timeout_s"),
            },
            needs=("`--collect pools,sockets`, to see who closed the connections",) if keeps_few else (),
        )

    def _seen_closed(self, profile: Profile, pool: Pool, dead: Dead) -> Finding:
        """Return what is said about a pool that lends connections which their peer has closed."""
        idle = f", after {seconds_text(dead.idle_s)} or longer without use" if dead.idle_s is not None else ""
        lowest_s = None if dead.closed_after_s is None else max(self.margin * dead.closed_after_s, self.min_idle_s)
        after = "" if lowest_s is None else f", after {seconds_text(lowest_s)} here"
        return pool_finding(
            "stale_reuse",
            pool,
            profile,
            f"{len(dead.uses)} connections of {pool.name} had been closed by their peer when {{site}} took them{idle}",
            f"Close idle connections before their peer does{after}, or let the peer wait longer: {_advice(pool)}.",
            stack_id=dead.uses[-1].stack_id,
            measured=len(dead.uses) / max(len(pool.checkouts), 1),
            limit=0.0,
            unit="ratio",
            confidence=0.95,
            evidence={
                "closed_by_peer_before": len(dead.uses),
                "moments": dead.moments,
                "idle_s": None if dead.idle_s is None else round(dead.idle_s, 3),
                "closed_after_s_at_most": None if dead.closed_after_s is None else round(dead.closed_after_s, 3),
                "uses": len(pool.checkouts),
                "idle_timeout_s": pool.settings.get("idle_timeout_s"),
            },
        )


def _advice(pool: Pool) -> str:
    """Return what a pool's library has for it."""
    return _ADVICE.get(str(pool.settings.get("library")), "look whether it is alive before each use")


RULE = StaleReuse()
