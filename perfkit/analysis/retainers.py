"""The only place that says who keeps a group of objects alive, and how a heap splits by who does."""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from perfkit.analysis.heap_graph import HeapGraph
from perfkit.analysis.path_classes import classify_all, counts

if TYPE_CHECKING:
    import pandas as pd

Ints = NDArray[np.int64]

BIG_DROP_RATIO = 0.7
"""A child that retains less of its parent than this shows that memory piles up in the parent (Eclipse MAT)."""
COHORT_RATIO = 0.8
"""Share of a group that must be behind an object for it to be their common holder (Eclipse MAT)."""
SPREAD_RATIO = 0.2
"""A child with more of the group than this is not one of many items: then there are several holders."""
MIN_SHARE = 0.1
"""Holders of a smaller share of a group are not told."""
MAX_COHORT = 10_000
"""Objects of a group that are looked at, evenly chosen (Eclipse MAT's max_paths)."""
MAX_PATHS = 3000
"""Paths that are told in words; the others are small, and added up."""
OTHER_PATHS = "(other paths)"


@dataclass(frozen=True, slots=True)
class Retainer:
    """What keeps a group of objects alive.

    `node` is the object that they pile up in; `steps` the path from a root to it, then the step to the
    objects and their type, for `Finding.retainer`. `owner` is the closest thing on the path that is not
    the standard library's, with the steps from it to the holder. `share` of the group is behind the
    holder; `bytes` is what the group itself takes. `example` is one of the group, as near as they come.
    """

    node: int
    example: int
    object_id: int
    type: str
    items: int | None
    steps: tuple[str, ...]
    owner: str | None
    objects: int
    bytes: int
    share: float


def accumulation_point(graph: HeapGraph, node: int) -> int:
    """Return the object in which the memory of an object piles up: itself, or one it hands most of it to.

    Source: Eclipse MAT, api/inspections/FindLeaksQuery.java: descend the dominator tree to the
    largest child while it retains at least 0.7 of its parent
    """
    offsets, children = _dominated(graph)
    retained = graph.retained_bytes
    while True:
        below = children[offsets[node] : offsets[node + 1]]
        if not len(below):
            return node
        largest = int(below[np.argmax(retained[below])])
        if retained[largest] < BIG_DROP_RATIO * retained[node]:
            return node
        node = largest


def retainers(graph: HeapGraph, cohort: Ints) -> list[Retainer]:
    """Return the objects in which a group piles up, the one with the largest share first.

    The shortest paths of all of them form a tree. From its root, go to the child that 0.8 of
    the group is behind. Where there is none, the group piles up if it spreads over many
    children, as in a dictionary of sessions; else it has several holders, and each large one is
    followed for itself. perfkit's own objects are left out; shares below 0.1 are, too.

    Args:
        graph: the snapshot.
        cohort: objects, such as those of a growing type that were not there in an earlier snapshot.

    Source: Eclipse MAT, FindLeaksQuery.java: group_suspects_accumulation_ratio
    """
    cohort = cohort[~graph.is_ours[cohort]]
    if not len(cohort):
        return []
    chosen = cohort
    if len(cohort) > MAX_COHORT:
        chosen = cohort[np.linspace(0, len(cohort) - 1, MAX_COHORT).astype(np.int64)]
    behind, below = _behind(graph, chosen)
    members = set(chosen.tolist())
    found: list[tuple[int, int]] = []
    waiting = [(len(graph), len(chosen))]
    while waiting:
        node, count = waiting.pop()
        children = [child for child in below.get(node, ()) if child not in members or below.get(child)]
        children.sort(key=lambda child: (-behind[child], child))
        most = behind[children[0]] if children else 0
        is_root = node == len(graph)
        if most >= COHORT_RATIO * count:
            waiting.append((children[0], most))
        elif is_root or most >= SPREAD_RATIO * count:
            waiting += [(child, behind[child]) for child in children if behind[child] >= MIN_SHARE * len(chosen)]
            if not is_root and (rest := count - sum(behind[child] for child in children)) >= MIN_SHARE * len(chosen):
                found.append((node, rest))
        else:
            found.append((node, count))
    scale = len(cohort) / len(chosen)
    answers = [
        _retainer(graph, node, _example(below, node, members), count / len(chosen), round(count * scale))
        for node, count in sorted(found, key=lambda pair: (-pair[1], pair[0]))
    ]
    mean_bytes = float(graph.size_bytes[cohort].mean())
    return [replace(answer, bytes=round(answer.objects * mean_bytes)) for answer in answers]


def retainer(graph: HeapGraph, cohort: Ints) -> Retainer | None:
    """Return the object in which most of a group piles up, see `retainers`; None when they have none in common."""
    return next(iter(retainers(graph, cohort)), None)


def newcomers(before: HeapGraph, after: HeapGraph, type_name: str) -> Ints:
    """Return the objects of a type that are in the later snapshot only.

    An address that is used again by an object of the same type counts as the same object, so
    fewer are returned than there are, never others.
    """
    now = after.of_type(type_name)
    then = before.object_id[before.of_type(type_name)]
    return now[~np.isin(after.object_id[now], then)]


def by_path(graph: HeapGraph) -> "pd.DataFrame":
    """Return the heap split by masked path: every object once, so sizes add up and can be compared.

    Objects whose shortest paths read the same are one row; a structure that refers to its own kind, as a
    linked list does, is one step. perfkit's own objects are left out.

    Columns: path (steps joined by " > "), objects, size_bytes; largest first.
    """
    import pandas as pd

    classes, [groups] = classify_all([graph])
    objects, size_bytes = counts(classes, groups, graph)
    rows = pd.DataFrame({"objects": objects, "size_bytes": size_bytes})
    rows = rows[rows["objects"] > 0].sort_values("size_bytes", ascending=False, kind="stable")
    told = [" > ".join(graph.steps(classes.example[number][1])) for number in rows.index[:MAX_PATHS]]
    rows["path"] = told + [OTHER_PATHS] * (len(rows) - len(told))
    summed = rows.groupby("path", as_index=False)[["objects", "size_bytes"]].sum()
    return summed.sort_values(["size_bytes", "path"], ascending=[False, True], ignore_index=True)


def _dominated(graph: HeapGraph) -> tuple[Ints, Ints]:
    """Return the objects that each object immediately dominates: offsets and children."""
    cached: tuple[Ints, Ints] | None = graph.__dict__.get("_dominated")
    if cached is None:
        idom = graph.idom[: len(graph)]
        children = np.argsort(idom, kind="stable")
        offsets = np.searchsorted(idom[children], np.arange(len(graph) + 2))
        cached = graph.__dict__["_dominated"] = offsets, children
    return cached


def _behind(graph: HeapGraph, cohort: Ints) -> tuple[Counter[int], dict[int, list[int]]]:
    """Return how many of a group are behind each object on their paths, and the tree of these paths."""
    behind: Counter[int] = Counter()
    below: dict[int, list[int]] = {}
    parent, n = graph.parent, len(graph)
    for each in cohort.tolist():
        node = each
        while node < n:
            above = int(parent[node])
            if node not in behind:
                below.setdefault(above, []).append(node)
            behind[node] += 1
            node = above
    return behind, below


def _example(below: dict[int, list[int]], node: int, members: set[int]) -> int:
    """Return a member of the group that is behind an object, by the shortest way."""
    level = [node]
    while level:
        level = [child for each in level for child in below.get(each, ())]
        if found := [each for each in level if each in members]:
            return min(found)
    return node


def _retainer(graph: HeapGraph, node: int, example: int, share: float, objects: int) -> Retainer:
    """Return what is known of a holder."""
    return Retainer(
        node=node,
        example=example,
        object_id=int(graph.object_id[node]),
        type=graph.type(node),
        items=int(graph.items[node]) if graph.items[node] >= 0 else None,
        steps=tuple(graph.steps(example)),
        owner=_owner(graph, node),
        objects=objects,
        bytes=0,
        share=share,
    )


def _owner(graph: HeapGraph, node: int) -> str | None:
    """Return the closest thing to a holder that is not the standard library's, and the way from it to the holder."""
    owner = graph.owner(node)
    if owner is None:
        return None
    path = graph.path(node)
    name = graph.names[graph.name_of[owner]] if graph.name_of[owner] >= 0 else graph.type(owner)
    for before, after in pairwise(path[path.index(owner) :]):
        word = graph.step(before, after)
        if word:
            name += word if word.startswith((".", "[")) else f".{word}" if word.isidentifier() else f"[{word}]"
    return name
