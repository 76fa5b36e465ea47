"""The only place that says how fast what grows does so, which lines allocate it, and how sure that is."""

from collections.abc import Sequence

from perfkit.analysis.growth import MIN_RUNGS, ContainerGrowth, Evidence
from perfkit.analysis.holders import is_cache
from perfkit.analysis.survival import SiteGrowth
from perfkit.analysis.trends import Slope

_SURVIVES = 0.5
"""A line of whose allocations fewer survive does something else, too."""
_MAX_LEAVES = 50
"""Survivors per item that a line may leave and still be taken for what makes the items."""
_MOSTLY = 0.5
_MAPPED_BYTES = 65_536
"""Half of what glibc takes from the kernel directly (M_MMAP_THRESHOLD): smaller allocations are in its own books."""
_MINOR_RATIO, _MOST_RATIO = 0.1, 1.5
"""Parts of what piles up that a line must leave at least, and may leave at most, to be taken for what makes it."""
_SIZE_RATIO = 0.06
"""By how much sizes of objects may be off: they leave out what the allocator adds to each."""
_UNSURE_RATIO = 0.2
"""Half the width of the interval of a rate that only two snapshots tell."""
_LEAST_ITEM_BYTES = 56.0
"""An object and the reference to it, where the size of the items is not known."""


def fastest_first(evidence: Evidence, holders: Sequence[ContainerGrowth]) -> list[ContainerGrowth]:
    """Return holders in the order in which to judge them: those with a known owner first, the fastest first."""
    size = {each.type: each.bytes_per_s / each.objects_per_s.estimate for each in evidence.types if each.bytes_per_s}

    def key(held: ContainerGrowth) -> tuple[bool, bool, float]:
        guess = held.items_per_s.estimate * max(size.get(held.item_type or "", 0.0), _LEAST_ITEM_BYTES)
        return not held.owner, held.bytes_per_s is None, -(held.bytes_per_s or guess)

    return sorted(holders, key=key)


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
    return sorted(growing, key=lambda each: (_leaves_per_item(each, held) < 1, *key(each)))


def makes_items(site: SiteGrowth, held: ContainerGrowth) -> bool:
    """Whether a site leaves a plausible number of survivors per item of a container."""
    return 1 <= _leaves_per_item(site, held) <= _MAX_LEAVES


def sites_held_by_nobody(evidence: Evidence) -> list[SiteGrowth]:
    """Return the sites that keep growing and whose allocations survive, but make the items of no growing container."""
    growing = [held for held in evidence.containers if held.keeps_growing]
    return [
        each
        for each in evidence.sites
        if each.keeps_growing and each.p_leak >= _SURVIVES and not any(makes_items(each, held) for held in growing)
    ]


def sites_outside_of_python(evidence: Evidence, rate: Slope) -> list[SiteGrowth]:
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
            each.site for each in sites if each.keeps_growing and each.p_leak >= _SURVIVES and makes_items(each, held)
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


def rate_window_s(evidence: Evidence, rate_bytes_per_s: float) -> list[float]:
    """Return from when until when memory grew at a rate, in seconds: between the snapshots, where these tell it."""
    by_snapshots = any(each.pile is not None and each.bytes_per_s == rate_bytes_per_s for each in evidence.containers)
    if by_snapshots and evidence.snapshots_s is not None:
        return [round(at_s, 3) for at_s in evidence.snapshots_s]
    return [round(evidence.since_s, 3), round(evidence.since_s + evidence.window_s, 3)]


def is_outside_of_python(evidence: Evidence, rate: Slope) -> bool:
    """Whether growth at a rate is not that of objects: by two whole snapshots, else by types and blocks.

    Objects that became fewer by more than that say only that they come and go in larger amounts:
    what is at work would hide growth at this rate.
    """
    python, snapshots = evidence.python_bytes_per_s, evidence.heap_growth
    if python is not None and snapshots is not None and snapshots.is_whole:
        return -rate.estimate <= python < 0.5 * rate.estimate
    blocks = evidence.ledger.python_blocks
    return are_types_flat(evidence) and blocks is not None and not blocks.keeps_growing


def are_types_flat(evidence: Evidence) -> bool:
    """Whether the types were counted often enough, and none becomes more numerous."""
    return evidence.rungs >= MIN_RUNGS and not evidence.types


def takes_the_place(evidence: Evidence, sites: Sequence[SiteGrowth], rate: Slope) -> bool:
    """Whether what survives of sites takes the place of what was there before the tracer came.

    Then no more memory is in use by the books of glibc, which have all but what it maps for itself.
    """
    in_use = evidence.ledger.glibc_in_use
    each_bytes = rate.estimate / max(sum(site.objects_per_s.estimate for site in sites), 1e-9)
    return in_use is not None and each_bytes < _MAPPED_BYTES and in_use.slope.high < 0.5 * rate.estimate


def leak_confidence(evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth], rate: Slope) -> float:
    """Return how sure a leak is: independent signs, each with the chance that it alone misleads.

    Capped at 0.74 when the resident memory does not rise with the traced heap, or when the path
    speaks of a cache that code empties: it may have a limit that nobody declared.
    """
    unbounded = held.code and not held.places("removes", "evicts")
    if not unbounded and is_cache(held):
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


def _may_fill(site: SiteGrowth, held: ContainerGrowth) -> bool:
    """Whether a site leaves about as much behind as piles up in a holder: in survivors per item, else in bytes."""
    known = held.bytes_per_s if held.pile is not None else None
    if known is not None and held.item_type is None:
        # One object that gets larger moves each time: what is alive of its line grows like it, by leaps.
        return _MOSTLY * known <= site.bytes_per_s.estimate <= _MOST_RATIO * known
    return makes_items(site, held) or (
        _leaves_per_item(site, held) > _MAX_LEAVES
        and known is not None
        and site.bytes_per_s.estimate <= _MOST_RATIO * known
    )


def _leaves_per_item(site: SiteGrowth, held: ContainerGrowth) -> int:
    """Return how many survivors a site leaves per item of a container, to the nearest number."""
    return round(site.objects_per_s.estimate / held.items_per_s.estimate) if held.items_per_s.estimate > 0 else 0


def _spread(held: ContainerGrowth, traced: Slope | None) -> Slope:
    """Return the growth between two snapshots with the interval of what was followed over time."""
    estimate = held.bytes_per_s or 0.0
    wider = held.items_per_s if held.rungs >= MIN_RUNGS else traced
    low, high = 1 - _UNSURE_RATIO, 1 + _UNSURE_RATIO
    if wider is not None and wider.estimate > 0:
        low, high = wider.low / wider.estimate - _SIZE_RATIO, wider.high / wider.estimate + _SIZE_RATIO
    return Slope(estimate * max(low, 0.01), estimate, estimate * max(high, 1.0), held.p, held.rungs)
