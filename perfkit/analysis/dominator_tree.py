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
    below it that are too small to be told take.
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

    Modules are rows of their own; the dictionary of an object's attributes is part of the object.
    perfkit's own objects are left out.

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
    is_namespace = _namespaces(graph)
    floor = max(least * float(graph.retained_bytes[n]), 1.0)
    left = most

    def below(nodes: Ints) -> Ints:
        """Return what some objects immediately dominate, their attributes in place of the dictionaries of them."""
        parents = nodes[graph.dominated_objects[nodes] > 1]
        if len(parents) > 1000:
            marked = np.zeros(n + 1, bool)
            marked[parents] = True
            found = children[marked[graph.idom[children]]]
        else:
            parts = [children[offsets[node] : offsets[node + 1]] for node in parents.tolist()]
            found = np.concatenate(parts) if parts else parents
        inner = is_namespace[found]
        return np.r_[found[~inner], below(found[inner])] if inner.any() else found

    def level(nodes: Ints, deeper: int) -> tuple[Group, ...]:
        """Return the groups of some siblings that are large enough to be told."""
        nonlocal left
        groups = sorted(_groups(graph, nodes), key=lambda each: (-int(graph.retained_bytes[each].sum()), int(each[0])))
        told = [each for each in groups[:top] if graph.retained_bytes[each].sum() >= floor][: max(left, 0)]
        left -= len(told)
        return tuple(_group(graph, each, level(below(each), deeper - 1) if deeper > 1 else ()) for each in told)

    return level(children[offsets[n] : offsets[n + 1]], depth)


def _namespaces(graph: HeapGraph) -> NDArray[np.bool_]:
    """Return which objects are the dictionary of the attributes of what dominates them."""
    if "<dict>" not in graph.labels:
        return np.zeros(len(graph), bool)
    is_direct = graph.parent == graph.idom[: len(graph)]
    return np.asarray((graph.edge_label == graph.labels.index("<dict>")) & is_direct)


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


def _group(graph: HeapGraph, nodes: Ints, children: Sequence[Group]) -> Group:
    """Return what is told of some objects of one type."""
    first = int(nodes[0])
    is_single = len(nodes) == 1
    parent, dominator = int(graph.parent[first]), int(graph.idom[first])
    is_direct = is_single and parent < len(graph) and parent == dominator
    own_bytes, retained_bytes = int(graph.size_bytes[nodes].sum()), int(graph.retained_bytes[nodes].sum())
    has_name = is_single and graph.name_of[first] >= 0
    return Group(
        node=first if is_single else -1,
        type=graph.type(first),
        name=graph.names[graph.name_of[first]] if has_name else "",
        step=graph.step(parent, first) if is_direct else "",
        objects=len(nodes),
        own_bytes=own_bytes,
        retained_bytes=retained_bytes,
        children=tuple(children),
        rest_bytes=max(retained_bytes - own_bytes - sum(child.retained_bytes for child in children), 0),
    )
