"""Who holds what piles up? The references from a root of the heap down to it, drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, starmap

import numpy as np
from numpy.typing import NDArray

from perfkit.analysis.heap_graph import ROOTS, HeapGraph
from perfkit.analysis.heap_growth import between
from perfkit.analysis.retainers import Retainer, retainers
from perfkit.findings import Finding
from perfkit.profile import Profile
from perfkit.units import bytes_text, count_text, percent_text
from perfkit.views.boxes import Box, BoxChain
from perfkit.views.display import Bar, Note
from perfkit.views.selection import chosen_pid, evidence, leading_type, leaked_objects

MOST_BOXES = 12
"""Boxes that are drawn; of a longer path the middle is left out."""
_ROOT = {
    "module": "module",
    "library": "module of a library",
    "stdlib": "module of the standard library",
    "frame": "function that is running",
    "task": "coroutine that waits",
    "native": "C code",
    "garbage": "cycle that nothing refers to",
    "perfkit": "perfkit's own",
}


def retaining_path(
    profile: Profile,
    finding: Finding | None = None,
    *,
    pid: int | None = None,
    type_name: str = "",
    warmup_s: float | None = None,
) -> BoxChain | Note:
    """Return the chain of references that keeps alive what piles up, from its root down, as boxes.

    It is drawn from the snapshot of the heap; where none was taken, from what the finding or the
    censuses say of the holder, without sizes.

    Args:
        profile: what was recorded.
        finding: the finding to explain; None: whatever grows.
        pid: process to show; None or 0: the finding's, else the main one.
        type_name: module.qualname of the type to explain; empty: the finding's, else the one that piles up.
        warmup_s: start of the recording to leave out, in seconds; None or negative: found from the data.
    """
    pid = chosen_pid(profile, pid or (finding.pid if finding else None))
    type_ = type_name or (finding.type if finding else None) or leading_type(profile, pid, warmup_s)
    hint = finding.retainer if finding and not type_name else ()
    if held := _pile(profile, pid, hint) or _cohort(profile, pid, type_, hint):
        return _drawn(held)
    return _told(profile, pid, hint, type_)


@dataclass(frozen=True)
class _Held:
    """What piles up in one snapshot, and its holders: the one to draw first."""

    graph: HeapGraph
    holders: Sequence[Retainer]
    nodes: NDArray[np.int64]
    are_new: bool


def _pile(profile: Profile, pid: int, hint: Sequence[str]) -> _Held | None:
    """Return the growth between two snapshots that the finding is about; None when it is about none."""
    grown = between(profile, pid)
    if grown is None or len(hint) < 2:
        return None
    agreeing = [each for each in grown[0].piles if each.steps == tuple(hint[: len(each.steps)]) and len(each.newcomers)]
    if not agreeing:
        return None
    pile, graph = max(agreeing, key=lambda each: len(each.steps)), grown[0].after
    nodes = pile.newcomers[graph.type_of[pile.newcomers] == graph.types.index(pile.item_type or pile.type)]
    paths = [graph.path(int(node)) for node in nodes[:: max(len(nodes) // 200, 1)]]
    behind = [path for path in paths if pile.node in path]
    if not behind:
        return None
    example = min(behind, key=len)[-1]
    holder = Retainer(
        node=pile.node,
        example=example,
        object_id=int(graph.object_id[pile.node]),
        type=pile.type,
        items=int(graph.items[pile.node]) if graph.items[pile.node] >= 0 else None,
        steps=tuple(graph.steps(example)),
        owner=None,
        objects=len(nodes),
        bytes=pile.bytes,
        share=1.0,
    )
    return _Held(graph, [holder], nodes, are_new=True)


def _cohort(profile: Profile, pid: int, type_: str | None, hint: Sequence[str]) -> _Held | None:
    """Return the objects of a type that are new, or all of them; None when there are none or nobody holds them."""
    leaked = leaked_objects(profile, pid, type_) if type_ else None
    if leaked is None:
        return None
    found = retainers(leaked.graph, leaked.nodes)
    # What the finding says comes first; several holders are sorted by their share.
    found.sort(key=lambda each: -_agreement(each.steps, hint))
    return _Held(leaked.graph, found, leaked.nodes, leaked.are_new) if found else None


def _drawn(held: _Held) -> BoxChain:
    """Return the path to the first of some holders, with what each box alone keeps alive."""
    graph, first = held.graph, held.holders[0]
    boxes = _boxes(held)
    if len(boxes) > MOST_BOXES:
        half = MOST_BOXES // 2
        left_out = len(boxes) - 2 * half
        boxes = [*boxes[:half], Box(f"{left_out} more steps", role="gap"), *boxes[-half:]]
    caption = (
        f"{_name(graph, first)} holds "
        f"{_objects(first.objects, graph.type(first.example), 'new ' if held.are_new else '')}"
        f"{'' if first.share > 0.995 else f', {percent_text(first.share)} of all'}."
    )
    notes = ["The bars say how much of the heap would be freed if the thing in that box went away."]
    notes += [
        f"{percent_text(other.share)} of them are held by {' > '.join(other.steps[:-1])}."
        for other in held.holders[1:4]
    ]
    return BoxChain(caption, boxes, notes)


def _name(graph: HeapGraph, holder: Retainer) -> str:
    """Return what people call a holder: the way to it from its module; elsewhere the closest thing with a name."""
    path = graph.path(holder.node)
    if ROOTS[int(graph.root[path[0]])] not in ("module", "library", "stdlib"):
        return holder.owner or holder.steps[0]
    steps = [step for step in starmap(graph.step, pairwise(path)) if step]
    return graph.root_name(path[0]).removeprefix("module ") + "".join(
        step if step.startswith((".", "[")) else f".{step}" if step.isidentifier() else f"[{step}]" for step in steps
    )


def _boxes(held: _Held) -> list[Box]:
    """Return a box for each thing on the path; a namespace belongs to the box of its module or object."""
    graph, holder = held.graph, held.holders[0]
    path = graph.path(holder.example)
    groups: list[tuple[str, list[int]]] = [("", [path[0]])]
    for before, after in pairwise(path):
        step = graph.step(before, after)
        if not step and after != holder.example:
            groups[-1][1].append(after)
        else:
            groups.append((step, [after]))
    boxes = []
    for number, (step, nodes) in enumerate(groups):
        if number and nodes[0] == holder.example:
            boxes.append(_leaked(held, step))
            break
        is_holder = holder.node in nodes
        boxes.append(_box(graph, nodes, step, holder=holder if is_holder else None, is_root=number == 0))
    return boxes


def _box(graph: HeapGraph, nodes: Sequence[int], step: str, *, holder: Retainer | None, is_root: bool) -> Box:
    """Return the box of one thing; `nodes` begins with it, namespaces follow."""
    node = holder.node if holder else nodes[0]
    items = int(graph.items[nodes[-1]] if holder is None else graph.items[node])
    has_name = graph.name_of[nodes[0]] >= 0
    name = graph.names[graph.name_of[nodes[0]]] if has_name else _last(graph.type(nodes[0]))
    counted = f"with {count_text(items)} items" if items >= 0 and len(nodes) == 1 else ""
    if is_root:
        kind = _ROOT[ROOTS[max(int(graph.root_of[nodes[0]]), int(graph.root[nodes[0]]), 0)]]
    else:
        kind = _last(graph.type(nodes[0])) if has_name else ""
    return Box(
        name=name,
        kind=kind,
        step=step,
        role="holder" if holder else "root" if is_root else "",
        remark=", ".join(part for part in (counted, "here they pile up" if holder else "") if part),
        freed=_freed(graph, int(graph.retained_bytes[node])),
    )


def _leaked(held: _Held, step: str) -> Box:
    """Return the last box: what piles up."""
    graph, holder = held.graph, held.holders[0]
    each = round(float(graph.retained_bytes[held.nodes].mean()))
    return Box(
        name=_objects(holder.objects, graph.type(holder.example)),
        step=step,
        role="leaked",
        remark=f"{'new since the first snapshot, ' if held.are_new else ''}{bytes_text(each)} each",
        freed=_freed(graph, min(each * holder.objects, int(graph.retained_bytes[holder.node]))),
    )


def _freed(graph: HeapGraph, size_bytes: int) -> Bar:
    """Return how much would go with a thing."""
    share = size_bytes / max(int(graph.retained_bytes[-1]), 1)
    return Bar(f"frees {bytes_text(size_bytes)}, {percent_text(share)}", share)


def _told(profile: Profile, pid: int, hint: Sequence[str], type_: str | None) -> BoxChain | Note:
    """Return the path in the words of the finding or of the censuses, without sizes."""
    if not profile.table("container_sizes").num_rows and not profile.table("heap_objects").num_rows and not hint:
        return Note("Nothing was recorded: no collector looked at who refers to whom in this process.")
    growing = [each for each in evidence(profile, pid).containers if each.keeps_growing]
    words = tuple(hint) or next(((*each.owner, each.type) for each in growing if each.owner), ())
    if len(words) < 2:
        return Note("Nothing was seen that keeps piling up, so there is no path to draw.")
    counted = next((each for each in growing if (*each.owner, each.type) == words), None)
    *steps, kind = words
    boxes = [Box(steps[0].removeprefix("module "), kind="module", role="root")]
    boxes += [Box(step, step="") for step in steps[1:-1]]
    remark = "here they pile up" if counted is None else f"with {count_text(counted.last)} items, here they pile up"
    boxes.append(Box(kind, step=steps[-1] if len(steps) > 1 else "", role="holder", remark=remark))
    if type_:
        name = f"{_last(type_)} objects" if counted is None else _objects(counted.last - counted.first, type_)
        boxes.append(Box(name, role="leaked", remark="" if counted is None else "added since the warm-up"))
    note = "No snapshot of the heap was taken, so sizes are not known: record with `--collect object_graph`, too."
    return BoxChain(f"{' > '.join(steps)} holds what piles up.", boxes, [note])


def _agreement(steps: Sequence[str], hint: Sequence[str]) -> int:
    """Return how many steps two paths share from their root on."""
    shared = 0
    for one, other in zip(steps, hint, strict=False):
        if one != other:
            break
        shared += 1
    return shared


def _objects(count: int, type_: str, adjective: str = "") -> str:
    """Return a number of objects in words: 3 new Session objects."""
    return f"{count_text(count)} {adjective}{_last(type_)} {'object' if count == 1 else 'objects'}"


def _last(dotted: str) -> str:
    """Return the last part of a dotted name."""
    return dotted.rpartition(".")[2]
