"""The only place that puts places and holders of memory into words and plain numbers."""

from collections.abc import Sequence
from typing import Any

from perfkit.analysis.growth import CodePlace, ContainerGrowth, Evidence
from perfkit.analysis.survival import Place

_DEFAULTS = "defaults"
"""The step from a function to the defaults of its parameters."""
_CACHE = "cache"
"""How the census calls the way from a function with `functools.lru_cache` to what it keeps."""


def place_text(place: Place | CodePlace) -> str:
    """Return a line of code as people write it: function, and file without the folders around its package.

    >>> place_text(Place("remember", "/srv/perfkit/proxy/faults.py", 42, None, "python"))
    'remember (proxy/faults.py:42)'
    """
    if not place.file:
        return place.function
    file = "/".join(place.file.split("/")[-2:])
    return f"{place.function} ({file}:{place.line})" if place.line else f"{place.function} ({file})"


def holder_name(owner: Sequence[str], otherwise: str = "a container") -> str:
    """Return what people call a container: the path to it below its module, from the last plain name on.

    >>> holder_name(("module app.sessions", "SESSIONS", ".by_id"))
    'SESSIONS.by_id'
    >>> holder_name(("module app.views", "Report", ".render", "cache"))
    'the cache of Report.render'
    >>> holder_name(("module app", "HISTORY", "dict value"))
    'HISTORY[...]'
    >>> holder_name(("module app", "audit", "defaults", "tuple item"))
    'a default argument of audit'
    """
    if not owner:
        return f"a {otherwise} that no module was seen to own"
    if owner[-1] == _CACHE and len(owner) > 1:
        return f"the cache of {holder_name(owner[:-1])}"
    if _DEFAULTS in owner[1:]:
        return f"a default argument of {holder_name(owner[: owner.index(_DEFAULTS)])}"
    name = ""
    for number, step in enumerate(owner):
        if number == 0 or not (step.startswith((".", "[")) or " " in step or step == "reference"):
            name = step
        elif step.startswith((".", "[")):
            name += step
        elif not name.endswith("[...]"):
            name += "[...]"
    return name.removeprefix("module ")


def short_type(name: str) -> str:
    """Return the last part of a dotted type.

    >>> short_type("app.sessions.Session")
    'Session'
    """
    return name.rpartition(".")[2]


def numbers(evidence: Evidence) -> dict[str, Any]:
    """Return the numbers behind a verdict, for machines and for the notebook."""
    limit = evidence.limit
    return {
        "since_s": round(evidence.since_s, 3),
        "window_s": round(evidence.window_s, 3),
        "rungs": evidence.rungs,
        "readings": evidence.readings,
        "moments": evidence.moments,
        "snapshots_s": None if evidence.snapshots_s is None else [round(at_s, 3) for at_s in evidence.snapshots_s],
        "python_bytes_per_s": None if evidence.python_bytes_per_s is None else round(evidence.python_bytes_per_s, 1),
        "ledger": evidence.ledger.summary(),
        "limit": None if limit is None else {"bytes": limit.limit_bytes, "of": limit.source},
        "containers": [container_numbers(each) for each in evidence.containers[:5]],
        "types": [
            {"type": each.type, "objects": [each.first, each.last], "every_rung": each.every_rung, "p": each.p}
            for each in evidence.types[:8]
        ],
        "sites": [
            {
                "site": place_text(each.site),
                "bytes_per_s": [round(value, 1) for value in each.bytes_per_s.interval],
                "survivors": [each.old_survivors, each.old_allocations],
                "p_leak": round(each.p_leak, 4),
                "keeps_growing": each.keeps_growing,
                "stack_ids": list(each.stack_ids[:10]),
            }
            for each in evidence.sites[:5]
        ],
    }


def container_numbers(each: ContainerGrowth) -> dict[str, Any]:
    """Return the numbers of one container."""
    return {
        "owner": list(each.owner),
        "type": each.type,
        "item_type": each.item_type,
        "items": [each.first, each.last],
        "items_per_s": [round(value, 4) for value in each.items_per_s.interval],
        "bytes_per_s": None if each.bytes_per_s is None else round(each.bytes_per_s, 1),
        "every_rung": each.every_rung,
        "shape": each.shape.name if each.shape is not None else None,
        "p": each.p,
        "code": [f"{place.role}: {place_text(place)}" for place in each.code[:8]],
    }
