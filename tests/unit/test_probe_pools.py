"""What watches connection pools from inside: calls that stay as they were, and books that add up."""

import asyncio
import functools
import itertools
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from perfkit.probe.pool_parts import book as books
from perfkit.probe.pool_parts.hooks import Hook, Wrapping

Seen = list[tuple[Any, ...]]


def logged(function: Any) -> Any:
    """Wrap a function as libraries do to deprecate or log it."""

    @functools.wraps(function)
    def wrapper(*args: Any, **named: Any) -> Any:
        return function(*args, **named)

    return wrapper


class Owner:
    """Has functions of every shape."""

    def plain(self, slot: Any) -> Any:
        return slot

    def defaults(self, slot: Any = 5, more: int = 2) -> Any:
        return slot, more

    def only_placed(self, slot: Any, /, more: int = 3) -> Any:
        return slot, more

    def only_named(self, *, slot: Any, more: int = 4) -> Any:
        return slot, more

    def rest(self, slot: Any, *rest: Any, last: int = 1, **more: Any) -> Any:
        return slot, rest, last, more

    async def waits(self, slot: Any) -> Any:
        await asyncio.sleep(0)
        return slot

    def fails(self, slot: Any) -> Any:
        raise ValueError(slot)

    @logged
    def decorated(self, slot: Any) -> Any:
        return slot


def watched(name: str, *, whole: bool) -> tuple[Wrapping, Seen]:
    """Return the way to watch a function of `Owner`, and what was seen of it."""
    seen: Seen = []

    def begin(values: Any, frame: Any) -> str:
        seen.append((*values[1:], frame.f_code.co_name))
        return "token"

    ends = (lambda *said: seen.append(said)) if whole else None
    wrapping = Wrapping(lambda error: seen.append((error,)))
    assert wrapping.add(Hook(Owner, name, ("self", "slot"), begin, ends, ends))
    return wrapping, seen


@pytest.fixture
def owner() -> Iterator[Owner]:
    """Yield an owner; the class is as it was afterwards."""
    before = dict(vars(Owner))
    yield Owner()
    assert dict(vars(Owner)) == before


@pytest.mark.parametrize("whole", [False, True], ids=["beginning", "beginning-and-end"])
@pytest.mark.parametrize(
    ("name", "args", "named", "slot"),
    [
        pytest.param("plain", (7,), {}, 7, id="by-place"),
        pytest.param("plain", (), {"slot": 7}, 7, id="by-name"),
        pytest.param("defaults", (), {}, 5, id="left-out"),
        pytest.param("defaults", (1,), {"more": 9}, 1, id="one-left-out"),
        pytest.param("only_placed", (1,), {}, 1, id="by-place-only"),
        pytest.param("only_named", (), {"slot": 1}, 1, id="by-name-only"),
        pytest.param("rest", (1, 2, 3), {"last": 4, "x": 5}, 1, id="any-number"),
        pytest.param("decorated", (8,), {}, 8, id="decorated"),
    ],
)
def test_a_watched_call_does_what_it_did(
    owner: Owner, name: str, args: Any, named: Any, slot: Any, *, whole: bool
) -> None:
    expected = getattr(owner, name)(*args, **named)
    wrapping, seen = watched(name, whole=whole)
    kept = getattr(owner, name)
    assert kept(*args, **named) == expected
    here = sys._getframe().f_code.co_name
    assert seen == [(slot, here), ("token", expected)] if whole else seen == [(slot, here)]
    wrapping.remove()
    seen.clear()
    assert kept(*args, **named) == expected
    assert seen == []


def test_wrong_calls_fail_as_before(owner: Owner) -> None:
    wrapping, seen = watched("plain", whole=True)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'slot'"):
        owner.plain()  # type: ignore[call-arg]
    wrapping.remove()
    assert seen == []


def test_an_exception_is_told_and_raised(owner: Owner) -> None:
    wrapping, seen = watched("fails", whole=True)
    with pytest.raises(ValueError, match="3") as raised:
        owner.fails(3)
    wrapping.remove()
    assert seen[1] == ("token", raised.value)


def test_a_coroutine_function_stays_one(owner: Owner) -> None:
    wrapping, seen = watched("waits", whole=True)
    assert asyncio.iscoroutinefunction(owner.waits)
    assert asyncio.run(owner.waits(4)) == 4
    wrapping.remove()
    assert [each[:1] for each in seen] == [(4,), ("token",)]


def test_what_goes_wrong_in_a_hook_stays_there(owner: Owner) -> None:
    errors: list[BaseException] = []

    def begin(_values: Any, _frame: Any) -> None:
        raise KeyError("ours")

    wrapping = Wrapping(errors.append)
    wrapping.add(Hook(Owner, "plain", ("self",), begin, begin, begin))
    assert owner.plain(6) == 6
    wrapping.remove()
    assert [type(each) for each in errors] == [KeyError]


class Thing:
    """Stands for a pool, a connection or a holder."""


class Adapter:
    """Stands for what is known about a library."""

    name = "toy"
    folder = "/nowhere"

    def has_ended(self, holder: Any) -> bool:
        """Whether a holder is gone."""
        return holder is None


def kinds(book: Any) -> Counter[str]:
    """Return how many events of each kind are waiting to be sent."""
    return Counter(books.EVENTS[books.EVENT.unpack(row)[1]] for row in book.events)


def worker(book: Any, pool: Any, mine: list[Any], steps: int, seed: int) -> Callable[[], None]:
    """Return what connects, lends, takes back and closes at random; it ends with some still lent."""

    def run() -> None:
        random, adapter, lent = Random(seed), Adapter(), set()
        for _ in range(steps):
            slot = random.choice(mine)
            what = random.random()
            if slot in lent and what < 0.6:
                lent.discard(slot)
                book.released(slot)
            elif slot not in lent and what < 0.4:
                lent.add(slot)
                book.lent(pool, adapter, slot, sys._getframe(), random.choice((None, slot)))
            elif slot not in lent and what < 0.8:
                lent.add(slot)
                book.acquired(book.wish(pool, adapter, sys._getframe()), slot)
            elif what > 0.97:
                lent.discard(slot)
                book.closed(slot)
                book.created(slot, pool=pool, adapter=adapter)

    return run


def test_counts_add_up_whatever_several_threads_do() -> None:
    book, pool = books.Book(Hook), Thing()
    connections = [[Thing() for _ in range(8)] for _ in range(3)]
    for each in itertools.chain(*connections):
        book.created(each, pool=pool, adapter=Adapter())
    threads = [
        threading.Thread(target=worker(book, pool, mine, 1500, seed)) for seed, mine in enumerate(connections, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = kinds(book)
    ended_lent = seen["acquired"] - seen["released"] - len(book.checkouts)
    assert book.lost == 0
    assert seen["created"] - seen["closed"] == len(book.slots) == 24
    assert 0 < ended_lent <= seen["closed"]  # connections that were closed while they were lent
    held = [books.EVENT.unpack(row) for row in book.events]
    assert sum(row[1] == books.EVENTS.index("closed") and row[5] >= 0 for row in held) == ended_lent
    assert book.wishes == {}


def test_what_there_is_no_room_for_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "ROOM", 100)
    book, pool, slot = books.Book(Hook), Thing(), Thing()
    for _ in range(80):
        book.lent(pool, Adapter(), slot, None, pool)
        book.released(slot)
    assert len(book.events) == 100
    assert len(book.events) + book.lost == 160
    assert book.checkouts == {}


def test_few_stacks_are_taken_however_many_acquire() -> None:
    book, pool, slot = books.Book(Hook), Thing(), Thing()
    for _ in range(2000):
        book.lent(pool, Adapter(), slot, sys._getframe(), pool)
        book.released(slot)
    rows = [books.EVENT.unpack(row) for row in book.events]
    acquired = [row for row in rows if row[1] == books.EVENTS.index("acquired")]
    windows = len({row[0] >> 27 for row in acquired})
    with_stack = sum(row[7] >= 0 for row in acquired)
    assert 40 <= with_stack <= 40 * windows + 40
    assert len(acquired) == 2000


def test_who_never_returns_a_connection_is_known_by_its_line() -> None:
    book, pool, slot = books.Book(Hook), Thing(), Thing()
    here = sys._getframe().f_lineno + 1
    book.acquired(book.wish(pool, Adapter(), sys._getframe()), slot)
    [checkout] = book.checkouts.values()
    [(number, key)] = book.new_stacks
    assert checkout.stack == number
    functions = book.described(key)
    assert list(zip(functions[1::3], functions[2::3], strict=True)).count((__file__, here)) == 1
    assert book.look(checkout, [sys._getframe()], {}) == 1
    assert book.look(checkout, [], {}) == 0


def test_a_use_that_is_given_another_connection_ends_the_one_before() -> None:
    book, pool, key, slots = books.Book(Hook), Thing(), Thing(), [Thing(), Thing()]
    wish = book.wish(pool, Adapter(), sys._getframe())
    book.acquired(wish, slots[0], key)
    book.acquired(wish, slots[1], key)  # as httpcore does, when the first was taken away meanwhile
    book.released(key)
    rows = [books.EVENT.unpack(row) for row in book.events]
    acquired = [row[0] for row in rows if row[1] == books.EVENTS.index("acquired")]
    released = [row[0] - row[5] for row in rows if row[1] == books.EVENTS.index("released")]
    assert released == acquired


def test_a_pool_that_is_gone_before_anybody_looks_has_its_name() -> None:
    class Named(Adapter):
        def title(self, pool: Any) -> str:
            return f"of {type(pool).__name__}"

    book, pool, slot = books.Book(Hook), Thing(), Thing()
    book.lent(pool, Named(), slot, None, slot)
    [entry] = book.pools.values()
    del pool
    assert entry.ref() is None
    assert entry.title == "of Thing"


def test_a_holder_that_is_gone_is_known_without_keeping_it() -> None:
    book, pool, slot, holder = books.Book(Hook), Thing(), Thing(), Thing()
    book.lent(pool, Adapter(), slot, sys._getframe(), holder)
    [checkout] = book.checkouts.values()
    assert not checkout.pool.adapter.has_ended(checkout.ended())
    del holder
    assert checkout.pool.adapter.has_ended(checkout.ended())


def test_a_connection_freed_while_lent_is_collected() -> None:
    book, pool, key, slot = books.Book(Hook), Thing(), Thing(), Thing()
    book.acquired(book.wish(pool, Adapter(), None), slot, key)
    del key
    assert kinds(book) == {"acquired": 1, "collected": 1}


def test_tasks_are_told_apart() -> None:
    book, pool, slots = books.Book(Hook), Thing(), [Thing(), Thing()]

    async def take(slot: Any) -> None:
        book.acquired(book.wish(pool, Adapter(), sys._getframe()), slot)
        await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(*map(take, slots))

    asyncio.run(both())
    holders = [each.holder for each in book.checkouts.values()]
    assert len(set(holders)) == 2
    assert all(each.task is not None for each in book.checkouts.values())
