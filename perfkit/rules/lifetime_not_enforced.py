"""The rule `lifetime_not_enforced`: are connections used after the lifetime that was set for them?"""

from collections import Counter
from dataclasses import dataclass

from perfkit.analysis.pools import Pool
from perfkit.findings import Finding
from perfkit.pool_findings import judged, pool_finding
from perfkit.profile import Profile
from perfkit.units import seconds_text


@dataclass(frozen=True)
class LifetimeNotEnforced:
    """Connections are lent although they are older than the pool's maximum lifetime.

    Why it matters: the lifetime is set below what a server, a proxy or a firewall allows. A pool that looks at it
    only when a connection comes back lends an expired one once more, and that request fails.
    Evidence: the age of connections when they were lent (`pool_events`) against the pool's setting; at least
    `min_uses` beyond it by more than the tolerance.
    Limits: of connections that were there before the recording only the time since then is known. Shows
    nothing in a recording that is shorter than the lifetime.
    Source: https://github.com/psycopg/psycopg/issues/584
    """

    tolerance_ratio: float = 0.1
    """Pools draw lifetimes at random by some percent; psycopg's by up to 5 %."""
    tolerance_s: float = 0.5
    """Handing over and checking take a moment."""
    min_uses: int = 2
    """One use may be a race with the clock."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per pool that lends expired connections, or one per process."""

        def of_pool(pool: Pool) -> list[Finding]:
            return self._of_pool(pool, profile)

        return judged(profile, "lifetime_not_enforced", of_pool, "No connection was lent beyond its lifetime", "s")

    def _of_pool(self, pool: Pool, profile: Profile) -> list[Finding]:
        """Return the finding for one pool."""
        lifetime_s = pool.settings.get("max_lifetime_s")
        if not isinstance(lifetime_s, int | float) or lifetime_s <= 0:
            return []
        allowed_s = lifetime_s * (1 + self.tolerance_ratio) + self.tolerance_s
        late = [
            (age_s, use.stack_id)
            for use in pool.checkouts
            if (age_s := pool.age_s(use.connection, use.acquired_ns)) is not None and age_s > allowed_s
        ]
        if len(late) < self.min_uses:
            return []
        oldest_s = max(age_s for age_s, _stack in late)
        return [
            pool_finding(
                "lifetime_not_enforced",
                pool,
                profile,
                f"{len(late)} of {len(pool.checkouts)} connections that {pool.name} lent were older than its maximum "
                f"lifetime of {seconds_text(lifetime_s)}, up to {seconds_text(oldest_s)}; {{site}} got most of them",
                "This pool looks at the age when a connection comes back. Have it check idle ones (`check`, a ping, "
                "or its own `check()` from a timer), and set the lifetime below the server's by the longest idle time.",
                stack_id=Counter(stack for _age, stack in late).most_common(1)[0][0],
                measured=oldest_s,
                limit=allowed_s,
                unit="s",
                evidence={"lifetime_s": lifetime_s, "late": len(late), "lent": len(pool.checkouts)},
            )
        ]


RULE = LifetimeNotEnforced()
