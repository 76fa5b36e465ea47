"""The only place that says what type and code of a container mean for its growth: is it a queue, will it end?"""

import re

from perfkit.analysis.growth import CodePlace, ContainerGrowth, Evidence

_CAN_BE_BOUNDED = re.compile(r"(^|\.)deque$|_lru_cache_wrapper$|^cachetools\.|(^|\.)\w*(LRU|TTL|LFU)\w*$")
"""Types that can have a limit of their own; growth proves nothing where neither it nor its absence is known."""
_QUEUE = re.compile(r"queue", re.IGNORECASE)
_CACHE = re.compile(r"cache|memo(?!ry)|lru", re.IGNORECASE)
_ENDS = re.compile(
    r"_*(clear|close|reset|stop|shutdown|drain|tear_?down|exit|del|free|dispose|abort|invalidate)", re.IGNORECASE
)
"""Names of functions that empty what they belong to at its end: that they exist does not limit anything."""
_MOSTLY = 0.5


def is_garbage(held: ContainerGrowth) -> bool:
    """Whether nobody holds it: it waits for the garbage collector."""
    return held.pile is not None and held.pile.kind == "garbage"


def is_collected(evidence: Evidence, held: ContainerGrowth) -> bool:
    """Whether something is garbage that the collector will come for."""
    return is_garbage(held) and not evidence.collector_rests


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


def is_cache(held: ContainerGrowth) -> bool:
    """Whether a container is called a cache."""
    return any(_CACHE.search(part) for part in (held.type, *held.owner[1:]))


def is_replaced(held: ContainerGrowth) -> bool:
    """Whether most of what is more took the place of what was there: that ends when all of it has been replaced."""
    return held.pile is not None and held.pile.replaced_ratio >= _MOSTLY


def open_limit(held: ContainerGrowth) -> int | None:
    """Return the limit of a container that has not passed it, in items; None where none is known."""
    return held.limit_items if held.limit_items is not None and held.last <= held.limit_items else None


def may_have_limit(held: ContainerGrowth) -> bool:
    """Whether a container is of a type that can have a limit, and does not say that it has none."""
    return bool(_CAN_BE_BOUNDED.search(held.type)) and not held.is_unlimited


def limits_of(held: ContainerGrowth) -> list[CodePlace]:
    """Return the lines that could end the growth of a container by themselves, the surest first.

    Those that compare its length or the age of its entries, unless they are known never to have
    run; those that empty it, where they have run, or where that is not known and their name
    does not say that they do so at the end of everything.
    """
    bounds = [place for place in held.places("bounds") if place.has_run is not False and not place.limit_items]
    evicts = [place for place in held.places("evicts") if place.has_run is not False and not _only_at_the_end(place)]
    return [*bounds, *held.places("expires"), *evicts]


def is_only_filled(held: ContainerGrowth) -> bool:
    """Whether the code that puts items in was read and nothing takes any out."""
    return bool(held.places("inserts")) and not held.places("removes", "evicts", "bounds", "expires")


def _only_at_the_end(place: CodePlace, but: str = "\0") -> bool:
    """Whether a line that is not known to have run is in a function whose name says that it ends everything."""
    name = place.function.rpartition(".")[2]
    return place.has_run is None and bool(_ENDS.match(name)) and not name.strip("_").startswith(but)
