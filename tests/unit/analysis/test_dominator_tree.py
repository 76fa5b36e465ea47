"""A dominator tree that people can read: by type, nothing counted twice, nothing lost, and never too long."""

from collections.abc import Iterator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from perfkit.analysis.dominator_tree import Group, dominator_groups
from perfkit.analysis.heap_graph import HeapGraph
from tests.unit.analysis.drawings import DICT, SESSION, heap, module, sessions


def every(groups: tuple[Group, ...]) -> Iterator[Group]:
    """Yield groups and all below them."""
    for group in groups:
        yield group
        yield from every(group.children)


@st.composite
def graphs(draw: st.DrawFn) -> HeapGraph:
    """Return any small heap: a few modules, things of three types, references in all directions."""
    size = draw(st.integers(2, 30))
    kinds = draw(st.lists(st.sampled_from(("app.A", "app.B", "builtins.dict")), min_size=size, max_size=size))
    sizes = draw(st.lists(st.integers(1, 500), min_size=size, max_size=size))
    pair = st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))
    edges = draw(st.lists(pair, max_size=60, unique=True))
    labels = draw(st.lists(st.sampled_from(("<dict>", ".a", ".b")), min_size=len(edges), max_size=len(edges)))
    things = [{"type": kind, "size_bytes": each} for kind, each in zip(kinds, sizes, strict=True)]
    things[0] = module("app") | {"size_bytes": sizes[0]}
    return heap(things, [(*edge, label) for edge, label in zip(edges, labels, strict=True)])


@settings(deadline=None, max_examples=60)
@given(graphs())
def test_everything_is_told_once_when_nothing_is_too_small(graph: HeapGraph) -> None:
    groups = dominator_groups(graph, top=100, depth=100, least=0.0)
    assert sum(group.retained_bytes for group in groups) == graph.size_bytes.sum()
    for group in every(groups):
        below = sum(child.retained_bytes for child in group.children)
        assert group.own_bytes + below + group.rest_bytes == group.retained_bytes
        assert group.objects >= 1
    told = sum(group.objects for group in every(groups))
    assert told <= len(graph)


@settings(deadline=None, max_examples=30)
@given(graphs(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 12))
def test_it_is_never_longer_than_asked_for(graph: HeapGraph, top: int, depth: int, most: int) -> None:
    groups = dominator_groups(graph, top=top, depth=depth, most=most)
    told = list(every(groups))
    assert len(told) <= most
    assert all(len(group.children) <= top for group in told)

    def deepest(level: tuple[Group, ...]) -> int:
        return max((1 + deepest(group.children) for group in level), default=0)

    assert deepest(groups) <= depth


def test_sessions_in_a_dict_are_one_row_below_it_and_the_namespace_is_none() -> None:
    [app] = dominator_groups(sessions(50))
    assert (app.type, app.name) == ("builtins.module", "app")
    [held] = [group for group in app.children if group.children]
    assert (held.type, held.step, held.objects) == ("builtins.dict", "SESSIONS", 1)
    [rows] = held.children
    assert (rows.type, rows.objects, rows.retained_bytes) == ("app.Session", 50, 5_000)


def test_one_large_thing_among_many_of_its_type_is_told_apart() -> None:
    things = [module("app"), DICT, *[{**DICT, "size_bytes": 50} for _ in range(20)], {**DICT, "size_bytes": 9_000}]
    graph = heap(things, [(0, 1, ".TABLES"), *[(1, number, f".t{number}") for number in range(2, 23)]])
    [app] = dominator_groups(graph)
    [tables] = app.children
    assert [(group.objects, group.step) for group in tables.children] == [(1, "t#"), (20, "")]


def test_what_perfkit_holds_is_left_out() -> None:
    graph = heap([module("app"), {"type": "perfkit.Probe", "root": "perfkit"}, SESSION], [(1, 2)])
    assert [group.name for group in dominator_groups(graph)] == ["app"]


def test_many_things_below_one_row_are_all_counted() -> None:
    count = 200_000
    rows = sessions(10)
    big = HeapGraph(
        **{
            **{name: getattr(rows, name) for name in ("types", "names", "labels")},
            "object_id": np.arange(4 + count),
            "type_of": np.r_[rows.type_of[:4], np.full(count, rows.type_of[4], np.int32)],
            "size_bytes": np.r_[rows.size_bytes[:4], np.full(count, 100)],
            "refcount": np.r_[rows.refcount[:4], np.ones(count, np.int64)],
            "items": np.r_[rows.items[:4], np.full(count, -1)],
            "root": np.r_[rows.root[:4], np.full(count, -1, np.int32)],
            "name_of": np.r_[rows.name_of[:4], np.full(count, -1, np.int32)],
            "offsets": np.r_[rows.offsets[:3], np.full(count + 2, rows.offsets[2] + count)],
            "targets": np.r_[rows.targets[: rows.offsets[2]], np.arange(4, 4 + count, dtype=np.int32)],
            "label_of": np.r_[rows.label_of[: rows.offsets[2]], np.full(count, -1, np.int32)],
        }
    )
    [app] = dominator_groups(big)
    assert max(group.objects for group in every((app,))) == count
