"""The only place that puts what `memory_growth` concludes into findings: their words, sites, holders and times."""

import math
from collections.abc import Sequence
from dataclasses import replace

from perfkit.analysis.growth import CodePlace, ContainerGrowth, Evidence, FillingPool
from perfkit.analysis.growth_rates import leak_confidence
from perfkit.analysis.holders import is_only_filled
from perfkit.analysis.ledger import Growth
from perfkit.analysis.naming import holder_name, place_text, short_type
from perfkit.analysis.survival import Place, SiteGrowth
from perfkit.analysis.trends import Slope
from perfkit.findings import Finding, Site, Verdict
from perfkit.units import bytes_text, seconds_text

_HOW = {"bounds": "keeps it below a length", "expires": "removes what is too old", "evicts": "empties it"}
FEW_STEPS = 12
"""Items that a container should get before the absence of a trend means something: two for each census needed."""
_COUNTED = {"thread_leak": ("threads", "end and do"), "fd_leak": ("open descriptors", "be closed and are")}


def too_little(pid: int | None, title: str, *needs: str) -> Finding:
    """Return that too little was recorded; `needs` says what would decide it."""
    hint = "Record longer, with `--collect heap,objects,process`."
    return Finding(
        "memory_growth", Verdict.UNDECIDED, "undetermined", title, hint, pid=pid, unit="bytes/s", needs=needs
    )


def counted_leak(
    evidence: Evidence, class_: str, growth: Growth, held: ContainerGrowth | None, sites: Sequence[SiteGrowth],
    least: float,
) -> Finding:  # fmt: skip
    """Return that threads or descriptors leak; `held` is what grows with them, `least` how many more matter."""
    what, ends = _COUNTED[class_]
    added = evidence.threads_added if class_ == "thread_leak" else evidence.descriptors_added
    mostly = f", mostly {added.what}" if added else ""
    beside = f"{holder_name(held.owner, held.type)} grows with them." if held else "no container grows with them."
    finding = _finding(
        evidence,
        Verdict.FAIL,
        class_,
        f"{_number_grows(class_, growth)}{mostly}",
        f"Find out where {what} should {ends} not; {beside}",
        holder=held,
        sites=sites,
        measured=growth.slope.estimate,
        limit=least / max(growth.window_s, 1.0),
        unit="1/s",
        confidence=0.9,
    )
    start = added.start if added else None
    # Who starts a thread puts it into the list of those that run.
    return replace(finding, site=_site(start), insertion=_site(start)) if start is not None else finding


def counted_in_pool(
    evidence: Evidence, verdict: Verdict, class_: str, growth: Growth, pool: FillingPool, least: float
) -> Finding:
    """Return that threads or descriptors are those of a pool that fills; `least` is how many more matter."""
    ends = f"{place_text(pool.ends)} limits it" if pool.ends is not None else f"it holds at most {pool.limit:,}"
    longer = f"a recording of {seconds_text(max(4 * evidence.window_s, 60))}, to see whether it stops"
    passes = verdict is Verdict.PASS
    return _finding(
        evidence,
        verdict,
        "filling",
        f"{_number_grows(class_, growth)}; {pool.name} keeps them, and {ends}",
        "Nothing to do: growth ends by itself." if passes else f"Nothing to do if {pool.name} stops growing.",
        holder=pool.container,
        measured=growth.slope.estimate,
        limit=least / max(growth.window_s, 1.0),
        unit="1/s",
        confidence=0.7,
        needs=() if passes else (longer,),
    )


def no_more_than_pool(finding: Finding, pool: FillingPool) -> Finding:
    """Return a leak undecided, since it is no more than what a pool has opened within its limit."""
    of = f" of {pool.limit}" if pool.limit is not None else ""
    return replace(
        finding,
        verdict=Verdict.UNDECIDED,
        class_="filling",
        confidence=0.5,
        title=f"{finding.title}; no more than the {pool.what} that {pool.name} has opened, now {pool.last}{of}",
        hint="A pool that warms up has as many as are used at a time before long; see whether it goes on.",
        needs=("a recording after the warm-up",),
    )


def too_slow(evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth], rate: Slope) -> Finding:
    """Return that a container gets longer by less than matters."""
    title = f"{holder_name(held.owner, held.type)} gets longer, but only by {bytes_text(rate.estimate)}/s"
    return _finding(
        evidence, Verdict.PASS, "none", title, "Nothing to do.", holder=held, sites=sites, rate=rate, confidence=0.9
    )


def rate_unknown(evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth], rate: Slope | None) -> Finding:
    """Return that a container gets longer while its memory is not known."""
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


def garbage(evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth], rate: Slope) -> Finding:
    """Return that garbage waits for a collector which does not come."""
    return _finding(
        evidence,
        Verdict.FAIL,
        "gc_debt",
        f"{_grows(rate)}: {_items(held)} objects in cycles wait for the garbage collector, which does not come",
        "Let the collector run (it is switched off, or its thresholds are too high), or break the cycles.",
        holder=held,
        sites=sites,
        rate=rate,
        confidence=0.85,
    )


def filling(
    evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth], rate: Slope, limit_items: int
) -> Finding:
    """Return that a container has not reached its limit, and whether it will fit into memory when it does."""
    seconds = max(limit_items - held.last, 0) / held.items_per_s.estimate
    fits = evidence.limit is None or rate.estimate * seconds < evidence.limit.left_bytes
    return _finding(
        evidence,
        Verdict.PASS if fits else Verdict.FAIL,
        "filling",
        f"{holder_name(held.owner)} is filling: {held.last:,} of at most {limit_items:,} items, "
        f"full in {seconds_text(seconds)}" + ("" if fits else ", which is more than fits into memory"),
        "Nothing to do: growth ends by itself." if fits else "Lower its limit.",
        holder=held,
        sites=sites,
        rate=rate,
        confidence=0.9,
    )


def backlog(evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth], rate: Slope) -> Finding:
    """Return that more is put into a queue than taken out."""
    name = holder_name(held.owner, held.type)
    return _finding(
        evidence,
        Verdict.FAIL,
        "backlog",
        f"{_grows(rate)}: the queue {name} gets longer, {held.first:,} to {held.last:,} items",
        "More is put in than taken out: bound the queue, or make its consumer faster.",
        holder=held,
        sites=sites,
        rate=rate,
        confidence=0.8,
    )


def replaced_by_more(evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth], rate: Slope) -> Finding:
    """Return that more takes the place of what was in a container."""
    name = holder_name(held.owner, held.type)
    return _finding(
        evidence,
        Verdict.UNDECIDED,
        "filling",
        f"{_grows(rate)}: what {name} holds is replaced by more; that ends when all of it has been",
        f"Look at what is put into {name} instead of what was there at first.",
        holder=held,
        sites=sites,
        rate=rate,
        confidence=0.7,
        needs=("a recording that is longer than it takes to replace everything in it",),
    )


def bounded_by_code(
    evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth], rate: Slope, ends: Sequence[CodePlace]
) -> Finding:
    """Return that code limits a container, in a way that was not seen to work yet; `ends` is not empty."""
    name, end = holder_name(held.owner, held.type), ends[0]
    ttl = next((place.ttl_s for place in ends if place.ttl_s), None)
    wait = 2 * ttl if ttl else 4 * evidence.window_s
    return _finding(
        evidence,
        Verdict.UNDECIDED,
        "filling",
        f"{name} grows by {bytes_text(rate.estimate)}/s; {place_text(end)} {_HOW[end.role]}, but not in this recording",
        f"Nothing to do if {place_text(end)} does so in time.",
        holder=held,
        sites=sites,
        rate=rate,
        confidence=0.7,
        needs=(f"a recording of {seconds_text(max(wait, 60))}, to see whether it stops",),
    )


def limit_not_seen(evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth], rate: Slope) -> Finding:
    """Return that a container of a kind that can have a limit fills up."""
    name = holder_name(held.owner, held.type)
    return _finding(
        evidence,
        Verdict.UNDECIDED,
        "undetermined",
        f"{_grows(rate)}: {name} fills up, and whether it has a limit could not be seen",
        f"If {name} has no limit, give it one.",
        holder=held,
        sites=sites,
        rate=rate,
        needs=("a recording that is longer than it takes to fill, or the limit of the cache",),
    )


def leak(evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth], rate: Slope) -> Finding:
    """Return that a holder keeps growing, with who adds to it and what to do."""
    name = holder_name(held.owner, held.type)
    adds = f"{place_text(sites[0].site)} keeps adding" if sites else "something keeps adding"
    does = f"{adds} {_items(held)} to {name}" if held.item_type else f"{name} gets larger"
    needs = [f"a recording longer than the lifetime that entries of {name} are meant to have"]
    if not is_only_filled(held):
        needs.append(f"the limit of {name}, if it has one that its code does not show")
    return _finding(
        evidence,
        Verdict.FAIL,
        "python_leak",
        f"{_grows(rate)}: {does}",
        _advice(held, name),
        holder=held,
        sites=sites,
        rate=rate,
        confidence=leak_confidence(evidence, held, sites, rate),
        needs=tuple(needs),
    )


def load_proportional(evidence: Evidence, held: ContainerGrowth, rate: Slope) -> Finding:
    """Return that a container follows the load."""
    return _finding(
        evidence,
        Verdict.PASS,
        "load_proportional",
        f"{holder_name(held.owner, held.type)} follows the requests per second",
        "Nothing to do, unless the load is to grow: then so does the memory.",
        holder=held,
        rate=rate,
        confidence=0.7,
    )


def levels_off(evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth], rate: Slope) -> Finding:
    """Return that a container grew ever more slowly, and whether it is full."""
    form = held.shape
    wait = 2 * form.levels_off_s if form and math.isfinite(form.levels_off_s) else 2 * evidence.window_s
    return _finding(
        evidence,
        Verdict.PASS if form and form.filled else Verdict.UNDECIDED,
        "filling",
        f"{holder_name(held.owner, held.type)} fills up: it grew by {held.last - held.first:,} items, ever more slowly",
        "Nothing to do if it has a limit.",
        holder=held,
        sites=sites,
        rate=rate,
        needs=(f"a recording of {seconds_text(max(wait, 60))} to see whether it stops",),
    )


def in_few_steps(evidence: Evidence, held: ContainerGrowth, sites: Sequence[SiteGrowth]) -> Finding:
    """Return that a container got a few large items, and that it takes longer to see whether it goes on."""
    added, name = held.last - held.first, holder_name(held.owner, held.type)
    size = bytes_text((held.bytes_per_s or 0.0) * evidence.between_s)
    longer_s = evidence.between_s * max(2.0, FEW_STEPS / added)
    return _finding(
        evidence,
        Verdict.UNDECIDED,
        "undetermined",
        f"{name} got {added} more {'item' if added == 1 else 'items'}, {size} in all: too few to say if it goes on",
        "Record longer: what is kept now and then needs time to show.",
        holder=held,
        sites=sites,
        needs=(f"a recording of {seconds_text(longer_s)}",),
    )


def native_leak(evidence: Evidence, sites: Sequence[SiteGrowth], rate: Slope) -> Finding:
    """Return that memory is in use, but not by objects of Python."""
    at = f", allocated below {place_text(sites[0].site)}" if sites else ""
    return _finding(
        evidence,
        Verdict.FAIL,
        "native_leak",
        f"{_grows(rate)} outside of Python's objects{at}",
        "Look for what the native code called there allocates and does not free.",
        sites=sites,
        rate=rate,
        confidence=0.8 if sites else 0.75,
    )


def kept_by_allocator(evidence: Evidence, rate: Slope) -> Finding:
    """Return that the allocator does not give back what was freed."""
    title = f"The allocator keeps {bytes_text(rate.estimate)}/s of memory that was freed"
    hint = "Try MALLOC_ARENA_MAX=2 or jemalloc; it is not a leak."
    return _finding(evidence, Verdict.PASS, "allocator_retention", title, hint, rate=rate, confidence=0.8)


def page_cache(evidence: Evidence, rate: Slope) -> Finding:
    """Return that pages grow which the kernel can take back."""
    title = f"The page cache grows by {bytes_text(rate.estimate)}/s, the memory of the process does not"
    hint = "Nothing to do: the kernel drops it when memory is needed."
    return _finding(evidence, Verdict.PASS, "page_cache", title, hint, rate=rate, confidence=0.8)


def holder_not_seen(evidence: Evidence, sites: Sequence[SiteGrowth], rate: Slope, *, counted: bool) -> Finding:
    """Return that memory grows and nothing is seen to hold it; `counted`: its objects were counted often enough."""
    at = f", most of it at {place_text(sites[0].site)}" if sites else ""
    longer = f"a recording of {seconds_text(max(4 * evidence.window_s, 120))}, to see whether it goes on"
    return _finding(
        evidence,
        Verdict.UNDECIDED,
        "undetermined",
        f"{_grows(rate)}{at}; what holds it was not seen",
        "Record longer, with the objects, to see what holds it.",
        sites=sites,
        rate=rate,
        needs=(longer,) if counted else ("a census: `--collect heap,objects,process`",),
    )


def no_growth(evidence: Evidence, confidence: float, below_bytes_per_s: float | None = None) -> Finding:
    """Return that memory does not grow; below a rate, where only its readings say so."""
    anon = evidence.ledger.anon
    below = "does not grow" if below_bytes_per_s is None else f"grows by less than {bytes_text(below_bytes_per_s)}/s"
    return _finding(
        evidence,
        Verdict.PASS,
        "none",
        f"Memory {below}",
        "Nothing to do.",
        measured=max(anon.slope.estimate, 0.0) if anon is not None and not evidence.traced else None,
        confidence=confidence,
    )


def _grows(rate: Slope) -> str:
    """Return the beginning of a title."""
    return f"Memory grows by {bytes_text(rate.estimate)}/s"


def _number_grows(class_: str, growth: Growth) -> str:
    """Return the beginning of a title about threads or descriptors."""
    return (
        f"The number of {_COUNTED[class_][0]} grows by {growth.slope.estimate:.2g} per second, "
        f"from {growth.first:.0f} to {growth.last:.0f}"
    )


def _items(held: ContainerGrowth) -> str:
    """Return what piles up in a holder."""
    return short_type(held.item_type or "items")


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
