"""The rule `memory_growth`: does the memory of a process grow without end, what holds it, which line allocates it."""

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from perfkit.analysis.growth import MIN_RUNGS, ContainerGrowth, Evidence, gather
from perfkit.analysis.ledger import Growth
from perfkit.analysis.survival import MIN_POINTS, Place, SiteGrowth
from perfkit.analysis.trends import Slope
from perfkit.findings import Finding, Site, Verdict
from perfkit.profile import Profile
from perfkit.units import bytes_text, seconds_text

_CAN_BE_BOUNDED = re.compile(r"(^|\.)deque$|_lru_cache_wrapper$|^cachetools\.|(^|\.)\w*(LRU|TTL|LFU)\w*$")
"""Types that can hold a limit of their own; growth without a known one proves nothing."""
_QUEUE = re.compile(r"queue", re.IGNORECASE)
_CACHE = re.compile(r"cache|memo(?!ry)|lru", re.IGNORECASE)


@dataclass(frozen=True)
class MemoryGrowth:
    """Memory of the process grows and does not come back.

    Why it matters: a process that gives nothing back is killed when it reaches its limit, with
    every request in flight. The line that allocates and the container that keeps the objects
    are what one needs to fix it; a full cache or a busy minute needs no fix at all.
    Evidence: containers that got longer at every rung, types whose number rises (Mann-Kendall,
    Benjamini-Hochberg), the slope of live bytes of each allocation site with its interval
    (Theil-Sen), survivors old enough to count, and which part of the resident memory grew.
    The verdict is a leak only when a container and its memory both keep growing to the end.
    Limits: a cache whose limit perfkit cannot see, and which does not reach it while it is
    recorded, looks like a leak. While the allocation tracer is attached, growth outside of
    Python's objects below `tracer_bytes_per_s` is taken for the tracer's own. Objects allocated
    before the recording have no allocation line. Memory that no container of Python holds is
    reported as undetermined. Needs `min_window_s`.
    Source: https://docs.python.org/3/library/gc.html (what a census can see)
    """

    min_window_s: float = 12.0
    """Shorter windows cannot tell growth from the noise of requests in flight."""
    horizon_s: float = 86_400.0
    """Growth counts when it takes `limit_share` of the memory limit within this time."""
    limit_share: float = 0.05
    min_bytes_per_s: float = 65_536 / 60
    """Growth above 64 KiB per minute counts whatever the limit is."""
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
        """Return the finding for one process."""
        if lacking := self._lacking(evidence):
            finding = _undecided(evidence.pid, "Not recorded long enough to judge the memory", tuple(lacking))
        else:
            finding = (
                self._counted(evidence)
                or self._held(evidence)
                or self._levelling_off(evidence)
                or self._not_held(evidence)
                or self._nothing(evidence)
            )
        gate = self.gate_bytes_per_s(evidence)
        return replace(finding, limit=finding.limit or gate, evidence=_summary(evidence) | dict(finding.evidence))

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

    def _counted(self, evidence: Evidence) -> Finding | None:
        """Return the finding for threads or descriptors that pile up."""
        held = _holder(evidence)
        for class_, what, growth in (
            ("thread_leak", "threads", evidence.threads),
            ("fd_leak", "open descriptors", evidence.descriptors),
        ):
            if growth is None or growth.persistence_ratio < 0.5 or growth.p_rising > self.max_p:
                continue
            if growth.last - growth.first < self.min_count or growth.shape.filled or growth.shape.name == "step":
                continue
            if held is not None and held.items_per_s.estimate > 3 * growth.slope.estimate:
                continue  # a few descriptors beside a much faster pile: not the cause
            return _finding(
                evidence,
                Verdict.FAIL,
                class_,
                f"The number of {what} grows by {growth.slope.estimate:.2g} per second, "
                f"from {growth.first:.0f} to {growth.last:.0f}",
                f"Find out where {what} should end and do not; "
                + (f"{_name(held.owner, held.type)} grows with them." if held else "no growing container was seen."),
                holder=held,
                sites=_ranked(evidence, held) if held else (),
                measured=growth.slope.estimate,
                limit=self.min_count / max(growth.window_s, 1.0),
                unit="1/s",
                confidence=0.9,
            )
        return None

    def _held(self, evidence: Evidence) -> Finding | None:
        """Return the finding when a container grew at every rung."""
        held = _holder(evidence)
        if held is None:
            return None
        sites = _ranked(evidence, held)
        rate = _rate(evidence, sites, held)
        site = sites[0].site if sites else None
        name, what = _name(held.owner, held.type), _short(held.item_type or "items")
        shared: dict[str, Any] = {"holder": held, "sites": sites, "rate": rate}
        if held.limit_items is not None and held.last <= held.limit_items:
            return self._filling(evidence, held, rate, shared)
        if rate is None or not rate.grows:
            title = (
                f"{name} gets longer by {held.items_per_s.estimate:.3g} items per second; its memory could not be told"
            )
            return _finding(
                evidence,
                Verdict.UNDECIDED,
                "undetermined",
                title,
                f"Look at who removes entries from {name}.",
                needs=("a longer recording, or `--collect heap`, to see the memory of the items",),
                **shared,
            )
        if rate.estimate < self.gate_bytes_per_s(evidence):
            title = f"{name} gets longer, but only by {bytes_text(rate.estimate)}/s"
            return _finding(evidence, Verdict.PASS, "none", title, "Nothing to do.", confidence=0.9, **shared)
        by = f"Memory grows by {bytes_text(rate.estimate)}/s"
        if any(_QUEUE.search(part) for part in (held.type, *held.owner[1:])):
            return _finding(
                evidence,
                Verdict.FAIL,
                "backlog",
                f"{by}: the queue {name} gets longer, {held.first:,} to {held.last:,} items",
                "More is put in than taken out: bound the queue, or make its consumer faster.",
                confidence=0.8,
                **shared,
            )
        if _CAN_BE_BOUNDED.search(held.type):
            return _finding(
                evidence,
                Verdict.UNDECIDED,
                "undetermined",
                f"{by}: {name} fills up, and whether it has a limit could not be seen",
                f"If {name} has no limit, give it one.",
                needs=("a recording that is longer than it takes to fill, or the limit of the cache",),
                **shared,
            )
        adds = f"{_at(site)} keeps adding" if site else "something keeps adding"
        return _finding(
            evidence,
            Verdict.FAIL,
            "python_leak",
            f"{by}: {adds} {what} to {_name(held.owner)}",
            f"Find out who should remove entries from {name} and when; nothing did while it was recorded. "
            "If it is a cache, give it a limit.",
            confidence=_confidence(evidence, held, sites, rate),
            needs=(
                f"a recording longer than the lifetime that entries of {name} are meant to have",
                f"the limit of {name}, if it has one that it does not declare as maxsize, maxlen or the like",
            ),
            **shared,
        )

    def _filling(
        self, evidence: Evidence, held: ContainerGrowth, rate: Slope | None, shared: dict[str, Any]
    ) -> Finding:
        """Return the finding for a container with a limit that it has not reached."""
        assert held.limit_items is not None
        left = max(held.limit_items - held.last, 0)
        seconds = left / held.items_per_s.estimate
        full = rate.estimate * seconds if rate else 0.0
        fits = evidence.limit is None or full < evidence.limit.left_bytes
        return _finding(
            evidence,
            Verdict.PASS if fits else Verdict.FAIL,
            "filling",
            f"{_name(held.owner)} is filling: {held.last:,} of at most {held.limit_items:,} items, "
            f"full in {seconds_text(seconds)}" + ("" if fits else ", which is more than fits into memory"),
            "Nothing to do: growth ends by itself." if fits else "Lower its limit.",
            confidence=0.9,
            **shared,
        )

    def _levelling_off(self, evidence: Evidence) -> Finding | None:
        """Return the finding when containers grew but slow down, or follow the load."""
        gate = self.gate_bytes_per_s(evidence)
        for held in (each for each in evidence.containers if each.owner and not each.keeps_growing):
            kinds = {each.type for each in evidence.types}
            sites = [each for each in _ranked(evidence, held) if _leaves_per_item(each, held) in range(1, 50)]
            rate = _rate(evidence, sites, held)
            if rate is None or rate.estimate < gate or held.p > self.max_p or not (sites or held.item_type in kinds):
                continue
            name = _name(held.owner, held.type)
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
            wait = 2 * held.shape.levels_off_s if math.isfinite(held.shape.levels_off_s) else 2 * evidence.window_s
            return _finding(
                evidence,
                Verdict.PASS if held.shape.filled else Verdict.UNDECIDED,
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
        # Neither the traced heap nor any type grows: it is the tracer's own memory.
        if evidence.traced and rate.estimate < self.tracer_bytes_per_s and (flat or not traced):
            return None
        blocks_flat = parts.python_blocks is not None and not parts.python_blocks.keeps_growing
        if flat and blocks_flat and self._mattering((parts.glibc_in_use,), gate):
            title = f"Memory grows by {bytes_text(rate.estimate)}/s outside of Python's objects"
            hint = "Record with memray's native stacks to see which extension allocates it."
            return _finding(evidence, Verdict.FAIL, "native_leak", title, hint, sites=sites, rate=rate, confidence=0.75)
        at = f", most of it at {_at(sites[0].site)}" if sites else ""
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
        looked = evidence.rungs >= MIN_RUNGS
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


def _holder(evidence: Evidence) -> ContainerGrowth | None:
    """Return the container that most likely holds the growth: owned by the service's own code, fastest."""
    growing = [each for each in evidence.containers if each.keeps_growing]
    size = {each.type: each.bytes_per_s / each.objects_per_s.estimate for each in evidence.types if each.bytes_per_s}

    def weight(each: ContainerGrowth) -> tuple[bool, bool, float]:
        return (
            bool(each.owner),
            _is_own(each.owner),
            each.items_per_s.estimate * max(size.get(each.item_type or "", 0.0), 56.0),
        )

    return max(growing, key=weight, default=None)


def _is_own(owner: Sequence[str]) -> bool:
    """Whether a path begins in a module outside of the standard library."""
    module = owner[0].removeprefix("module ") if owner else ""
    return module.partition(".")[0] not in sys.stdlib_module_names


def _ranked(evidence: Evidence, held: ContainerGrowth) -> list[SiteGrowth]:
    """Return the sites that keep growing: Python code that leaves at least one survivor per new item first."""
    growing = [each for each in evidence.sites if each.keeps_growing]

    def key(each: SiteGrowth) -> tuple[bool, bool, float]:
        return each.site.file is None, _leaves_per_item(each, held) < 1, -each.bytes_per_s.estimate

    return sorted(growing, key=key)


def _leaves_per_item(site: SiteGrowth, held: ContainerGrowth) -> int:
    """Return how many survivors a site leaves per item of a container, to the nearest number."""
    return round(site.objects_per_s.estimate / held.items_per_s.estimate) if held.items_per_s.estimate > 0 else 0


def _rate(evidence: Evidence, sites: Sequence[SiteGrowth], held: ContainerGrowth) -> Slope | None:
    """Return how fast memory grows: what the tracer saw survive, else the types, else the process."""
    if sites and evidence.heap is not None:
        return evidence.heap.slope([each.site for each in sites])
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


def _confidence(evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth], rate: Slope) -> float:
    """Return how sure a leak is: independent signs, each with the chance that it alone misleads.

    Capped at 0.74 when the resident memory does not rise with the traced heap, or when the path
    speaks of a cache: it may have a limit that nobody declared.
    """
    if any(_CACHE.search(part) for part in (held.type, *held.owner[1:])):
        return 0.74
    doubt = 0.3 if held.rungs < 8 else 0.2
    if sites and sites[0].p_leak > 0.9:
        doubt *= 0.3
    if any(each.type == held.item_type for each in evidence.types):
        doubt *= 0.5
    anon = evidence.ledger.anon
    if anon is None:
        return round(1 - doubt, 2)
    agrees = anon.slope.high >= 0.5 * rate.estimate
    return round(1 - doubt * 0.5, 2) if agrees else round(min(1 - doubt, 0.74), 2)


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
    insertion = None
    if holder is not None and holder.owner:
        module = holder.owner[0].removeprefix("module ")
        inside = [each.site for each in sites if each.site.module and f".{module}".endswith(f".{each.site.module}")]
        insertion = _site(inside[0]) if inside else None
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
        insertion=insertion,
        retainer=(*holder.owner, holder.type) if holder is not None and holder.owner else (),
        type=_item_type(evidence, holder),
        rate_bytes_per_s=rate.interval if rate is not None else None,
        seconds_to_limit=_seconds_to_limit(evidence, rate) if verdict is not Verdict.PASS else None,
        pid=evidence.pid,
        needs=needs,
    )


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


def _summary(evidence: Evidence) -> dict[str, Any]:
    """Return the numbers behind the verdict, for machines and for the notebook."""
    return {
        "since_s": round(evidence.since_s, 3),
        "window_s": round(evidence.window_s, 3),
        "rungs": evidence.rungs,
        "readings": evidence.readings,
        "moments": evidence.moments,
        "ledger": evidence.ledger.summary(),
        "limit": None if evidence.limit is None else {"bytes": evidence.limit.limit_bytes, "of": evidence.limit.source},
        "containers": [
            {
                "owner": list(each.owner),
                "type": each.type,
                "item_type": each.item_type,
                "items": [each.first, each.last],
                "items_per_s": [round(value, 4) for value in each.items_per_s.interval],
                "every_rung": each.every_rung,
                "shape": each.shape.name,
                "p": each.p,
            }
            for each in evidence.containers[:5]
        ],
        "types": [
            {"type": each.type, "objects": [each.first, each.last], "every_rung": each.every_rung, "p": each.p}
            for each in evidence.types[:8]
        ],
        "sites": [
            {
                "site": str(_site(each.site)),
                "bytes_per_s": [round(value, 1) for value in each.bytes_per_s.interval],
                "survivors": [each.old_survivors, each.old_allocations],
                "p_leak": round(each.p_leak, 4),
                "keeps_growing": each.keeps_growing,
                "stack_ids": list(each.stack_ids[:10]),
            }
            for each in evidence.sites[:5]
        ],
    }


def _site(place: Place) -> Site:
    """Return a place in the form of a finding."""
    return Site(place.function, place.file, place.line)


def _at(place: Place) -> str:
    """Return a place in a sentence: function, and file without the folders around its package.

    >>> _at(Place("remember", "/srv/perfkit/proxy/faults.py", 42, None, "python"))
    'remember (proxy/faults.py:42)'
    """
    file = "/".join(place.file.split("/")[-2:]) if place.file else None
    return str(Site(place.function, file, place.line))


_LRU_CACHE = "cache"
"""How the census calls the way from a function with `functools.lru_cache` to what it keeps."""


def _name(owner: Sequence[str], otherwise: str = "a container") -> str:
    """Return what people call a container: the path to it below its module, from the last plain name on.

    >>> _name(("module app.sessions", "SESSIONS", ".by_id"))
    'SESSIONS.by_id'
    >>> _name(("module app.views", "Report", ".render", "cache"))
    'the cache of Report.render'
    """
    if not owner:
        return f"a {otherwise} that no module was seen to own"
    if owner[-1] == _LRU_CACHE and len(owner) > 1:
        return f"the cache of {_name(owner[:-1])}"
    plain = max(number for number, step in enumerate(owner) if number == 0 or not step.startswith((".", "[")))
    return "".join(owner[plain:]).removeprefix("module ")


def _short(type_: str) -> str:
    """Return the last part of a dotted type."""
    return type_.rpartition(".")[2]
