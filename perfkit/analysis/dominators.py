"""The only place that computes dominators: which object must go for another to be freed."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_CHUNK = 200_000


def immediate_dominators(offsets: Ints, targets: Ints, root: int) -> Ints:
    """Return the immediate dominator of each node: the last node that every path from the root passes.

    Nodes without references of their own, most of a heap, dominate nothing: the dominator tree
    is made of the others, and such a node's dominator is where its referrers meet in that tree.
    That is the common ancestor of the first and the last of them in preorder.

    Args:
        offsets: n + 1 numbers; node i refers to `targets[offsets[i]:offsets[i + 1]]`.
        targets: m nodes.
        root: node to start from.

    Returns:
        n nodes; `root` for the root itself, -1 for nodes that cannot be reached.

    Source: K. Cooper, T. Harvey, K. Kennedy (2001), A Simple, Fast Dominance Algorithm
    """
    n = len(offsets) - 1
    degrees = np.diff(offsets)
    has_references = degrees > 0
    has_references[root] = True
    inner = np.flatnonzero(has_references)
    number = np.full(n, -1, np.int64)
    number[inner] = np.arange(len(inner))
    sources = np.repeat(np.arange(n), degrees)
    is_inner_edge = has_references[targets]
    inner_idom = _of_inner(number[sources[is_inner_edge]], number[targets[is_inner_edge]], len(inner), number[root])
    idom = np.full(n, -1, np.int64)
    reached = inner_idom >= 0
    idom[inner[reached]] = inner[inner_idom[reached]]
    outer = ~is_inner_edge
    outer[outer] &= reached[number[sources[outer]]]
    if outer.any():
        leaves, meeting = _meetings(number[sources[outer]], targets[outer], inner_idom, int(number[root]))
        idom[leaves] = inner[meeting]
    return idom


def _of_inner(sources: Ints, targets: Ints, n: int, root: int) -> Ints:
    """Return the immediate dominators of a graph given as edges."""
    import rustworkx

    edges = np.sort(sources * n + targets)  # np.unique takes ten times as long
    edges = edges[np.r_[True, edges[1:] != edges[:-1]]] if len(edges) else edges
    graph = rustworkx.PyDiGraph(multigraph=True, node_count_hint=n, edge_count_hint=len(edges))
    graph.add_nodes_from(range(n))
    for start in range(0, len(edges), _CHUNK):
        part = edges[start : start + _CHUNK]
        graph.extend_from_edge_list(list(zip((part // n).tolist(), (part % n).tolist(), strict=True)))
    found = rustworkx.immediate_dominators(graph, int(root))
    idom = np.full(n, -1, np.int64)
    idom[np.fromiter(found.keys(), np.int64, len(found))] = np.fromiter(found.values(), np.int64, len(found))
    idom[root] = root
    return idom


def _meetings(sources: Ints, leaves: Ints, idom: Ints, root: int) -> tuple[Ints, Ints]:
    """Return each leaf once, and the node of the dominator tree where its referrers meet."""
    order, place = preorder(idom, root)
    by_leaf = np.argsort(leaves, kind="stable")
    leaves, places = leaves[by_leaf], place[sources[by_leaf]]
    starts = np.flatnonzero(np.r_[True, leaves[1:] != leaves[:-1]])
    first, last = np.minimum.reduceat(places, starts), np.maximum.reduceat(places, starts)
    # In preorder a subtree is an interval: go up from the first until its interval holds the last.
    ends = np.empty(len(idom), np.int64)
    ends[place[order]] = place[order] + _subtree_sizes(idom, order)[order]
    node = order[first]
    jumps = [idom]
    waiting = ends[first] <= last
    # Jumps of 1, 2, 4, ... steps: a chain of a million objects takes twenty rounds.
    while len(jumps) < 40 and not (jumps[-1] == root)[idom >= 0].all():
        previous = jumps[-1]
        jumps.append(np.where(previous >= 0, previous[np.maximum(previous, 0)], -1))
    for jump in reversed(jumps):
        above = jump[node]
        stays = waiting & (ends[place[above]] <= last)
        node = np.where(stays, above, node)
    node = np.where(waiting, idom[node], node)
    return leaves[starts], node


def preorder(idom: Ints, root: int) -> tuple[Ints, Ints]:
    """Return the nodes of a dominator tree in preorder, and the place of each node in it (-1: not in the tree)."""
    # Not scipy's depth_first_order: it looks at all children of a node again for each of them.
    children = np.flatnonzero(idom >= 0)
    children = children[children != root]
    children = children[np.argsort(idom[children], kind="stable")]
    starts: list[int] = np.searchsorted(idom[children], np.arange(len(idom) + 1)).tolist()
    below: list[int] = children.tolist()
    order: list[int] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        order.append(node)
        if starts[node] != starts[node + 1]:
            waiting += below[starts[node] : starts[node + 1]]
    found = np.array(order, np.int64)
    place = np.full(len(idom), -1, np.int64)
    place[found] = np.arange(len(found))
    return found, place


def _subtree_sizes(idom: Ints, order: Ints) -> Ints:
    """Return how many nodes each node dominates, itself included."""
    return sums_over_subtrees(idom, order, np.ones(len(idom), np.int64))


def sums_over_subtrees(idom: Ints, order: Ints, values: Ints) -> Ints:
    """Return, for each node, the sum of the values of the nodes it dominates, its own included.

    Args:
        idom: n immediate dominators.
        order: the nodes of the tree, each after its dominator; the root first.
        values: n numbers.

    Returns:
        n sums; the node's own value for nodes that are not in the tree.
    """
    sums: list[int] = values.tolist()
    parents: list[int] = idom.tolist()
    for node in order[:0:-1].tolist():
        sums[parents[node]] += sums[node]
    return np.array(sums, np.int64)


def retained_bytes(idom: Ints, root: int, size_bytes: Ints) -> Ints:
    """Return what would be freed if a node went: its size and that of all it dominates, in bytes.

    Args:
        idom: n immediate dominators, as `immediate_dominators` returns them.
        root: the root they were computed from.
        size_bytes: n sizes.
    """
    order, _place = preorder(idom, root)
    return sums_over_subtrees(idom, order, size_bytes)
