"""The rule `ghost_slot`: is a slot of a pool taken although there is no connection in it and nobody makes one?"""

from collections import Counter
from dataclasses import dataclass

from perfkit.analysis.pools import Pool
from perfkit.findings import Finding
from perfkit.pool_findings import judged, pool_finding
from perfkit.profile import Profile


@dataclass(frozen=True)
class GhostSlot:
    """A pool counts connections that do not exist.

    Why it matters: the pool shrinks without anybody noticing: its counters say "busy", the kernel says that
    there is no socket. When the last slot is gone, requests time out while the upstream is idle and healthy.
    Evidence: slots without a connection, without a request on them and without anybody who connects
    (`pool_states.ghosts`), at every reading of the last `min_stay_s`; and what gave up before.
    Limits: only where the pool's own lists tell slots from connections (httpcore). A slot that is
    cleared away later than `min_stay_s` looks the same.
    Source: https://github.com/encode/httpcore/issues/1093
    """

    min_stay_s: float = 5.0
    """Longer than connecting takes where it succeeds; the pools that are known connect in a request's own time."""
    min_readings: int = 3
    """So many readings in a row are no coincidence."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per pool with ghosts, or one per process."""

        def of_pool(pool: Pool) -> list[Finding]:
            return self._of_pool(pool, profile)

        return judged(profile, "ghost_slot", of_pool, "Every slot that is taken has a connection, or somebody makes it")

    def _of_pool(self, pool: Pool, profile: Profile) -> list[Finding]:
        """Return the finding for one pool."""
        readings = pool.gauge("ghosts")
        if not readings:
            return []
        last = [ghosts for at, ghosts in readings if at >= readings[-1][0] - self.min_stay_s * 1e9]
        if len(last) < self.min_readings or not min(last):
            return []
        gave_up = [wait for wait in pool.waits if wait.event in ("cancelled", "failed")]
        stacks = Counter(wait.stack_id for wait in gave_up if wait.stack_id is not None)
        stack_id = stacks.most_common(1)[0][0] if stacks else None
        ghosts = min(last)
        of = f" of {pool.limit}" if pool.limit else ""
        return [
            pool_finding(
                "ghost_slot",
                pool,
                profile,
                f"{ghosts}{of} slots of {pool.name} are taken by nobody and have no connection"
                + ("; requests from {site} were cancelled before they had one" if stack_id is not None else ""),
                "Upgrade the library, or make the client anew when they pile up; do not cancel a request that has not "
                "been sent (shield it), and set a limit well above what is needed until then.",
                stack_id=stack_id,
                measured=float(ghosts),
                limit=0.0,
                confidence=0.95,
                evidence={
                    "limit": pool.limit,
                    "ghosts": [readings[0][1], readings[-1][1]],
                    "cancelled_or_failed": len(gave_up),
                },
            )
        ]


RULE = GhostSlot()
