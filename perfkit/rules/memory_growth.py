"""The rule `memory_growth`: does the memory of a process grow without end, what holds it, which line allocates it.

The decision is here, from top to bottom. Its numbers come from `perfkit.analysis` (`growth` gathers them, `holders`,
`filling_pools` and `growth_rates` say what they mean), its words are in `perfkit.growth_findings`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import perfkit.growth_findings as say
from perfkit.analysis.filling_pools import explains, filling_pool, is_of_pool
from perfkit.analysis.growth import MIN_RUNGS, ContainerGrowth, Evidence, FillingPool, gather
from perfkit.analysis.growth_rates import (
    are_types_flat,
    fastest_first,
    is_outside_of_python,
    makes_items,
    rate_of,
    rate_window_s,
    sites_held_by_nobody,
    sites_of,
    sites_outside_of_python,
    takes_the_place,
)
from perfkit.analysis.holders import (
    is_collected,
    is_garbage,
    is_queue,
    is_replaced,
    limits_of,
    may_have_limit,
    open_limit,
)
from perfkit.analysis.ledger import Growth
from perfkit.analysis.naming import numbers
from perfkit.analysis.survival import MIN_POINTS, SiteGrowth
from perfkit.analysis.trends import Slope
from perfkit.findings import Finding, Verdict
from perfkit.profile import Profile

_URGENCY = {Verdict.FAIL: 0, Verdict.UNDECIDED: 1, Verdict.PASS: 2}
_REST_RATIO = 2.0
"""Growth of the process is not explained by its holders when it is more than this times theirs."""


@dataclass(frozen=True)
class MemoryGrowth:
    """Memory of the process grows and does not come back.

    Why it matters: a process that gives nothing back is killed when it reaches its limit, with
    every request in flight. The line that allocates and the container that keeps the objects
    are what one needs to fix it; a full cache or a busy minute needs no fix at all.
    Evidence: what grew between two snapshots of the heap, by the way it is reached; containers
    that got longer at every rung; types whose number rises (Mann-Kendall, Benjamini-Hochberg);
    the slope of live bytes of each allocation site with its interval (Theil-Sen); survivors old
    enough to count; who inserts into a container and who removes from it; and which part of the
    resident memory grew. The verdict is a leak only when a holder and its memory both keep
    growing to the end.
    Limits: a cache whose limit perfkit cannot see, and which does not reach it while it is
    recorded, looks like a leak. While the allocation tracer is attached, growth outside of
    Python's objects below `tracer_bytes_per_s` is taken for the tracer's own. Objects allocated
    before the recording have no allocation line. Needs `min_window_s`.
    Source: https://docs.python.org/3/library/gc.html (what a census can see)
    """

    min_window_s: float = 12.0
    """Shorter windows cannot tell growth from the noise of requests in flight."""
    horizon_s: float = 86_400.0
    """Growth counts when it takes `limit_share` of the memory limit within this time."""
    limit_share: float = 0.05
    min_bytes_per_s: float = 32_768 / 60
    """Growth above 32 KiB per minute counts whatever the limit is: half of the slowest leak that is to be found
    within 15 minutes, whose measured rate may be off."""
    noise_factor: float = 5.0
    """The whole rise against the median deviation of the readings: four standard errors of the slope of 20 readings."""
    tracer_bytes_per_s: float = 100_000.0
    """What the allocation tracer may take for itself. Measured with memray 1.20 on 200 small tasks
    per second: 5 MB when it arrives, then less than 100 bytes/s; each new stack takes more."""
    min_count: int = 10
    """Threads or descriptors that must have been added before they are called a leak."""
    few_steps_share: float = 0.01
    """Part of the anonymous memory from which on growth counts that had too few steps for a trend."""
    max_p: float = 0.001
    """Largest chance of such a rise without a trend, where few series are asked and nothing else speaks for one."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per process."""
        return [self.judge(gather(profile, pid)) for pid in profile.pids] or [
            say.too_little(None, "No process was recorded", "a recording of a process")
        ]

    def judge(self, evidence: Evidence) -> Finding:
        """Return the finding for one process: the most urgent of what can be said, the fastest growth first."""
        if lacking := self._lacking(evidence):
            finding = say.too_little(evidence.pid, "Not recorded long enough to judge the memory", *lacking)
        else:
            finding = self._most_urgent(evidence)
        rate, gate = finding.rate_bytes_per_s, self.gate_bytes_per_s(evidence)
        found = numbers(evidence) | {"rate_window_s": rate_window_s(evidence, rate[1]) if rate else None}
        return replace(finding, limit=finding.limit or gate, evidence=found | dict(finding.evidence))

    def gate_bytes_per_s(self, evidence: Evidence) -> float:
        """Return the growth from which on it matters, in bytes per second."""
        if evidence.limit is None:
            return self.min_bytes_per_s
        return min(self.min_bytes_per_s, self.limit_share * evidence.limit.limit_bytes / self.horizon_s)

    def _lacking(self, evidence: Evidence) -> list[str]:
        """Return what is missing for any verdict."""
        if not (evidence.rungs or evidence.readings or evidence.moments):
            return ["a recording of the memory: `--collect heap,objects,process`"]
        if evidence.window_s < self.min_window_s:
            seconds = math.ceil(self.min_window_s + evidence.since_s + 1)
            return [f"at least {seconds} s of recording (there are {evidence.window_s:.0f} s after the warm-up)"]
        if evidence.rungs < MIN_RUNGS and evidence.readings < MIN_POINTS and evidence.moments < MIN_POINTS:
            return [f"{MIN_RUNGS} censuses, or {MIN_POINTS} readings of the memory"]
        return []

    def _most_urgent(self, evidence: Evidence) -> Finding:
        """Return the most urgent of what is known of counts, holders and growth that nothing is seen to hold.

        Threads or descriptors that leak come first: they bring memory with them. A pool that has them, by its
        events or by heap and code, excuses what it opened and nothing else: a leak beside it is more urgent.
        """
        pools = [evidence.filling_pool] if evidence.filling_pool is not None else []
        of_pools = []
        for class_, growth in self._piling_up(evidence):
            pool = filling_pool(evidence, class_, growth)
            if pool is None:
                return self._counted_leak(evidence, class_, growth)
            is_known = pool.limit is not None and explains(pool, growth)
            verdict = Verdict.PASS if is_known else Verdict.UNDECIDED
            of_pools.append(say.counted_in_pool(evidence, verdict, class_, growth, pool, self.min_count))
            pools.append(pool)
        # Of equally urgent ones the first: the pools, then the fastest.
        found = [*of_pools, *self._of_memory(evidence, pools)]
        return min(found, key=lambda finding: _URGENCY[finding.verdict]) if found else self._nothing(evidence)

    def _of_memory(self, evidence: Evidence, pools: Sequence[FillingPool]) -> list[Finding]:
        """Return what holds the growth, the fastest first; and where none of it leaks, what else grows."""
        found = [*self._held(evidence, pools)]
        if any(finding.verdict is Verdict.FAIL for finding in found):
            return found
        found += [each for each in (self._levelling_off(evidence),) if each is not None]
        explained = sum(finding.measured or 0.0 for finding in found)
        rest = self._not_held(evidence)
        if rest is not None and (rest.measured or 0.0) > _REST_RATIO * explained:
            found.append(rest)
        return found

    def _piling_up(self, evidence: Evidence) -> Iterator[tuple[str, Growth]]:
        """Yield the class that a leak of threads or descriptors has, and their growth, where it goes on to the end."""
        held = _growing_with(evidence)
        for class_, growth in (("thread_leak", evidence.threads), ("fd_leak", evidence.descriptors)):
            if growth is None or growth.persistence_ratio < 0.5 or growth.p_rising > self.max_p:
                continue
            if growth.last - growth.first < self.min_count or growth.shape.filled or growth.shape.name == "step":
                continue
            if held is not None and held.items_per_s.estimate > 3 * growth.slope.estimate:
                continue  # a few descriptors beside a much faster pile: not the cause
            yield class_, growth

    def _counted_leak(self, evidence: Evidence, class_: str, growth: Growth) -> Finding:
        """Return the finding for threads or descriptors that no pool has."""
        held = _growing_with(evidence)
        sites = sites_of(evidence, held) if held else ()
        return say.counted_leak(evidence, class_, growth, held, sites, self.min_count)

    def _held(self, evidence: Evidence, pools: Sequence[FillingPool]) -> Iterator[Finding]:
        """Yield a finding for each holder that keeps growing, the fastest first."""
        growing = [each for each in evidence.containers if each.keeps_growing and not is_collected(evidence, each)]
        for held in fastest_first(evidence, growing):
            sites = sites_of(evidence, held)
            rate = rate_of(evidence, sites, held)
            if rate is None or not rate.grows:
                if held.owner and not evidence.heap_growth:
                    yield say.rate_unknown(evidence, held, sites, rate)
            elif rate.estimate < self.gate_bytes_per_s(evidence):
                yield say.too_slow(evidence, held, sites, rate)
            else:
                yield _beside_pools(_of_holder(evidence, held, sites, rate), held, pools)

    def _levelling_off(self, evidence: Evidence) -> Finding | None:
        """Return the finding when containers grew but slow down, or follow the load."""
        gate = self.gate_bytes_per_s(evidence)
        kinds = {each.type for each in evidence.types}
        for held in (each for each in evidence.containers if each.owner and not each.keeps_growing):
            if is_collected(evidence, held):
                continue
            sites = [each for each in sites_of(evidence, held) if makes_items(each, held)]
            rate = rate_of(evidence, sites, held)
            if rate is None or rate.estimate < gate or held.p > self.max_p:
                continue
            if not (sites or held.pile is not None or held.item_type in kinds):
                continue
            if held.follows_load:
                return say.load_proportional(evidence, held, rate)
            return say.levels_off(evidence, held, sites, rate)
        return None

    def _not_held(self, evidence: Evidence) -> Finding | None:
        """Return the finding when memory grows that no container of Python is seen to hold."""
        parts, gate = evidence.ledger, self.gate_bytes_per_s(evidence)
        if native := self._native(evidence):
            return native
        in_use = self._mattering((parts.glibc_in_use,), max(gate, self.tracer_bytes_per_s if evidence.traced else 0.0))
        if in_use and is_outside_of_python(evidence, in_use[0].slope):
            rate = in_use[0].slope
            return say.native_leak(evidence, sites_outside_of_python(evidence, rate), rate)
        anon = self._mattering((parts.anon, parts.shmem), gate)
        if not anon:
            return self._cached(evidence)
        rate = anon[0].slope
        kept = self._mattering((parts.glibc_retained, parts.pymalloc_free), gate)
        if sum(each.slope.estimate for each in kept) >= 0.7 * rate.estimate:
            return say.kept_by_allocator(evidence, rate)
        sites = [each for each in evidence.sites if each.keeps_growing]
        if self._is_of_tracer(evidence, sites, rate):
            return None
        return say.holder_not_seen(evidence, sites, rate, counted=evidence.rungs >= MIN_RUNGS)

    def _native(self, evidence: Evidence) -> Finding | None:
        """Return the finding when allocations survive that Python's objects do not account for.

        The tracer sees allocations of extensions and of C code called by ctypes as well as those of
        objects; two snapshots of the heap say how much of the growth is objects.
        """
        sites = sites_held_by_nobody(evidence)
        if evidence.heap is None or not sites:
            return None
        rate = evidence.heap.slope([each.site for each in sites])
        if rate is None or not rate.grows or rate.estimate < self.gate_bytes_per_s(evidence):
            return None
        snapshots = evidence.heap_growth
        if snapshots is None or not snapshots.is_whole or not is_outside_of_python(evidence, rate):
            return None
        return None if takes_the_place(evidence, sites, rate) else say.native_leak(evidence, sites, rate)

    def _is_of_tracer(self, evidence: Evidence, sites: Sequence[SiteGrowth], rate: Slope) -> bool:
        """Whether slow growth is the tracer's own memory: neither the traced heap nor any type grows."""
        gate = self.gate_bytes_per_s(evidence)
        traced = sites and self._mattering((evidence.ledger.traced,), gate)
        surely = sum(each.bytes_per_s.estimate for each in sites if each.p_leak >= 0.9) >= gate
        is_slow = evidence.traced and rate.estimate < self.tracer_bytes_per_s
        return is_slow and (are_types_flat(evidence) or not (traced or surely))

    def _cached(self, evidence: Evidence) -> Finding | None:
        """Return the finding when pages grow that the kernel can take back.

        Not while the tracer writes its file, which is page cache too; and the cache of the control
        group counts only where the group has a limit.
        """
        if evidence.traced:
            return None
        parts, limit = evidence.ledger, evidence.limit
        grouped = limit is not None and limit.grouped
        cache = (parts.file, parts.cgroup_cache) if grouped else (parts.file,)
        growing = self._mattering(cache, self.gate_bytes_per_s(evidence))
        if not growing:
            return None
        return say.page_cache(evidence, max((each.slope for each in growing), key=lambda slope: slope.estimate))

    def _nothing(self, evidence: Evidence) -> Finding:
        """Return the finding when nothing grows that matters, or when too little was looked at to say so."""
        anon, gate = evidence.ledger.anon, self.gate_bytes_per_s(evidence)
        if (held := self._in_few_steps(evidence)) is not None:
            return say.in_few_steps(evidence, held, sites_of(evidence, held))
        if evidence.rungs >= MIN_RUNGS or evidence.heap_growth is not None:
            return say.no_growth(evidence, confidence=0.95 if evidence.moments >= MIN_POINTS else 0.8)
        if anon is None or anon.slope.high >= gate:
            return say.too_little(
                evidence.pid,
                "No growth was seen, but growth that matters could hide in the noise",
                "a census of the objects: `--collect objects`, or a longer recording",
            )
        return say.no_growth(evidence, confidence=0.8, below_bytes_per_s=gate)

    def _in_few_steps(self, evidence: Evidence) -> ContainerGrowth | None:
        """Return what got so few more items that no trend shows, of a size that the memory shows; None: nothing did.

        Two snapshots alone may have met a request at work; then the traced memory does not grow with it.
        """
        traced, anon = evidence.ledger.traced, evidence.ledger.anon
        if traced is None or anon is None:
            return None
        least = max(self.gate_bytes_per_s(evidence) * evidence.between_s, self.few_steps_share * anon.last)
        for held in evidence.containers:
            is_few = 0 < held.last - held.first < say.FEW_STEPS
            if held.pile is None or held.rungs >= MIN_RUNGS or not is_few or is_garbage(held):
                continue
            shown = traced.p_rising <= self.max_p and traced.slope.estimate >= 0.5 * (held.bytes_per_s or math.inf)
            if shown and held.pile.bytes >= least:
                return held
        return None

    def _mattering(self, parts: Sequence[Growth | None], gate: float) -> list[Growth]:
        """Return the parts of the memory that keep growing by more than the gate and their own noise."""
        return [
            each
            for each in parts
            if each is not None
            and each.keeps_growing
            and each.slope.estimate >= gate
            and each.slope.estimate * each.window_s >= self.noise_factor * each.noise_bytes
        ]


def _growing_with(evidence: Evidence) -> ContainerGrowth | None:
    """Return the container that keeps growing while threads or descriptors pile up; None: none does."""
    return next((each for each in evidence.containers if each.owner and each.keeps_growing), None)


def _of_holder(evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth], rate: Slope) -> Finding:
    """Return what growth by more than the gate means for its holder."""
    if is_garbage(held):
        return say.garbage(evidence, held, sites, rate)
    if (limit_items := open_limit(held)) is not None:
        return say.filling(evidence, held, sites, rate, limit_items)
    if is_queue(held):
        return say.backlog(evidence, held, sites, rate)
    if is_replaced(held):
        return say.replaced_by_more(evidence, held, sites, rate)
    if ends := limits_of(held):
        return say.bounded_by_code(evidence, held, sites, rate, ends)
    if may_have_limit(held):
        return say.limit_not_seen(evidence, held, sites, rate)
    return say.leak(evidence, held, sites, rate)


def _beside_pools(finding: Finding, held: ContainerGrowth, pools: Sequence[FillingPool]) -> Finding:
    """Return a leak undecided that is no more than what a pool opened; the pool's own queue is no backlog."""
    for pool in pools:
        is_its_queue = finding.class_ == "backlog" and held is pool.container
        if is_its_queue or (finding.class_ == "python_leak" and is_of_pool(pool, held)):
            return say.no_more_than_pool(finding, pool)
    return finding


RULE = MemoryGrowth()
