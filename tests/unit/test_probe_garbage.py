"""Finding garbage before the collector does: exactly what it would free, nothing that is in use, nothing kept."""

import gc
import socket
import weakref
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from perfkit.probe.garbage import Recorder
from tests.collecting import FakeProbe


class Node:
    def __init__(self, *others: Any) -> None:
        self.others = list(others)


class Quiet(FakeProbe):
    """Runs nothing by itself."""

    def spawn(self, steps: Iterator[float]) -> None:
        """Drop the steps: tests look when they want to."""


@pytest.fixture(autouse=True)
def still() -> Iterator[None]:
    """Keep the collector still, and the young generation empty, while a test makes garbage."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()


def look(generation: int = 0, newest: int = 100_000) -> list[list[Any]]:
    probe = Quiet()
    recorder = Recorder(probe)
    recorder.start(newest=newest)
    recorder._look(generation)
    return probe.rows[0]["kinds"] if probe.rows else []


def nodes(kinds: list[list[Any]]) -> int:
    return sum(kind[2] for kind in kinds if kind[0].endswith("Node"))


def pairs(number: int) -> None:
    for _ in range(number):
        first = Node()
        first.others.append(Node(first))


def test_pairs_that_nobody_holds_are_found_with_their_constructor() -> None:
    pairs(200)
    kinds = look()
    assert nodes(kinds) == 400
    [kind] = [each for each in kinds if each[0].endswith("Node")]
    assert kind[1][0].endswith("Node.__init__") or kind[1][0] == "__init__"
    assert kind[1][1] == __file__


def test_what_is_held_by_a_local_name_or_a_module_is_in_use() -> None:
    held = Node()
    held.others.append(Node(held))
    ring = [Node() for _ in range(300)]
    for one, next_ in zip(ring, [*ring[1:], ring[0]], strict=True):
        one.others.append(next_)
    assert nodes(look()) == 0
    del held, ring, one, next_
    assert nodes(look()) == 302


def test_a_cycle_that_something_outside_refers_to_is_in_use_with_all_that_hangs_on_it() -> None:
    chain = Node()
    tail = chain
    for _ in range(60):
        tail.others.append(Node())
        tail = tail.others[0]
    pairs(100)
    assert nodes(look()) == 200
    assert chain


def test_a_frame_that_waits_in_a_generator_is_in_use() -> None:
    def waits() -> Iterator[int]:
        mine = Node()
        mine.others.append(mine)
        yield 1
        del mine

    steps = waits()
    next(steps)
    pairs(60)
    assert nodes(look()) == 120
    assert list(steps) == []


@pytest.mark.parametrize("seed", range(8))
def test_any_graph_of_objects_is_told_as_the_collector_tells_it(seed: int) -> None:
    random = Random(seed)
    every = [Node() for _ in range(400)]
    for node in every:
        node.others += [random.choice(every) for _ in range(random.choice((0, 1, 1, 2)))]
    roots = random.sample(every, 12)
    del every, node
    found = nodes(look())
    before = sum(isinstance(each, Node) for each in gc.get_objects())
    gc.collect()
    freed = before - sum(isinstance(each, Node) for each in gc.get_objects())
    assert found == freed
    assert roots


def test_looking_keeps_nothing_and_frees_nothing() -> None:
    node = Node()
    node.others.append(node)
    seen = weakref.ref(node)
    del node
    pairs(100)
    look()
    assert seen() is not None, "freeing is the collector's business"
    gc.collect()
    assert seen() is None, "and a look does not stand in its way"


def test_bodies_and_open_sockets_that_garbage_holds_are_counted() -> None:
    for _ in range(30):
        node = Node(bytes(10_000), socket.socket())
        node.others.append(node)
    del node
    kinds = look()
    assert sum(kind[3] for kind in kinds) == pytest.approx(30 * 10_400, rel=0.15)
    assert sum(kind[4] for kind in kinds) == 30
    with pytest.warns(ResourceWarning):
        gc.collect()


def test_what_others_hold_too_is_not_held_by_garbage() -> None:
    shared = bytes(100_000)
    for _ in range(60):
        node = Node(shared)
        node.others.append(node)
    del node
    assert sum(kind[3] for kind in look()) < 60 * 1_000


@pytest.mark.parametrize("generation", [0, 1])
def test_either_young_generation_is_looked_at(generation: int) -> None:
    keep = [[] for _ in range(200)]
    pairs(100)
    if generation:
        shield = gc.get_objects(0)
        gc.collect(0)
        del shield
    assert nodes(look(generation)) == 200
    assert keep


def test_too_few_objects_say_nothing() -> None:
    gc.collect()
    assert look(1) == []


def test_finalizers_of_the_program_do_not_run() -> None:
    ran = []

    class Loud(Node):
        def __del__(self) -> None:
            ran.append(1)

        def __sizeof__(self) -> int:
            ran.append(2)
            return 1

    for _ in range(100):
        loud = Loud()
        loud.others.append(loud)
    del loud
    look()
    assert ran == []
    gc.collect()
    assert len(ran) == 100
