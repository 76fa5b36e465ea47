"""The rule `unbounded_wait`: does anybody wait for a connection without a deadline, and for long?"""

from collections import Counter
from dataclasses import dataclass

from perfkit.analysis.pools import Pool
from perfkit.findings import Finding
from perfkit.pool_findings import judged, pool_finding
from perfkit.profile import Profile
from perfkit.units import seconds_text


@dataclass(frozen=True)
class UnboundedWait:
    """Requests wait for a connection for as long as it takes.

    Why it matters: without a deadline a pool that is used up turns into requests that hang, pile up
    and take memory with them, until something far outside gives up; with one it is an error that is seen.
    Evidence: the pool's setting says that waiting has no deadline, and somebody waited for `min_wait_s` or
    longer without an end, or until the end of the recording (`pool_events`).
    Limits: a deadline that the caller sets around the wait is known only if it has struck; then this
    rule says nothing. A pool without a deadline that nobody had to wait for is not spoken of.
    Source: https://magicstack.github.io/asyncpg/current/api/index.html#asyncpg.pool.Pool.acquire
    """

    min_wait_s: float = 5.0
    """More than an interactive request has in all."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per pool with endless waits, or one per process."""

        def of_pool(pool: Pool) -> list[Finding]:
            return self._of_pool(pool, profile)

        return judged(profile, "unbounded_wait", of_pool, "Nobody waited long for a connection without a deadline", "s")

    def _of_pool(self, pool: Pool, profile: Profile) -> list[Finding]:
        """Return the finding for one pool."""
        if pool.settings.get("acquire_timeout_s", 0) is not None:
            return []
        waits = [(wait.wait_ns, wait.stack_id) for wait in pool.waits if wait.event == "waiting"]
        waits += [(use.wait_ns, use.stack_id) for use in pool.checkouts if use.wait_ns is not None]
        waits = [each for each in waits if each[0] >= self.min_wait_s * 1e9]
        if not waits or any(wait.event in ("cancelled", "timeout") for wait in pool.waits if wait.wait_ns > 1e8):
            return []
        longest_s = max(wait_ns for wait_ns, _stack in waits) / 1e9
        return [
            pool_finding(
                "unbounded_wait",
                pool,
                profile,
                f"{{site}} waits for a connection of {pool.name} without a deadline: "
                f"{len(waits)} waited for {seconds_text(self.min_wait_s)} or longer, up to {seconds_text(longest_s)}",
                "Give `acquire` a timeout shorter than the request's own, and answer with an error when it strikes.",
                stack_id=Counter(stack for _wait, stack in waits).most_common(1)[0][0],
                measured=longest_s,
                limit=self.min_wait_s,
                unit="s",
                evidence={"waits": len(waits), "limit": pool.limit},
            )
        ]


RULE = UnboundedWait()
