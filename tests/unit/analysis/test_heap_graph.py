"""What a heap graph says of small heaps that can be drawn on paper."""

import numpy as np
import pytest

from perfkit.analysis.heap_graph import HeapGraph, by_type, largest
from perfkit.analysis.retainers import accumulation_point, by_path, newcomers, retainer, retainers
from perfkit.tables import HEAP_OBJECTS, HEAP_REFERENCES
from tests.unit.analysis.drawings import DICT, heap, module, sessions


def test_a_path_is_told_in_words() -> None:
    graph = sessions(5)
    assert graph.steps(4) == ["module app", "SESSIONS", "dict value", "Session"]
    assert graph.steps(0) == ["module app"]


def test_what_is_retained_adds_up_to_the_heap() -> None:
    graph = sessions(5)
    assert graph.retained_bytes.tolist()[2] == 10 + 5 * 100
    assert graph.retained_bytes[-1] == graph.size_bytes.sum()


def test_a_module_is_reached_by_its_own_name_and_not_through_another() -> None:
    graph = heap(
        [module("app"), {**DICT}, module("json", "stdlib"), {"type": "json.Thing"}],
        [(0, 1, "<dict>"), (1, 2, ".json"), (2, 3, ".thing")],
    )
    assert graph.steps(3) == ["module json", "thing", "Thing"]


def test_a_namespace_is_not_reached_through_a_function_that_was_imported_from_it() -> None:
    graph = heap(
        [module("app"), DICT, {"type": "builtins.function"}, module("json", "stdlib"), DICT, {"type": "json.Thing"}],
        [(0, 1, "<dict>"), (1, 2, ".dumps"), (2, 4, "<globals>"), (3, 4, "<dict>"), (4, 5, ".thing")],
    )
    assert graph.steps(5) == ["module json", "thing", "Thing"]


@pytest.mark.parametrize(
    ("refcount", "root"),
    [
        pytest.param(2, "native code, app.Thing", id="one-reference-more-than-was-seen"),
        pytest.param(1, "garbage, app.Thing", id="only-its-own-cycle"),
    ],
)
def test_what_nothing_leads_to_is_held_by_native_code_or_is_garbage(refcount: int, root: str) -> None:
    graph = heap([module("app"), {"refcount": refcount}, {"type": "app.Payload"}, {}], [(1, 3), (3, 1), (1, 2)])
    assert graph.steps(2)[0] == root


def test_perfkit_is_left_out() -> None:
    graph = heap([module("app"), {"root": "perfkit", "type": "perfkit probe.Probe"}, {"type": "app.Thing"}], [(1, 2)])
    assert graph.is_ours.tolist() == [False, True, True]
    assert largest(graph)["node"].tolist() == [0]
    assert retainer(graph, np.array([2])) is None


def test_tuples_that_the_collector_will_not_list_again_are_left_out() -> None:
    plain, compound = {"type": "builtins.tuple", "refcount": 1}, {"type": "builtins.tuple", "refcount": 1}
    text, thing = {"type": "builtins.str"}, {"type": "app.Thing"}
    held = {"type": "builtins.tuple", "refcount": 2}
    graph = heap([module("app"), plain, text, compound, thing, held], [(1, 2), (3, 4), (0, 5), (5, 2)])
    assert graph.is_ours.tolist() == [False, True, False, False, False, False]
    assert graph.steps(4)[0] == "native code, builtins.tuple"


def test_an_iterator_that_the_probe_is_at_is_left_out() -> None:
    steps = {"root": "perfkit", "type": "builtins.list"}
    iterator = {"type": "builtins.list_iterator", "refcount": 1}
    graph = heap([module("app"), steps, iterator, {"type": "app.Thing"}, iterator], [(2, 1), (4, 1), (4, 3), (1, 3)])
    assert graph.is_ours.tolist() == [False, False, True, False, False], "the other one leads to a thing of the target"


def test_references_to_what_is_not_in_the_snapshot_are_dropped() -> None:
    table = HEAP_REFERENCES.from_rows([{"pid": 1, "rung": 0, "from_id": 0, "to_id": 99}])
    objects = HEAP_OBJECTS.from_rows(
        [{"pid": 1, "rung": 0, "object_id": 0, "type": "app.Thing", "size_bytes": 1, "root": "module"}]
    )
    assert len(HeapGraph.from_tables(objects, table).targets) == 0


def test_memory_piles_up_where_no_child_keeps_most_of_it() -> None:
    graph = sessions(5)
    assert accumulation_point(graph, 0) == 2
    assert largest(graph, 1)["path"].tolist() == [["module app", "SESSIONS", "dict"]]


def test_a_group_piles_up_in_its_container() -> None:
    graph = sessions(50)
    answer = retainer(graph, graph.of_type("app.Session"))
    assert answer is not None
    assert (answer.node, answer.share, answer.objects, answer.bytes) == (2, 1.0, 50, 5000)
    assert answer.owner == "app.SESSIONS"


def test_a_group_with_two_holders_has_two_retainers() -> None:
    graph = sessions(60, static=40)
    found = retainers(graph, graph.of_type("app.Session"))
    assert [(each.node, each.share) for each in found] == [(2, 0.6), (3, 0.4)]


def test_the_newest_are_followed_rather_than_all() -> None:
    """A large static container of the same type does not draw the blame."""
    before, after = sessions(10, static=1000), sessions(60, static=1000)
    grown = newcomers(before, after, "app.Session")
    assert len(grown) == 50
    found = retainer(after, grown)
    assert found is not None
    assert found.steps == ("module app", "SESSIONS", "dict value", "Session")
    assert (found.items, found.share, found.bytes) == (60, 1.0, 5000)


def test_paths_and_types_split_the_heap_without_counting_twice() -> None:
    graph = sessions(7, static=3)
    assert by_path(graph)["size_bytes"].sum() == graph.size_bytes.sum()
    assert by_type(graph)["size_bytes"].sum() == graph.size_bytes.sum()
    paths = by_path(graph).set_index("path")["objects"]
    assert paths["module app > SESSIONS > dict value > Session"] == 7


def test_a_linked_list_is_one_path() -> None:
    links = [module("app"), *[{"type": "app.Link"}] * 200]
    graph = heap(links, [(number, number + 1, ".next") for number in range(200)])
    assert by_path(graph)["objects"].tolist() == [200, 1]
    assert graph.steps(200) == ["module app", "next", ".next", "Link"]
