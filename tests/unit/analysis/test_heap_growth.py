"""What grew between two snapshots, and where it piles up, on heaps that can be drawn on paper."""

import re

import pytest

from perfkit.analysis.heap_graph import HeapGraph
from perfkit.analysis.heap_growth import HeapGrowth, Pile, heap_growth, held_below
from perfkit.analysis.path_classes import PathClasses, classify_all, counts
from tests.unit.analysis.drawings import DICT, SESSION, Row, heap, module, pool, sessions

Edge = tuple[int, int] | tuple[int, int, str]


def grown(before: HeapGraph, after: HeapGraph) -> HeapGrowth:
    """Return what grew, however little."""
    return heap_growth(before, after, least_bytes=1)


def only_pile(before: HeapGraph, after: HeapGraph) -> Pile:
    [pile] = grown(before, after).piles
    return pile


def users(events: int) -> HeapGraph:
    """Return module app > USERS > three lists > that many events in all."""
    things: list[Row] = [module("app"), DICT, {**DICT, "items": 3}]
    edges: list[Edge] = [(0, 1, "<dict>"), (1, 2, ".USERS")]
    for _ in range(3):
        things.append({"type": "builtins.list", "items": events // 3})
        edges.append((2, len(things) - 1))
    for number in range(events):
        things.append({"type": "app.Event", "size_bytes": 50})
        edges.append((3 + number % 3, len(things) - 1))
    return heap(things, edges)


def chain(length: int) -> HeapGraph:
    """Return module app > HEAD > .next > .next > ..."""
    things: list[Row] = [module("app"), DICT, *({"type": "app.Node"} for _ in range(length))]
    edges: list[Edge] = [(0, 1, "<dict>"), (1, 2, ".HEAD")]
    edges += [(number, number + 1, ".next") for number in range(2, length + 1)]
    return heap(things, edges)


def test_growth_piles_up_in_the_container_that_is_there_all_the_time() -> None:
    pile = only_pile(sessions(5, static=30), sessions(45, static=30))
    assert pile.steps == ("module app", "SESSIONS")
    assert (pile.type, pile.item_type) == ("builtins.dict", "app.Session")
    assert (pile.items_before, pile.items_after, pile.objects, pile.bytes) == (5, 45, 40, 4000)
    assert pile.share == 1.0


def test_of_many_containers_that_grow_the_way_to_them_is_told() -> None:
    pile = only_pile(users(9), users(99))
    assert pile.steps == ("module app", "USERS", "dict value")
    assert (pile.type, pile.item_type, pile.objects) == ("builtins.list", "app.Event", 90)
    assert len(pile.holders) == 3


def test_what_the_items_of_a_pile_own_is_counted_and_nothing_beside_it() -> None:
    growth = grown(pool(2, 5), pool(30, 5))
    [pile] = growth.piles
    assert pile.steps == ("module app", "POOL")
    assert held_below(growth, pile, re.compile(r"socket$")) == 30
    assert held_below(growth, pile, re.compile(r"FileIO$")) == 0


def letters(count: int, added: int, buffer_bytes: int = 100) -> HeapGraph:
    """Return module app > LETTERS > that many letters with a text each, the last ones with long texts; and a buffer."""
    things: list[Row] = [module("app"), DICT, {"type": "builtins.list", "items": count + added}]
    edges: list[Edge] = [(0, 1, "<dict>"), (1, 2, ".LETTERS")]
    for number in range(count + added):
        size_bytes = buffer_bytes if number == 0 else 60 if number < count else 1200
        things += [{"type": "app.Letter", "size_bytes": 48}, {"type": "builtins.bytearray", "size_bytes": size_bytes}]
        edges += [(2, len(things) - 2), (len(things) - 2, len(things) - 1, ".text")]
    return heap(things, edges)


def test_the_few_new_ones_of_an_old_leak_pile_up_where_all_the_others_are() -> None:
    pile = only_pile(letters(2000, 0), letters(2000, 20))
    assert (pile.steps, pile.type) == (("module app", "LETTERS"), "builtins.list")
    assert (pile.item_type, pile.objects) == ("app.Letter", 20)


def test_what_gets_larger_among_very_many_is_not_taken_for_the_few_that_are_new() -> None:
    pile = only_pile(letters(2000, 0), letters(2000, 5, buffer_bytes=900_000))
    assert (pile.steps[-1], pile.type, pile.item_type) == (".text", "builtins.bytearray", None)


def test_a_linked_list_piles_up_in_its_module() -> None:
    pile = only_pile(chain(4), chain(60))
    assert pile.steps[0] == "module app"
    assert (pile.item_type, pile.objects) == ("app.Node", 56)


def test_what_gets_larger_itself_is_its_own_holder() -> None:
    def buffer(size_bytes: int) -> HeapGraph:
        things = [module("app"), DICT, {"type": "builtins.bytearray", "size_bytes": size_bytes}]
        return heap(things, [(0, 1, "<dict>"), (1, 2, ".LOG")])

    pile = only_pile(buffer(100), buffer(90_000))
    assert (pile.steps, pile.type, pile.item_type, pile.bytes) == (
        ("module app", "LOG"), "builtins.bytearray", None, 89_900,
    )  # fmt: skip


def test_two_piles_are_told_apart_largest_first() -> None:
    def two(left: int, right: int) -> HeapGraph:
        things: list[Row] = [module("app"), DICT, DICT, DICT]
        edges: list[Edge] = [(0, 1, "<dict>"), (1, 2, ".SMALL"), (1, 3, ".LARGE")]
        for holder, count in ((2, left), (3, right)):
            for number in range(1000 * holder, 1000 * holder + count):
                things.append({**SESSION, "object_id": number, "refcount": 1})
                edges.append((holder, number))
        return heap(things, edges)

    piles = grown(two(5, 5), two(25, 65)).piles
    assert [pile.steps[1] for pile in piles] == ["LARGE", "SMALL"]
    assert [pile.share for pile in piles] == [0.75, 0.25]


def test_a_cache_whose_content_is_replaced_did_not_grow() -> None:
    assert grown(sessions(40), sessions(40)).piles == ()


def test_what_is_reached_in_another_way_than_before_did_not_grow() -> None:
    def held_by(name: str) -> HeapGraph:
        things: list[Row] = [module("app"), DICT, DICT, DICT, *[SESSION] * 50]
        edges: list[Edge] = [(0, 1, "<dict>"), (1, 2, ".A"), (1, 3, ".B")]
        return heap(things, [*edges, *((2 if name == "A" else 3, number) for number in range(4, 54))])

    assert grown(held_by("A"), held_by("B")).piles == ()


def test_garbage_and_native_references_are_their_own_holders() -> None:
    def cycles(count: int, refcount: int) -> HeapGraph:
        things: list[Row] = [module("app")]
        edges: list[Edge] = []
        for _ in range(count):
            first = len(things)
            things += [{"type": "app.Order", "refcount": refcount}, {"type": "app.Line"}]
            edges += [(first, first + 1, ".line"), (first + 1, first, ".order")]
        return heap(things, edges)

    garbage = grown(cycles(1, 1), cycles(40, 1))
    assert garbage.garbage_bytes == garbage.bytes == 39 * 20
    assert garbage.piles[0].kind == "garbage"
    assert grown(cycles(1, 2), cycles(40, 2)).piles[0].kind == "native"


def test_modules_that_are_imported_meanwhile_are_not_growth() -> None:
    def loaded(names: int) -> HeapGraph:
        things: list[Row] = []
        edges: list[Edge] = []
        for number in range(names):
            things += [module(f"app{number}"), DICT, *[SESSION] * 5]
            edges += [(7 * number, 7 * number + 1, "<dict>")]
            edges += [(7 * number + 1, 7 * number + 2 + each, f".name{each}") for each in range(5)]
        return heap(things, edges)

    loading = grown(loaded(1), loaded(4))
    assert (loading.bytes, loading.piles) == (0, ())
    assert loading.imported_bytes == 3 * (10 + 10 + 500)


@pytest.mark.parametrize("graphs", [(sessions(3), sessions(8)), (users(6), users(9)), (chain(2), chain(90))])
def test_every_object_is_in_one_class_so_that_sizes_add_up(graphs: tuple[HeapGraph, HeapGraph]) -> None:
    classes, groups = classify_all(graphs)
    for graph, group in zip(graphs, groups, strict=True):
        objects, sizes = counts(classes, group, graph)
        assert objects.sum() == len(graph)
        assert sizes.sum() == graph.size_bytes.sum()
        roots = [number for number, parent in enumerate(classes.parent) if parent < 0]
        assert classes.sums(sizes)[roots].sum() == sizes.sum()


def test_a_long_chain_is_a_few_classes() -> None:
    classes = PathClasses()
    classes.classify(chain(5000))
    assert len(classes) < 8


def test_a_dictionary_of_attributes_that_was_made_in_between_makes_nothing_new() -> None:
    def store(count: int, *, has_dict: bool) -> HeapGraph:
        things: list[Row] = [module("app"), DICT, {"type": "app.Store"}, {**DICT, "items": count}]
        edges: list[Edge] = [(0, 1, "<dict>"), (1, 2, ".STORE")]
        if has_dict:
            things.append(DICT)
            edges += [(2, 4, "<dict>"), (4, 3, ".by_id")]
        else:
            edges.append((2, 3, ".by_id"))
        first = len(things)
        things += [SESSION] * count
        return heap(things, sorted([*edges, *((3, first + number) for number in range(count))]))

    pile = only_pile(store(30, has_dict=False), store(75, has_dict=True))
    assert pile.steps == ("module app", "STORE", ".by_id")
    assert (pile.items_before, pile.items_after, pile.objects) == (30, 75, 45)


def ring_and_log(ring: range, log: list[int]) -> HeapGraph:
    """Return module app > RING and module app > LOG, lists of events with these addresses."""
    things: list[Row] = [module("app"), DICT, {"type": "builtins.list"}, {"type": "builtins.list", "items": len(log)}]
    edges: list[Edge] = [(0, 1, "<dict>"), (1, 2, ".RING"), (1, 3, ".LOG")]
    for holder, addresses in ((2, ring), (3, log)):
        for address in addresses:
            things.append({"type": "app.Event", "size_bytes": 50, "object_id": address})
            edges.append((holder, len(things) - 1))
    # Objects are numbered in the order of their addresses.
    order = sorted(range(len(things)), key=lambda each: int(things[each].get("object_id", each)))  # type: ignore[call-overload]
    place = {old: new for new, old in enumerate(order)}
    moved: list[Edge] = [(place[edge[0]], place[edge[1]], *edge[2:]) for edge in edges]  # type: ignore[misc]
    return heap([{**things[old], "object_id": new} for new, old in enumerate(order)], moved)


def test_addresses_that_are_used_again_hide_nothing() -> None:
    """The ring's events have made room for those of the log, and it has as many others at other places."""
    pile = only_pile(ring_and_log(range(100, 140), []), ring_and_log(range(200, 240), list(range(100, 140))))
    assert pile.steps == ("module app", "LOG")
    assert (pile.objects, pile.bytes) == (40, 2000)


def test_what_only_moves_from_one_list_to_another_does_not_grow() -> None:
    piles = grown(ring_and_log(range(100, 140), []), ring_and_log(range(0), list(range(100, 140)))).piles
    assert piles == ()


def queue_of(function: str, jobs: range) -> HeapGraph:
    """Return a frame of a function > jobs > list > that many jobs, each with an address of its own."""
    things: list[Row] = [{"type": "builtins.frame", "root": "frame", "name": function}, {"type": "_queue.SimpleQueue"}]
    things += [{"type": "builtins.list", "items": len(jobs)}]
    edges: list[Edge] = [(0, 1, "jobs"), (1, 2)]
    for number in jobs:
        things.append({"type": "app.Job", "size_bytes": 50, "object_id": 1000 + number})
        edges.append((2, len(things) - 1))
    return heap([{"object_id": number} | each for number, each in enumerate(things)], edges)


def test_a_queue_is_the_same_whichever_function_leads_to_it() -> None:
    """None of the jobs that were in it at first is still there."""
    pile = only_pile(queue_of("app.work", range(20)), queue_of("app.main", range(50, 150)))
    assert (pile.item_type, pile.items_before, pile.items_after, pile.objects) == ("app.Job", 20, 100, 80)


def entries(count: int) -> HeapGraph:
    """Return module app > STATE > dict > ['log'] > list > that many dicts."""
    things: list[Row] = [module("app"), DICT, {"type": "app.State"}, DICT, {"type": "builtins.list", "items": count}]
    edges: list[Edge] = [(0, 1, "<dict>"), (1, 2, ".STATE"), (2, 3), (3, 4, "['log']")]
    for _ in range(count):
        things.append({"type": "builtins.dict", "size_bytes": 64})
        edges.append((4, len(things) - 1))
    return heap(things, edges)


def test_a_dict_within_a_dict_is_no_structure_that_goes_on() -> None:
    pile = only_pile(entries(5), entries(45))
    assert (pile.type, pile.item_type, pile.objects) == ("builtins.list", "builtins.dict", 40)


def quotes(own: int) -> HeapGraph:
    """Return module app > PRICES > ten lists of two; those of `own` have numbers of their own, the others share one."""
    things: list[Row] = [module("app"), DICT, {**DICT, "items": 10}, {"type": "builtins.float"}]
    things += [{"type": "builtins.list", "items": 2}] * 10
    edges: list[Edge] = [(0, 1, "<dict>"), (1, 2, ".PRICES"), *((2, holder) for holder in range(4, 14))]
    for holder in range(4, 14):
        for _ in range(2):
            if holder < 4 + own:
                things.append({"type": "builtins.float"})
            edges.append((holder, len(things) - 1 if holder < 4 + own else 3))
    return heap(things, edges)


@pytest.mark.parametrize(
    ("kind", "type_", "is_growth"),
    [("task", "bytes", False), ("frame", "str", False), ("task", "bytearray", True), ("module", "bytes", True)],
)
def test_the_answer_that_a_request_has_in_hand_does_not_grow(kind: str, type_: str, is_growth: bool) -> None:
    """It cannot: the next request has a larger one."""

    def in_hand(size_bytes: int) -> HeapGraph:
        content = {"type": f"builtins.{type_}", "size_bytes": size_bytes}
        loop = module("asyncio", "stdlib")
        return heap([loop, module("app.session", kind), content], [(0, 1), (1, 2, "answer")])

    assert [pile.type for pile in heap_growth(in_hand(100), in_hand(90_000)).piles] == (
        [f"builtins.{type_}"] if is_growth else []
    )


def test_what_makes_no_holder_longer_is_told() -> None:
    pile = only_pile(quotes(2), quotes(8))
    assert (pile.type, pile.item_type, pile.objects) == ("builtins.list", "builtins.float", 12)
    assert pile.replaced_ratio == 1.0
    assert only_pile(sessions(5), sessions(45)).replaced_ratio == 0.0
