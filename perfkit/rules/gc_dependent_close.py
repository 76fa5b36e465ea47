"""The rule `gc_dependent_close`: do connections come back only because the interpreter frees what holds them?"""

from dataclasses import dataclass

from perfkit.analysis.gc_and_pools import Coupling, Debt, coupling, debt
from perfkit.analysis.pools import Pool, by_site
from perfkit.findings import Finding
from perfkit.pool_findings import judged, pool_finding, sampled
from perfkit.profile import Profile
from perfkit.units import three_digits


@dataclass(frozen=True)
class GcDependentClose:
    """Connections are not given back by the program but when their objects are freed.

    Why it matters: when that is, the garbage collector decides. A higher threshold, a frozen heap or a
    traceback that is kept makes it later, and the pool runs dry although nothing leaks; libraries
    close such a connection, or roll it back in the middle of a collection.
    Evidence: uses that ended because the object lent was freed (`pool_events.event` is collected), by the
    line that took the connection.
    Limits: libraries that keep a list of what is lent never free it, there it is a leak. Fewer than
    `min_uses` are not spoken of.
    Source: https://docs.sqlalchemy.org/en/20/errors.html#error-gcdp
    """

    min_uses: int = 3
    """One or two are what a debugger or a failed start leaves."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per line that leaves connections to the collector, or one per process."""

        def of_pool(pool: Pool) -> list[Finding]:
            return self._of_pool(pool, profile)

        return judged(profile, "gc_dependent_close", of_pool, "No connection was left to the garbage collector")

    def _of_pool(self, pool: Pool, profile: Profile) -> list[Finding]:
        """Return the findings for one pool."""
        found = []
        for uses in by_site(profile, pool.checkouts).values():
            freed = [use for use in uses if use.how == "collected"]
            if len(freed) < self.min_uses:
                continue
            owed = debt(profile, pool)
            known = coupling(profile, pool)
            longest_s = max(use.held_ns(pool.until_ns) for use in freed) / 1e9
            found.append(
                pool_finding(
                    "gc_dependent_close",
                    pool,
                    profile,
                    f"{{site}} leaves {len(freed)} of {len(uses)} connections of {pool.name} to the garbage collector"
                    f"{sampled(pool)}",
                    "Give them back explicitly, with a context manager or in a `finally` block" + _decides(owed, known),
                    stack_id=freed[-1].stack_id,
                    measured=len(freed) / len(uses),
                    limit=0.0,
                    unit="ratio",
                    confidence=0.95,
                    evidence={
                        "taken": len(uses),
                        "freed": len(freed),
                        "longest_s": round(longest_s, 3),
                        "freed_in_collections": known.freed_in_gc if known else None,
                        "settings_decide": owed is not None if known else None,
                        "waiting_now": round(owed.waiting(owed.threshold), 2) if owed else None,
                    },
                    needs=() if known else ("collections, recorded beside the pools (`--collect pools,gc`)",),
                )
            )
        return found


def _decides(owed: Debt | None, known: Coupling | None) -> str:
    """Return the end of the advice: whether the collector's settings decide when connections come back."""
    if owed is not None:
        return (
            f": {known.freed_in_gc if known else 0} came back in a collection. Until then the collector's settings "
            f"decide: at the first threshold of {owed.threshold:,} about "
            f"{three_digits(owed.waiting(owed.threshold))} wait for it, at ten times as much at least "
            f"{three_digits(owed.waiting(10 * owed.threshold))}."
        )
    if known is None:
        return "; until then keep the collector's thresholds as they are: higher ones may keep connections longer."
    return ". They come back when the last reference goes, not in collections: its settings change nothing about it."


RULE = GcDependentClose()
