"""Dominators and retained sizes against their definitions, on graphs small enough to try every node."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfkit.analysis.dominators import immediate_dominators, retained_bytes


def reachable(edges: list[tuple[int, int]], without: int | None = None) -> set[int]:
    """Return what can be reached from node 0 when one node is taken away."""
    found: set[int] = set()
    waiting = [0] if without != 0 else []
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [to for source, to in edges if source == node and to != without]
    return found


def by_definition(n: int, edges: list[tuple[int, int]]) -> list[set[int]]:
    """Return the strict dominators of each node: those without which it cannot be reached."""
    alive = reachable(edges)
    lost = [alive - reachable(edges, without=node) for node in range(n)]
    return [{other for other in range(n) if other != node and node in lost[other]} for node in range(n)]


def compressed(n: int, edges: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets and targets of edges."""
    ordered = sorted(edges, key=lambda edge: edge[0])
    degrees = np.bincount([source for source, _to in ordered], minlength=n) if edges else np.zeros(n, np.int64)
    return np.r_[0, np.cumsum(degrees)].astype(np.int64), np.array([to for _source, to in ordered], np.int64)


graphs = st.integers(1, 12).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=3 * n))
)


@settings(deadline=None)
@given(graphs)
def test_the_immediate_dominator_is_the_closest_of_all_dominators(graph: tuple[int, list[tuple[int, int]]]) -> None:
    n, edges = graph
    idom = immediate_dominators(*compressed(n, edges), 0)
    alive, dominators = reachable(edges), by_definition(n, edges)
    for node in range(n):
        if node == 0 or node not in alive:
            assert idom[node] == (0 if node == 0 else -1)
            continue
        closest = idom[node]
        assert closest in dominators[node]
        assert dominators[node] == dominators[closest] | {closest}


@settings(deadline=None)
@given(graphs, st.data())
def test_what_a_node_retains_is_what_goes_with_it(
    graph: tuple[int, list[tuple[int, int]]], data: st.DataObject
) -> None:
    n, edges = graph
    sizes = np.array(data.draw(st.lists(st.integers(0, 1000), min_size=n, max_size=n)), np.int64)
    idom = immediate_dominators(*compressed(n, edges), 0)
    retained = retained_bytes(idom, 0, sizes)
    alive = reachable(edges)
    for node in alive:
        assert retained[node] == sizes[list(alive - reachable(edges, without=node))].sum()


@pytest.mark.parametrize("length", [pytest.param(100_000, id="a-hundred-thousand-links")])
def test_a_long_chain_that_shares_its_leaves_is_no_deep_recursion(length: int) -> None:
    """Each link refers to the next and to a leaf; the first and the last share one more."""
    links = [(node, node + 1) for node in range(length - 1)]
    leaves = [(node, length + node) for node in range(length)]
    shared = [(10, 2 * length), (length - 1, 2 * length)]
    n = 2 * length + 1
    idom = immediate_dominators(*compressed(n, links + leaves + shared), 0)
    assert idom[2 * length] == 10
    assert (idom[length : 2 * length] == np.arange(length)).all()
    assert retained_bytes(idom, 0, np.ones(n, np.int64))[0] == n
