"""The only place that says whether threads or descriptors that are more belong to a pool that fills within a limit."""

import re

from perfkit.analysis.growth import ContainerGrowth, Evidence, FillingPool
from perfkit.analysis.heap_growth import held_below
from perfkit.analysis.holders import limits_of, open_limit
from perfkit.analysis.ledger import Growth
from perfkit.analysis.naming import holder_name

_OWNERS = {
    "thread_leak": re.compile(r"^threading\.(Thread|Timer)$|\.\w*Thread$"),
    "fd_leak": re.compile(r"(^|\.)(socket|SSLSocket|FileIO|Popen|\w*Transport)$"),
}
"""Types of objects that own a thread or a descriptor."""
_POOLED_RATIO = 0.4
"""Part of what was added that a pool must keep to be what it is for. Less than half: what comes to be in a server
for a client of the same process is added, too, and is not in the client's pool."""
_MOST_RATIO = 0.6
"""Part of what was added which a pool has opened, from which on there is nothing else to look for."""
_PER_CONNECTION = 1.25
"""Items per connection opened that are what a pool keeps of it: one, and those that are being made."""


def filling_pool(evidence: Evidence, class_: str, growth: Growth) -> FillingPool | None:
    """Return the pool that keeps a good part of the threads or descriptors that were added; None: none does.

    Its own events say it best: they know its limit, and that what is taken comes back. Where no pool was
    recorded, or it opened too little, a container will do that leads to the objects and has a limit in its code.

    Args:
        evidence: what is known of the process.
        class_: what it would be without a pool, `thread_leak` or `fd_leak`.
        growth: how the number of threads or descriptors grows.
    """
    least = _POOLED_RATIO * _added(growth)
    pool = evidence.filling_pool if class_ == "fd_leak" else None
    if pool is not None and pool.opened >= least:
        return pool
    for held in evidence.containers:
        if held.pile is None or evidence.heap_growth is None or not held.owner:
            continue
        limit, ends = open_limit(held), limits_of(held)
        if limit is None and not ends:
            continue
        if held_below(evidence.heap_growth, held.pile, _OWNERS[class_]) >= least:
            name = holder_name(held.owner, held.type)
            what = "threads" if class_ == "thread_leak" else "descriptors"
            return FillingPool(name, held.first, held.last, limit, None if limit else ends[0], held, what)
    return None


def explains(pool: FillingPool, growth: Growth) -> bool:
    """Whether a pool opened so many of the threads or descriptors that were added that the rest needs no cause."""
    return pool.opened >= _MOST_RATIO * _added(growth)


def is_of_pool(pool: FillingPool, held: ContainerGrowth) -> bool:
    """Whether a container may hold what a pool opened: it is the pool's own, or gets no longer than by that."""
    return held is pool.container or held.last - held.first <= _PER_CONNECTION * pool.opened


def _added(growth: Growth) -> float:
    """Return how many threads or descriptors there are more."""
    return growth.last - growth.first
