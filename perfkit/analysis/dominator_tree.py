"""The only place that folds a dominator tree into one that people can read: grouped by type, the largest first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfkit.analysis.heap_graph import HeapGraph

Ints = NDArray[np.int64]

SINGLE_RATIO = 0.5
"""Share of a group's memory from which on one object is told apart from the others of its type."""


@dataclass(frozen=True, slots=True)
class Group:
    """Objects of one type that have the same dominator, or whose dominators are of one group.

    `node` is the object when it is only one, else -1; `retained_bytes` what would be freed if
    they all went, which adds up among the groups below one parent. `rest_bytes` is what groups
    that are too small to be told take.
    """

    node: int
    type: str
    name: str
    step: str
    objects: int
    own_bytes: int
    retained_bytes: int
    children: tuple["Group", ...]
    rest_bytes: int


def dominator_groups(
    graph: HeapGraph, *, top: int = 8, depth: int = 10, least: float = 0.002, most: int = 400
) -> tuple[Group, ...]:
    """Return the top of a dominator tree, grouped by type below each parent as Eclipse MAT does.

    Modules are rows of their own. perfkit's own objects are left out.

    Args:
        graph: the snapshot.
        top: most groups below one parent.
        depth: most levels.
        least: share of the heap below which a group is not told.
        most: most groups of all.

    Source: Eclipse MAT, dominator tree, "Group by class"
    """
    n = len(graph)
    kept = np.flatnonzero(~graph.is_ours)
    children = kept[np.argsort(graph.idom[kept], kind="stable")]
    offsets = np.searchsorted(graph.idom[children], np.arange(n + 2))
    floor = max(least * float(graph.retained_bytes[n]), 1.0)
    left = most

    def level(nodes: Ints, deeper: int) -> tuple[tuple[Group, ...], int]:
        """Return the groups of some siblings, and the bytes of those that are not told."""
        nonlocal left
        whole = int(graph.retained_bytes[nodes].sum())
        groups = sorted(_groups(graph, nodes), key=lambda each: (-int(graph.retained_bytes[each].sum()), int(each[0])))
        told = [each for each in groups[:top] if graph.retained_bytes[each].sum() >= floor][: max(left, 0)]
        left -= len(told)
        found = []
        for each in told:
            inner, rest = level(below(each), deeper - 1) if deeper > 1 else ((), 0)
            found.append(_group(graph, each, inner, rest))
        return tuple(found), whole - sum(group.retained_bytes for group in found)

    def below(nodes: Ints) -> Ints:
        """Return what some objects immediately dominate."""
        parents = nodes[graph.dominated_objects[nodes] > 1]
        if len(parents) > 1000:
            marked = np.zeros(n + 1, bool)
            marked[parents] = True
            return children[marked[graph.idom[children]]]
        parts = [children[offsets[node] : offsets[node + 1]] for node in parents.tolist()]
        return np.concatenate(parts) if parts else parents

    return level(children[offsets[n] : offsets[n + 1]], depth)[0]


def _groups(graph: HeapGraph, nodes: Ints) -> list[Ints]:
    """Return siblings by type; modules, and one that retains most of its group, for themselves."""
    if not len(nodes):
        return []
    by_type = nodes[np.argsort(graph.type_of[nodes], kind="stable")]
    starts = np.flatnonzero(np.r_[True, np.diff(graph.type_of[by_type]) != 0])
    found: list[Ints] = []
    for group in np.split(by_type, starts[1:]):
        if graph.type(int(group[0])) == "builtins.module":
            found += [group[number : number + 1] for number in range(len(group))]
            continue
        retained = graph.retained_bytes[group]
        largest = int(np.argmax(retained))
        if len(group) > 1 and retained[largest] >= SINGLE_RATIO * retained.sum():
            found += [group[largest : largest + 1], np.delete(group, largest)]
        else:
            found.append(group)
    return found


def _group(graph: HeapGraph, nodes: Ints, children: Sequence[Group], rest_bytes: int) -> Group:
    """Return what is told of some objects of one type."""
    first = int(nodes[0])
    is_single = len(nodes) == 1
    parent = int(graph.parent[first])
    is_direct = is_single and parent < len(graph) and parent == graph.idom[first]
    has_name = is_single and graph.name_of[first] >= 0
    return Group(
        node=first if is_single else -1,
        type=graph.type(first),
        name=graph.names[graph.name_of[first]] if has_name else "",
        step=(graph.step(parent, first) or "attributes") if is_direct else "",
        objects=len(nodes),
        own_bytes=int(graph.size_bytes[nodes].sum()),
        retained_bytes=int(graph.retained_bytes[nodes].sum()),
        children=tuple(children),
        rest_bytes=rest_bytes,
    )
