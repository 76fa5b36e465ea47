"""The rule `self_deadlock`: does anybody wait for a second connection while the first is what others wait for?"""

from collections import Counter, defaultdict
from dataclasses import dataclass

from perfkit.analysis.abandonment import abandoned
from perfkit.analysis.pools import Checkout, Pool, Wait, by_site, path_to
from perfkit.findings import Finding
from perfkit.pool_findings import judged, pool_finding
from perfkit.profile import Profile


@dataclass(frozen=True)
class SelfDeadlock:
    """Tasks or threads that hold a connection wait for another one of the same pool.

    Why it matters: when as many do as there are connections, none of them can go on: the service stands still
    until they time out, or for ever, with a database that does nothing. It happens at the first burst.
    Evidence: waits of `min_wait_s` and longer, or in vain, of holders that had a connection of the same pool
    all the while (`pool_events`), at least `min_waits` of them.
    Connections that were left behind do not count as held.
    Limits: sees a hold and a wait of one task or thread; a request that spreads over several is not one.
    A nested acquisition that never had to wait is not spoken of.
    Source: https://github.com/brettwooldridge/HikariCP/wiki/About-Pool-Sizing (Pool-locking)
    """

    min_wait_s: float = 1.0
    """Shorter waits are a busy pool's; they end by themselves."""
    min_waits: int = 2
    """A deadlock over one pool takes two, or a pool of one connection and the same one twice."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per pool that is locked, or one per process."""

        def of_pool(pool: Pool) -> list[Finding]:
            return self._of_pool(pool, profile)

        return judged(profile, "self_deadlock", of_pool, "Nobody waited long for a second connection of one pool")

    def _of_pool(self, pool: Pool, profile: Profile) -> list[Finding]:
        """Return the finding for one pool."""
        in_use = pool.gauge("in_use")
        if pool.full_at is None or not in_use or max(value for _at, value in in_use) < pool.full_at:
            return []  # whoever waited waited for a connection to be made
        left_behind = {
            id(use)
            for uses in by_site(profile, pool.checkouts).values()
            for kept in [abandoned(uses, pool.until_ns)]
            for use in (*kept.strong, *kept.weak)
        }
        held: defaultdict[int, list[Checkout]] = defaultdict(list)
        for use in pool.checkouts:
            if use.holder is not None and id(use) not in left_behind:
                held[use.holder].append(use)
        late = [
            Wait("acquired", use.acquired_ns - use.wait_ns, use.wait_ns, use.holder, use.stack_id)
            for use in pool.checkouts
            if use.wait_ns is not None and use.wait_ns >= self.min_wait_s * 1e9
        ]
        waits = [wait for wait in pool.waits if wait.event == "timeout" or wait.wait_ns >= self.min_wait_s * 1e9]
        nested = [(wait, outer) for wait in (*waits, *late) if (outer := _outer(wait, held, pool.until_ns)) is not None]
        if len(nested) < min(self.min_waits, pool.full_at):
            return []
        stack_id = Counter(wait.stack_id for wait, _outer in nested).most_common(1)[0][0]
        most = max(Counter((wait.holder, wait.wished_ns) for wait, _outer in nested).values()) + 1
        holders = len({wait.holder for wait, _outer in nested})
        enough = holders * (most - 1) + 1
        return [
            pool_finding(
                "self_deadlock",
                pool,
                profile,
                f"{len(nested)} times {{site}} waited for a second connection of {pool.name} while it held the first",
                "Take one connection per request and pass it on, or take both at once; if that cannot be, allow at "
                f"least {enough} connections for {holders} at a time.",
                stack_id=stack_id,
                measured=float(len(nested)),
                limit=0.0,
                confidence=0.95,
                evidence={
                    "limit": pool.full_at,
                    "in_vain": sum(wait.event != "acquired" for wait, _outer in nested),
                    "holders": holders,
                    "longest_wait_s": round(max(wait.wait_ns for wait, _outer in nested) / 1e9, 3),
                    "first_taken_at": path_to(profile, nested[0][1].stack_id),
                },
            )
        ]


RULE = SelfDeadlock()


def _outer(wait: Wait, held: dict[int, list[Checkout]], until_ns: int) -> Checkout | None:
    """Return the connection that somebody had during the whole of a wait."""
    if wait.holder is None:
        return None
    for use in held.get(wait.holder, ()):
        ended_ns = until_ns if use.ended_ns is None else use.ended_ns
        if use.acquired_ns <= wait.wished_ns and ended_ns >= wait.wished_ns + wait.wait_ns:
            return use
    return None
