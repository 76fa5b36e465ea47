"""The rule `memory_growth`: does the memory of a process grow without end, what holds it, which line allocates it."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perfkit.analysis.growth import MIN_RUNGS, CodePlace, ContainerGrowth, Evidence, gather
from perfkit.analysis.heap_growth import held_below
from perfkit.analysis.ledger import Growth
from perfkit.analysis.naming import holder_name, numbers, place_text, short_type
from perfkit.analysis.survival import MIN_POINTS, Place, SiteGrowth
from perfkit.analysis.trends import Slope
from perfkit.findings import Finding, Site, Verdict
from perfkit.profile import Profile
from perfkit.units import bytes_text, seconds_text

_CAN_BE_BOUNDED = re.compile(r"(^|\.)deque$|_lru_cache_wrapper$|^cachetools\.|(^|\.)\w*(LRU|TTL|LFU)\w*$")
"""Types that can have a limit of their own; growth proves nothing where neither it nor its absence is known."""
_QUEUE = re.compile(r"queue", re.IGNORECASE)
_CACHE = re.compile(r"cache|memo(?!ry)|lru", re.IGNORECASE)
_ENDS = re.compile(
    r"_*(clear|close|reset|stop|shutdown|drain|tear_?down|exit|del|free|dispose|abort|invalidate)", re.IGNORECASE
)
"""Names of functions that empty what they belong to at its end: that they exist does not limit anything."""
_HOW = {"bounds": "keeps it below a length", "expires": "removes what is too old", "evicts": "empties it"}
_URGENCY = {Verdict.FAIL: 0, Verdict.UNDECIDED: 1, Verdict.PASS: 2}
_OF_POOL = 0.6
"""Share of the descriptors that are more which a pool's connections make up, from which on they are what grows."""
_PER_CONNECTION = 1.25
"""Items per connection opened that are what a pool keeps of it: one, and those that are being made."""
_REST_RATIO = 2.0
"""Growth of the process is not explained by its holders when it is more than this times theirs."""
_SURVIVES = 0.5
"""A line of whose allocations fewer survive does something else, too."""
_MAX_LEAVES = 50
"""Survivors per item that a line may leave and still be taken for what makes the items."""
_DESCRIPTORS = re.compile(r"(^|\.)(socket|SSLSocket|FileIO|Popen|\w*Transport)$")
_THREADS = re.compile(r"^threading\.(Thread|Timer)$|\.\w*Thread$")
"""Types of objects that own a descriptor or a thread."""
_POOLED_RATIO = 0.4
"""Part of the descriptors or threads that were added which a pool must keep to be what they are for."""
_MOSTLY = 0.5
_MAPPED_BYTES = 65_536
"""Half of what glibc takes from the kernel directly (M_MMAP_THRESHOLD): smaller allocations are in its own books."""
_MINOR_RATIO, _MOST_RATIO = 0.1, 1.5
"""Parts of what piles up that a line must leave at least, and may leave at most, to be taken for what makes it."""
_SIZE_RATIO = 0.06
"""By how much sizes of objects may be off: they leave out what the allocator adds to each."""
_UNSURE_RATIO = 0.2
"""Half the width of the interval of a rate that only two snapshots tell."""


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
    max_p: float = 0.001
    """Largest chance of such a rise without a trend, where few series are asked and nothing else speaks for one."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per process."""
        return [self.judge(gather(profile, pid)) for pid in profile.pids] or [
            _undecided(None, "No process was recorded", ("a recording of a process",))
        ]

    def judge(self, evidence: Evidence) -> Finding:
        """Return the finding for one process: the most urgent of what can be said, the fastest growth first."""
        if lacking := self._lacking(evidence):
            finding = _undecided(evidence.pid, "Not recorded long enough to judge the memory", tuple(lacking))
        else:
            finding = _beside_pool(evidence, self._counted(evidence) or self._of_holders(evidence))
        gate = self.gate_bytes_per_s(evidence)
        found = numbers(evidence) | {"rate_window_s": _rate_window_s(evidence, finding)}
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

    def _of_holders(self, evidence: Evidence) -> Finding:
        """Return the most urgent finding about what holds the growth, or about growth that nothing is seen to hold."""
        found = [*self._held(evidence)]
        if not any(finding.verdict is Verdict.FAIL for finding in found):
            found += [each for each in (self._levelling_off(evidence),) if each is not None]
            explained = sum(finding.measured or 0.0 for finding in found)
            rest = self._not_held(evidence)
            if rest is not None and (rest.measured or 0.0) > _REST_RATIO * explained:
                found.append(rest)
        found.sort(key=lambda finding: _URGENCY[finding.verdict])
        return found[0] if found else self._nothing(evidence)

    def _counted(self, evidence: Evidence) -> Finding | None:
        """Return the finding for threads or descriptors that pile up."""
        held = next((each for each in evidence.containers if each.owner and each.keeps_growing), None)
        for class_, what, ends, growth, added in (
            ("thread_leak", "threads", "end and do", evidence.threads, evidence.threads_added),
            ("fd_leak", "open descriptors", "be closed and are", evidence.descriptors, evidence.descriptors_added),
        ):
            if growth is None or growth.persistence_ratio < 0.5 or growth.p_rising > self.max_p:
                continue
            if growth.last - growth.first < self.min_count or growth.shape.filled or growth.shape.name == "step":
                continue
            if held is not None and held.items_per_s.estimate > 3 * growth.slope.estimate:
                continue  # a few descriptors beside a much faster pile: not the cause
            pool = evidence.filling_pool if class_ == "fd_leak" else None
            if pool is not None and pool.last - pool.first >= _OF_POOL * (growth.last - growth.first):
                continue  # a pool that warms up; connections that are not given back are for `checkout_leak`
            kept = next((each for each in evidence.containers if _is_pool_of(evidence, each, class_, growth)), None)
            if kept is not None:
                return self._pooled(evidence, kept, what, growth)
            mostly = f", mostly {added.what}" if added else ""
            beside = (
                f"{holder_name(held.owner, held.type)} grows with them." if held else "no container grows with them."
            )
            finding = _finding(
                evidence,
                Verdict.FAIL,
                class_,
                f"The number of {what} grows by {growth.slope.estimate:.2g} per second, "
                f"from {growth.first:.0f} to {growth.last:.0f}{mostly}",
                f"Find out where {what} should {ends} not; {beside}",
                holder=held,
                sites=sites_of(evidence, held) if held else (),
                measured=growth.slope.estimate,
                limit=self.min_count / max(growth.window_s, 1.0),
                unit="1/s",
                confidence=0.9,
            )
            start = added.start if added else None
            # Who starts a thread puts it into the list of those that run.
            return replace(finding, site=_site(start), insertion=_site(start)) if start is not None else finding
        return None

    def _pooled(self, evidence: Evidence, pool: ContainerGrowth, what: str, growth: Growth) -> Finding:
        """Return the finding for threads or descriptors that pile up in a container which code limits."""
        name, ends = holder_name(pool.owner, pool.type), limits_of(pool)
        at_most = f"it holds at most {pool.limit_items:,}" if pool.limit_items else f"{place_text(ends[0])} limits it"
        return _finding(
            evidence,
            Verdict.UNDECIDED,
            "filling",
            f"The number of {what} grows by {growth.slope.estimate:.2g} per second, from {growth.first:.0f} to "
            f"{growth.last:.0f}; {name} keeps them, and {at_most}",
            f"Nothing to do if {name} stops growing.",
            holder=pool,
            measured=growth.slope.estimate,
            limit=self.min_count / max(growth.window_s, 1.0),
            unit="1/s",
            confidence=0.7,
            needs=(f"a recording of {seconds_text(max(4 * evidence.window_s, 60))}, to see whether it stops",),
        )

    def _held(self, evidence: Evidence) -> Iterator[Finding]:
        """Yield a finding for each holder that keeps growing by more than the gate, the fastest first."""
        gate = self.gate_bytes_per_s(evidence)
        growing = [each for each in evidence.containers if each.keeps_growing and not _is_collected(evidence, each)]
        for held in sorted(growing, key=lambda each: _weight(evidence, each)):
            sites = sites_of(evidence, held)
            rate = rate_of(evidence, sites, held)
            if rate is None or not rate.grows:
                if held.owner and not evidence.heap_growth:
                    yield self._rate_unknown(evidence, held, sites, rate)
                continue
            if rate.estimate < gate:
                name = holder_name(held.owner, held.type)
                title = f"{name} gets longer, but only by {bytes_text(rate.estimate)}/s"
                yield _finding(
                    evidence, Verdict.PASS, "none", title, "Nothing to do.", holder=held, sites=sites, rate=rate,
                    confidence=0.9,
                )  # fmt: skip
                continue
            yield self._of_holder(evidence, held, sites, rate)

    def _rate_unknown(
        self, evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth], rate: Slope | None
    ) -> Finding:
        """Return the finding for a container that gets longer while its memory is not known."""
        name = holder_name(held.owner, held.type)
        return _finding(
            evidence,
            Verdict.UNDECIDED,
            "undetermined",
            f"{name} gets longer by {held.items_per_s.estimate:.3g} items per second; its memory could not be told",
            f"Look at who removes entries from {name}.",
            holder=held,
            sites=sites,
            rate=rate,
            needs=("a longer recording, or `--collect heap`, to see the memory of the items",),
        )

    def _of_holder(
        self, evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth], rate: Slope
    ) -> Finding:
        """Return what growth by more than the gate means for its holder."""
        name, what = holder_name(held.owner, held.type), short_type(held.item_type or "items")
        shared: dict[str, Any] = {"holder": held, "sites": sites, "rate": rate}
        by = f"Memory grows by {bytes_text(rate.estimate)}/s"
        if held.pile is not None and held.pile.kind == "garbage":
            return _finding(
                evidence,
                Verdict.FAIL,
                "gc_debt",
                f"{by}: {what} objects in cycles wait for the garbage collector, which does not come",
                "Let the collector run (it is switched off, or its thresholds are too high), or break the cycles.",
                confidence=0.85,
                **shared,
            )
        if held.limit_items is not None and held.last <= held.limit_items:
            return self._filling(evidence, held, rate, shared)
        if is_queue(held):
            return _finding(
                evidence,
                Verdict.FAIL,
                "backlog",
                f"{by}: the queue {name} gets longer, {held.first:,} to {held.last:,} items",
                "More is put in than taken out: bound the queue, or make its consumer faster.",
                confidence=0.8,
                **shared,
            )
        if held.pile is not None and held.pile.replaced_ratio >= _MOSTLY:
            return _finding(
                evidence,
                Verdict.UNDECIDED,
                "filling",
                f"{by}: what {name} holds is replaced by more; that ends when all of it has been",
                f"Look at what is put into {name} instead of what was there at first.",
                confidence=0.7,
                needs=("a recording that is longer than it takes to replace everything in it",),
                **shared,
            )
        if ends := limits_of(held):
            return self._bounded(evidence, held, rate, ends, shared)
        if _CAN_BE_BOUNDED.search(held.type) and not held.is_unlimited:
            return _finding(
                evidence,
                Verdict.UNDECIDED,
                "undetermined",
                f"{by}: {name} fills up, and whether it has a limit could not be seen",
                f"If {name} has no limit, give it one.",
                needs=("a recording that is longer than it takes to fill, or the limit of the cache",),
                **shared,
            )
        adds = f"{place_text(sites[0].site)} keeps adding" if sites else "something keeps adding"
        title = f"{by}: {adds} {what} to {name}" if held.item_type else f"{by}: {name} gets larger"
        return _finding(
            evidence,
            Verdict.FAIL,
            "python_leak",
            title,
            _advice(held, name),
            confidence=_confidence(evidence, held, sites, rate),
            needs=(
                f"a recording longer than the lifetime that entries of {name} are meant to have",
                *([f"the limit of {name}, if it has one that its code does not show"] if not _is_read(held) else []),
            ),
            **shared,
        )

    def _filling(self, evidence: Evidence, held: ContainerGrowth, rate: Slope, shared: dict[str, Any]) -> Finding:
        """Return the finding for a container with a limit that it has not reached."""
        assert held.limit_items is not None
        left = max(held.limit_items - held.last, 0)
        seconds = left / held.items_per_s.estimate
        fits = evidence.limit is None or rate.estimate * seconds < evidence.limit.left_bytes
        return _finding(
            evidence,
            Verdict.PASS if fits else Verdict.FAIL,
            "filling",
            f"{holder_name(held.owner)} is filling: {held.last:,} of at most {held.limit_items:,} items, "
            f"full in {seconds_text(seconds)}" + ("" if fits else ", which is more than fits into memory"),
            "Nothing to do: growth ends by itself." if fits else "Lower its limit.",
            confidence=0.9,
            **shared,
        )

    def _bounded(
        self, evidence: Evidence, held: ContainerGrowth, rate: Slope, ends: Sequence[CodePlace], shared: dict[str, Any]
    ) -> Finding:
        """Return the finding for a container whose code limits it, in a way that was not seen to work yet."""
        name, end = holder_name(held.owner, held.type), ends[0]
        ttl = next((place.ttl_s for place in ends if place.ttl_s), None)
        wait = 2 * ttl if ttl else 4 * evidence.window_s
        return _finding(
            evidence,
            Verdict.UNDECIDED,
            "filling",
            f"{name} grows by {bytes_text(rate.estimate)}/s; {place_text(end)} {_HOW[end.role]}, "
            "but not in this recording",
            f"Nothing to do if {place_text(end)} does so in time.",
            needs=(f"a recording of {seconds_text(max(wait, 60))}, to see whether it stops",),
            confidence=0.7,
            **shared,
        )

    def _levelling_off(self, evidence: Evidence) -> Finding | None:
        """Return the finding when containers grew but slow down, or follow the load."""
        gate = self.gate_bytes_per_s(evidence)
        kinds = {each.type for each in evidence.types}
        for held in (each for each in evidence.containers if each.owner and not each.keeps_growing):
            if _is_collected(evidence, held):
                continue
            sites = [each for each in sites_of(evidence, held) if 1 <= leaves_per_item(each, held) <= _MAX_LEAVES]
            rate = rate_of(evidence, sites, held)
            if rate is None or rate.estimate < gate or held.p > self.max_p:
                continue
            if not (sites or held.pile is not None or held.item_type in kinds):
                continue
            name = holder_name(held.owner, held.type)
            if held.follows_load:
                return _finding(
                    evidence,
                    Verdict.PASS,
                    "load_proportional",
                    f"{name} follows the requests per second",
                    "Nothing to do, unless the load is to grow: then so does the memory.",
                    holder=held,
                    rate=rate,
                    confidence=0.7,
                )
            form = held.shape
            wait = 2 * form.levels_off_s if form and math.isfinite(form.levels_off_s) else 2 * evidence.window_s
            return _finding(
                evidence,
                Verdict.PASS if form and form.filled else Verdict.UNDECIDED,
                "filling",
                f"{name} fills up: it grew by {held.last - held.first:,} items, ever more slowly",
                "Nothing to do if it has a limit.",
                holder=held,
                sites=sites,
                rate=rate,
                needs=(f"a recording of {seconds_text(max(wait, 60))} to see whether it stops",),
            )
        return None

    def _not_held(self, evidence: Evidence) -> Finding | None:
        """Return the finding when memory grows that no container of Python is seen to hold."""
        parts, gate = evidence.ledger, self.gate_bytes_per_s(evidence)
        anon = self._mattering((parts.anon, parts.shmem), gate)
        if native := self._native(evidence):
            return native
        in_use = self._mattering((parts.glibc_in_use,), max(gate, self.tracer_bytes_per_s if evidence.traced else 0.0))
        if in_use and self._is_outside_of_python(evidence, in_use[0].slope):
            return self._native_leak(evidence, in_use[0].slope, _outside_sites(evidence, in_use[0].slope))
        if not anon:
            return self._cached(evidence)
        rate, sites = anon[0].slope, [each for each in evidence.sites if each.keeps_growing]
        kept = self._mattering((parts.glibc_retained, parts.pymalloc_free), gate)
        if sum(each.slope.estimate for each in kept) >= 0.7 * rate.estimate:
            title = f"The allocator keeps {bytes_text(rate.estimate)}/s of memory that was freed"
            hint = "Try MALLOC_ARENA_MAX=2 or jemalloc; it is not a leak."
            return _finding(evidence, Verdict.PASS, "allocator_retention", title, hint, rate=rate, confidence=0.8)
        flat = evidence.rungs >= MIN_RUNGS and not evidence.types
        traced = sites and self._mattering((parts.traced,), gate)
        surely = sum(each.bytes_per_s.estimate for each in sites if each.p_leak >= 0.9) >= gate
        # Neither the traced heap nor any type grows: it is the tracer's own memory.
        if evidence.traced and rate.estimate < self.tracer_bytes_per_s and (flat or not (traced or surely)):
            return None
        at = f", most of it at {place_text(sites[0].site)}" if sites else ""
        longer = f"a recording of {seconds_text(max(4 * evidence.window_s, 120))}, to see whether it goes on"
        return _finding(
            evidence,
            Verdict.UNDECIDED,
            "undetermined",
            f"Memory grows by {bytes_text(rate.estimate)}/s{at}; what holds it was not seen",
            "Record longer, with the objects, to see what holds it.",
            sites=sites,
            rate=rate,
            needs=(longer,) if evidence.rungs >= MIN_RUNGS else ("a census: `--collect heap,objects,process`",),
        )

    def _native(self, evidence: Evidence) -> Finding | None:
        """Return the finding when allocations survive that Python's objects do not account for.

        The tracer sees allocations of extensions and of C code called by ctypes as well as those of
        objects; two snapshots of the heap say how much of the growth is objects.
        """
        gate = self.gate_bytes_per_s(evidence)
        sites = [
            each
            for each in evidence.sites
            if each.keeps_growing
            and each.p_leak >= _SURVIVES
            and not any(
                held.keeps_growing and 1 <= leaves_per_item(each, held) <= _MAX_LEAVES for held in evidence.containers
            )
        ]
        if evidence.heap is None or not sites:
            return None
        rate = evidence.heap.slope([each.site for each in sites])
        if rate is None or not rate.grows or rate.estimate < gate:
            return None
        snapshots = evidence.heap_growth
        if snapshots is None or not snapshots.is_whole or not self._is_outside_of_python(evidence, rate):
            return None
        in_use = evidence.ledger.glibc_in_use
        each_bytes = rate.estimate / max(sum(site.objects_per_s.estimate for site in sites), 1e-9)
        if in_use is not None and each_bytes < _MAPPED_BYTES and in_use.slope.high < 0.5 * rate.estimate:
            # What survives takes the place of what was there before the tracer came: no more memory is in use.
            return None
        return self._native_leak(evidence, rate, sites)

    def _is_outside_of_python(self, evidence: Evidence, rate: Slope) -> bool:
        """Whether growth at a rate is not that of objects: by two whole snapshots, else by types and blocks.

        Objects that became fewer by more than that say only that they come and go in larger amounts:
        what is at work would hide growth at this rate.
        """
        python, snapshots = evidence.python_bytes_per_s, evidence.heap_growth
        if python is not None and snapshots is not None and snapshots.is_whole:
            return -rate.estimate <= python < 0.5 * rate.estimate
        blocks = evidence.ledger.python_blocks
        flat = evidence.rungs >= MIN_RUNGS and not evidence.types
        return flat and blocks is not None and not blocks.keeps_growing

    def _native_leak(self, evidence: Evidence, rate: Slope, sites: Sequence[SiteGrowth]) -> Finding:
        """Return the finding for memory that is in use, but not by objects of Python."""
        at = f", allocated below {place_text(sites[0].site)}" if sites else ""
        return _finding(
            evidence,
            Verdict.FAIL,
            "native_leak",
            f"Memory grows by {bytes_text(rate.estimate)}/s outside of Python's objects{at}",
            "Look for what the native code called there allocates and does not free.",
            sites=sites,
            rate=rate,
            confidence=0.8 if sites else 0.75,
        )

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
        rate = max((each.slope for each in growing), key=lambda slope: slope.estimate)
        title = f"The page cache grows by {bytes_text(rate.estimate)}/s, the memory of the process does not"
        hint = "Nothing to do: the kernel drops it when memory is needed."
        return _finding(evidence, Verdict.PASS, "page_cache", title, hint, rate=rate, confidence=0.8)

    def _nothing(self, evidence: Evidence) -> Finding:
        """Return the finding when nothing grows that matters, or when too little was looked at to say so."""
        anon, gate = evidence.ledger.anon, self.gate_bytes_per_s(evidence)
        looked = evidence.rungs >= MIN_RUNGS or evidence.heap_growth is not None
        if not looked and (anon is None or anon.slope.high >= gate):
            return _undecided(
                evidence.pid,
                "No growth was seen, but growth that matters could hide in the noise",
                ("a census of the objects: `--collect objects`, or a longer recording",),
            )
        return _finding(
            evidence,
            Verdict.PASS,
            "none",
            "Memory does not grow" if looked else f"Memory grows by less than {bytes_text(gate)}/s",
            "Nothing to do.",
            measured=max(anon.slope.estimate, 0.0) if anon is not None and not evidence.traced else None,
            confidence=0.95 if looked and evidence.moments >= MIN_POINTS else 0.8,
        )

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


RULE = MemoryGrowth()


def _is_collected(evidence: Evidence, held: ContainerGrowth) -> bool:
    """Whether something is garbage that the collector will come for."""
    return held.pile is not None and held.pile.kind == "garbage" and not evidence.collector_rests


def _weight(evidence: Evidence, held: ContainerGrowth) -> tuple[bool, bool, float]:
    """Return the order in which holders are judged: those with a known owner first, the fastest first."""
    size = {each.type: each.bytes_per_s / each.objects_per_s.estimate for each in evidence.types if each.bytes_per_s}
    guess = held.items_per_s.estimate * max(size.get(held.item_type or "", 0.0), 56.0)
    return not held.owner, held.bytes_per_s is None, -(held.bytes_per_s or guess)


def _is_pool_of(evidence: Evidence, held: ContainerGrowth, class_: str, growth: Growth) -> bool:
    """Whether a container with a limit keeps a good part of the threads or descriptors that were added.

    What comes to be in a server for a client of the same process is added, too, and is not in the client's pool.
    """
    if held.pile is None or evidence.heap_growth is None or not held.owner:
        return False
    if not limits_of(held) and not (held.limit_items and held.last <= held.limit_items):
        return False
    kept = held_below(evidence.heap_growth, held.pile, _THREADS if class_ == "thread_leak" else _DESCRIPTORS)
    return kept >= _POOLED_RATIO * (growth.last - growth.first)


def is_queue(held: ContainerGrowth) -> bool:
    """Whether a container is filled and emptied by different functions, oldest first, or is called a queue."""
    if any(_QUEUE.search(part) for part in (held.type, *held.owner[1:])):
        return True
    fill = {place.function for place in held.places("inserts")}
    takes = [
        place
        for place in held.places("evicts")
        if place.function not in fill and place.has_run is not False and not _only_at_the_end(place, but="drain")
    ]
    return held.type.endswith("deque") and bool(fill) and bool(takes) and not held.places("bounds")


def limits_of(held: ContainerGrowth) -> list[CodePlace]:
    """Return the lines that could end the growth of a container by themselves, the surest first.

    Those that compare its length or the age of its entries, unless they are known never to have
    run; those that empty it, where they have run, or where that is not known and their name
    does not say that they do so at the end of everything.
    """
    bounds = [place for place in held.places("bounds") if place.has_run is not False and not place.limit_items]
    evicts = [place for place in held.places("evicts") if place.has_run is not False and not _only_at_the_end(place)]
    return [*bounds, *held.places("expires"), *evicts]


def _only_at_the_end(place: CodePlace, but: str = "\0") -> bool:
    """Whether a line that is not known to have run is in a function whose name says that it ends everything."""
    name = place.function.rpartition(".")[2]
    return place.has_run is None and bool(_ENDS.match(name)) and not name.strip("_").startswith(but)


def sites_of(evidence: Evidence, held: ContainerGrowth) -> list[SiteGrowth]:
    """Return the sites that may have allocated what a holder keeps, the likeliest first.

    Those that leave at least one survivor per new item, Python code and what mostly survives first.
    Where there are none, all that keep growing: what the interpreter takes from a free list, or from
    before the recording, is not seen to be allocated.
    """
    inserting = {(place.function.rpartition(".")[2], place.file) for place in held.places("inserts")}
    calls = evidence.heap.calls if evidence.heap is not None else {}

    def key(each: SiteGrowth) -> tuple[bool, bool, bool, bool, float]:
        # What is known to pile up was not allocated where a tenth of it was, however much of that survives.
        is_minor = each.bytes_per_s.estimate < _MINOR_RATIO * (held.bytes_per_s or 0.0)
        # What is made on the way to where it is put in was made for that.
        is_on_the_way = any(not inserting.isdisjoint(calls.get(stack, ())) for stack in each.stack_ids)
        survives = each.p_leak >= _SURVIVES
        return each.site.file is None, is_minor, not is_on_the_way, not survives, -each.bytes_per_s.estimate

    # One line may allocate for others, too, so that it does not keep growing by itself.
    mine = [each for each in evidence.sites if _may_fill(each, held)]
    if mine and (held.pile is not None or held.every_rung):
        return sorted(mine, key=key)
    growing = [each for each in evidence.sites if each.keeps_growing]
    return sorted(growing, key=lambda each: (leaves_per_item(each, held) < 1, *key(each)))


def _may_fill(site: SiteGrowth, held: ContainerGrowth) -> bool:
    """Whether a site leaves about as much behind as piles up in a holder: in survivors per item, else in bytes."""
    leaves = leaves_per_item(site, held)
    known = held.bytes_per_s if held.pile is not None else None
    if known is not None and held.item_type is None:
        # One object that gets larger moves each time: what is alive of its line grows like it, by leaps.
        return _MOSTLY * known <= site.bytes_per_s.estimate <= _MOST_RATIO * known
    return 1 <= leaves <= _MAX_LEAVES or (
        leaves > _MAX_LEAVES and known is not None and site.bytes_per_s.estimate <= _MOST_RATIO * known
    )


def leaves_per_item(site: SiteGrowth, held: ContainerGrowth) -> int:
    """Return how many survivors a site leaves per item of a container, to the nearest number."""
    return round(site.objects_per_s.estimate / held.items_per_s.estimate) if held.items_per_s.estimate > 0 else 0


def _outside_sites(evidence: Evidence, rate: Slope) -> list[SiteGrowth]:
    """Return the sites that leave what grows outside of Python's objects, most bytes first.

    What is alive of them must keep growing and be a part of the growth, however much else comes and goes
    there: a statement that a database keeps a row of also makes what it returns.
    """
    lowest, highest = _MINOR_RATIO * rate.estimate, _MOST_RATIO * rate.estimate
    return [each for each in evidence.sites if each.keeps_growing and lowest <= each.bytes_per_s.estimate <= highest]


def rate_of(evidence: Evidence, sites: Sequence[SiteGrowth], held: ContainerGrowth) -> Slope | None:
    """Return how fast the memory behind a holder grows, in bytes per second.

    By two snapshots of the heap, unless the tracer saw much more survive: then the objects hold
    memory that is not Python's. Else by the tracer, the types, or the process as a whole.
    """
    traced = evidence.heap.slope([each.site for each in sites]) if sites and evidence.heap is not None else None
    if held.bytes_per_s is not None:
        mine = [
            each.site
            for each in sites
            if each.keeps_growing and each.p_leak >= _SURVIVES and 1 <= leaves_per_item(each, held) <= _MAX_LEAVES
        ]
        payload = evidence.heap.slope(mine) if mine and evidence.heap is not None else None
        if payload is not None and payload.grows and payload.estimate > 1.5 * held.bytes_per_s:
            return payload
        return _spread(held, traced)
    if traced is not None:
        return traced
    anon = evidence.ledger.anon
    if anon is not None and anon.slope.grows and not evidence.traced:
        return anon.slope
    growing = [each for each in evidence.types if each.bytes_per_s and each.type == held.item_type]
    if not growing:
        return None
    [kind] = growing
    each = (kind.bytes_per_s or 0.0) / kind.objects_per_s.estimate
    low, estimate, high = (each * value for value in held.items_per_s.interval)
    return Slope(low, estimate, high, held.p, held.rungs)


def _rate_window_s(evidence: Evidence, finding: Finding) -> list[float] | None:
    """Return from when until when memory grew at the rate of a finding, in seconds; None without a rate."""
    if finding.rate_bytes_per_s is None:
        return None
    estimate = finding.rate_bytes_per_s[1]
    by_snapshots = any(each.pile is not None and each.bytes_per_s == estimate for each in evidence.containers)
    if by_snapshots and evidence.snapshots_s is not None:
        return [round(at_s, 3) for at_s in evidence.snapshots_s]
    return [round(evidence.since_s, 3), round(evidence.since_s + evidence.window_s, 3)]


def _spread(held: ContainerGrowth, traced: Slope | None) -> Slope:
    """Return the growth between two snapshots with the interval of what was followed over time."""
    estimate = held.bytes_per_s or 0.0
    wider = held.items_per_s if held.rungs >= MIN_RUNGS else traced
    low, high = 1 - _UNSURE_RATIO, 1 + _UNSURE_RATIO
    if wider is not None and wider.estimate > 0:
        low, high = wider.low / wider.estimate - _SIZE_RATIO, wider.high / wider.estimate + _SIZE_RATIO
    return Slope(estimate * max(low, 0.01), estimate, estimate * max(high, 1.0), held.p, held.rungs)


def _advice(held: ContainerGrowth, name: str) -> str:
    """Return what to do about a holder, by what its code does."""
    if removes := held.places("removes", "evicts"):
        at = ", ".join(dict.fromkeys(place_text(place) for place in removes[:2]))
        return f"Entries of {name} are removed by {at}: find out why that does not happen, or not for all of them."
    if held.code:
        return f"No code removes anything from {name}: remove entries when they are done with, or give it a limit."
    return (
        f"Find out who should remove entries from {name} and when; nothing did while it was recorded. "
        "If it is a cache, give it a limit."
    )


def _is_read(held: ContainerGrowth) -> bool:
    """Whether the code that puts items in was read and nothing takes any out."""
    return bool(held.places("inserts")) and not held.places("removes", "evicts", "bounds", "expires")


def _confidence(evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth], rate: Slope) -> float:
    """Return how sure a leak is: independent signs, each with the chance that it alone misleads.

    Capped at 0.74 when the resident memory does not rise with the traced heap, or when the path
    speaks of a cache that code empties: it may have a limit that nobody declared.
    """
    unbounded = held.code and not held.places("removes", "evicts")
    if not unbounded and any(_CACHE.search(part) for part in (held.type, *held.owner[1:])):
        return 0.74
    doubt = 0.3 if held.rungs < 8 else 0.2
    if sites and sites[0].p_leak > 0.9:
        doubt *= 0.3
    if held.pile is not None:
        doubt *= 0.5
    if unbounded:
        doubt *= 0.5
    if any(each.type == held.item_type for each in evidence.types):
        doubt *= 0.5
    anon = evidence.ledger.anon
    if anon is None:
        return round(1 - doubt, 2)
    agrees = anon.slope.high >= 0.5 * rate.estimate
    return round(1 - doubt * 0.5, 2) if agrees else round(min(1 - doubt, 0.74), 2)


def _beside_pool(evidence: Evidence, finding: Finding) -> Finding:
    """Return a leak undecided that is no more than the connections which a pool has opened within its limit."""
    pool = evidence.filling_pool
    held = next((each for each in evidence.containers if (*each.owner, each.type) == finding.retainer), None)
    if pool is None or held is None or finding.verdict is not Verdict.FAIL or finding.class_ != "python_leak":
        return finding
    if held.last - held.first > _PER_CONNECTION * (pool.last - pool.first):
        return finding
    return replace(
        finding, verdict=Verdict.UNDECIDED, class_="filling", confidence=0.5,
        title=f"{finding.title}; no more than the connections that {pool.name} has opened, now {pool.last} of "
        f"{pool.limit}",
        hint="A pool that warms up has as many as are used at a time before long; see whether it goes on.",
        needs=("a recording after the warm-up",),
    )  # fmt: skip


def _finding(
    evidence: Evidence,
    verdict: Verdict,
    class_: str,
    title: str,
    hint: str,
    *,
    holder: ContainerGrowth | None = None,
    sites: Sequence[SiteGrowth] = (),
    rate: Slope | None = None,
    measured: float | None = None,
    limit: float | None = None,
    unit: str = "bytes/s",
    confidence: float | None = None,
    needs: tuple[str, ...] = (),
) -> Finding:
    """Return a finding with the parts that all classes share."""
    return Finding(
        rule="memory_growth",
        verdict=verdict,
        class_=class_,
        title=title,
        hint=hint,
        measured=rate.estimate if rate is not None and measured is None else measured,
        limit=limit,
        unit=unit,
        confidence=confidence,
        site=_site(sites[0].site) if sites else None,
        insertion=_insertion(evidence, holder, sites) if holder is not None else None,
        retainer=(*holder.owner, holder.type) if holder is not None and holder.owner else (),
        type=_item_type(evidence, holder),
        rate_bytes_per_s=rate.interval if rate is not None else None,
        seconds_to_limit=_seconds_to_limit(evidence, rate) if verdict is not Verdict.PASS else None,
        pid=evidence.pid,
        needs=needs,
    )


def _insertion(evidence: Evidence, holder: ContainerGrowth, sites: Sequence[SiteGrowth]) -> Site | None:
    """Return the line that puts things into a holder.

    Of the lines that do, one that is on the way to an allocation; else the only one; else the
    closest place in the module that owns the holder.
    """
    inserts = holder.places("inserts")
    calls = evidence.heap.calls if evidence.heap is not None else {}
    for site in sites[:3]:
        frames = {frame for stack in site.stack_ids for frame in calls.get(stack, ())}
        for place in inserts:
            if (place.function.rpartition(".")[2], place.file) in frames:
                return Site(place.function, place.file, place.line)
    if len({(place.file, place.line) for place in inserts}) == 1:
        [place] = inserts[:1]
        return Site(place.function, place.file, place.line)
    if not holder.owner:
        return None
    module = holder.owner[0].removeprefix("module ")
    inside = [each.site for each in sites if each.site.module and f".{module}".endswith(f".{each.site.module}")]
    return _site(inside[0]) if inside else None


def _undecided(pid: int | None, title: str, needs: tuple[str, ...]) -> Finding:
    """Return the finding for too little data."""
    hint = "Record longer, with `--collect heap,objects,process`."
    return Finding(
        "memory_growth", Verdict.UNDECIDED, "undetermined", title, hint, pid=pid, unit="bytes/s", needs=needs
    )


def _item_type(evidence: Evidence, holder: ContainerGrowth | None) -> str | None:
    """Return the type that piles up: the container's items, else the fastest growing type that is not built in."""
    if holder is not None and holder.item_type is not None:
        return holder.item_type
    own = [each.type for each in evidence.types if not each.type.startswith("builtins.") and "." in each.type]
    return own[0] if holder is not None and own else None


def _seconds_to_limit(evidence: Evidence, rate: Slope | None) -> tuple[float | None, float | None, float | None] | None:
    """Return when memory runs out (soonest, expected, latest); None where it does not."""
    if evidence.limit is None or rate is None:
        return None
    left = evidence.limit.left_bytes
    soonest, expected, latest = (left / each if each > 0 else None for each in (rate.high, rate.estimate, rate.low))
    return soonest, expected, latest


def _site(place: Place) -> Site:
    """Return a place in the form of a finding."""
    return Site(place.function, place.file, place.line)
