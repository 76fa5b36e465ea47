"""The rule `hold_inefficiency`: are connections held while something else is done?"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from perfkit.analysis.pools import Pool, called_library, path_to, site_of
from perfkit.findings import Finding, Site, Verdict
from perfkit.pool_findings import judged, pool_finding, short
from perfkit.profile import Profile


@dataclass(frozen=True)
class HoldInefficiency:
    """Connections are held most of the time without being used, in a pool that others wait for.

    Why it matters: a connection that is held while another service is asked, or while something is computed,
    is one less for everybody else; the pool looks too small and is not.
    Evidence: looks at who holds connections, at random moments (`pool_holders`): in how many of them the
    server had answered already and nothing had been asked since; where the holder was then. Only where
    somebody waits for a connection, or the pool is at its limit.
    Limits: needs `min_looks` looks at uses that came back; TCP only. Uses of more than `long_use_s` are held
    on purpose (subscriptions, streams) and left out, and so are looks less than `moment_ms` after an answer.
    Source: https://www.kernel.org/doc/html/latest/networking/tcp_info.html (tcpi_last_data_sent, _recv)
    """

    min_looks: int = 20
    """A share of 0.8 of twenty has a 95 % interval from 0.58 to 0.92: more than half for sure."""
    unused_ratio: float = 0.7
    """Twice as long unused as used, with the next request of the same use on its way some of the time."""
    moment_ms: float = 5.0
    """What a program needs to take in an answer and ask again; tcp_info counts in milliseconds."""
    long_use_s: float = 10.0
    """Interactive uses are shorter."""
    waits_ratio: float = 0.2
    """Share of the readings at which the pool is full and somebody waits: one in five is no accident."""
    pressure_ratio: float = 0.9
    """Mean share of the limit in use from which on it matters who has them."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per pool that is held in vain, or one per process."""

        def of_pool(pool: Pool) -> list[Finding]:
            return self._of_pool(pool, profile)

        return judged(
            profile, "hold_inefficiency", of_pool, "No pool is short of connections that are not used", "ratio"
        )

    def _of_pool(self, pool: Pool, profile: Profile) -> list[Finding]:
        """Return the finding for one pool."""
        if not self._is_wanted(pool):
            return []
        looks = [
            row
            for row in self._looks(pool)
            if row["answered"] is not None and row["silent_ns"] is not None and row["held_ns"] < self.long_use_s * 1e9
        ]
        if len(looks) < self.min_looks:
            return []
        using = {stack for stack in {row["stack_id"] for row in looks} if _is_of(pool, called_library(profile, stack))}
        # A question that followed an answer within a tick of the kernel's clock looks answered; who waits knows better.
        unused = [
            row
            for row in looks
            if row["answered"] and row["silent_ns"] >= self.moment_ms * 1e6 and row["stack_id"] not in using
        ]
        if len(unused) < self.unused_ratio * len(looks):
            return []
        where = Counter(row["stack_id"] for row in unused if row["stack_id"] is not None)
        taken = Counter(row["taken_stack_id"] for row in unused if row["taken_stack_id"] is not None)
        stack_id = (where or taken).most_common(1)[0][0] if where or taken else None
        origin = site_of(profile, taken.most_common(1)[0][0]) if taken else None
        taken_at = f", taken at {short(Site(origin.function, origin.file, origin.line))}" if origin else ""
        ratio = len(unused) / len(looks)
        return [
            pool_finding(
                "hold_inefficiency",
                pool,
                profile,
                f"Connections of {pool.name} are not used {ratio:.0%} of the time that they are held: "
                f"their holders are at {{site}}{taken_at}",
                "Give the connection back before, and take one again after; fetch what is needed elsewhere first.",
                verdict=Verdict.FAIL,
                stack_id=stack_id,
                measured=ratio,
                limit=self.unused_ratio,
                unit="ratio",
                evidence={
                    "looks": len(looks),
                    "unused": len(unused),
                    "hold_p50_s": pool.hold_quantile_s(0.5),
                    "taken_at": path_to(profile, taken.most_common(1)[0][0]) if taken else [],
                },
            )
        ]

    def _is_wanted(self, pool: Pool) -> bool:
        """Whether anybody could have used another connection."""
        in_use = pool.gauge("in_use")
        if len(in_use) < 3:
            return False
        mean = sum(value for _at, value in in_use) / len(in_use)
        if (pool.never_returned() or 0.0) > 0.5 * mean:
            return False  # what makes it short are connections that do not come back
        if pool.full_at is None:
            return False
        full = [row for row in pool.states if row["waiting"] and (row["in_use"] or 0) >= pool.full_at]
        at_limit = pool.limit is not None and mean >= self.pressure_ratio * pool.limit
        return at_limit or len(full) >= self.waits_ratio * len(pool.states)

    def _looks(self, pool: Pool) -> list[dict[str, Any]]:
        """Return the looks at uses that came back."""
        starts = {(use.connection, use.holder): set[int]() for use in pool.returned}
        for use in pool.returned:
            starts[use.connection, use.holder].add(use.acquired_ns // 100_000_000)
        found = []
        for row in pool.looks:
            began = (row["at_ns"] - row["held_ns"]) // 100_000_000
            if starts.get((row["connection"], row["holder"]), set[int]()) & {began - 1, began, began + 1}:
                found.append(row)
        return found


def _is_of(pool: Pool, package: str | None) -> bool:
    """Whether a package is the pool's library, or the driver that it is named after: psycopg of psycopg_pool."""
    library = pool.name.partition(" ")[0].lower()
    return bool(package) and library.startswith(str(package).lower())


RULE = HoldInefficiency()
