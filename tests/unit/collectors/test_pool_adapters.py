"""What an experiment may change on each library's pools: everything is either changeable or refused with a reason."""

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from perfkit.collectors.pool_events import COLLECTOR
from perfkit.experiments.pool import _WORDS

ADAPTERS = COLLECTOR.parts()["adapters"]


def adapter(name: str) -> Any:
    """Return the class that an adapter's file defines, run as in a target, without its library."""
    namespace: dict[str, Any] = {"__name__": name}
    exec(ADAPTERS[name], namespace)
    return namespace["Adapter"]


@pytest.mark.parametrize("name", ADAPTERS)
def test_each_setting_is_changeable_or_refused_with_a_sentence(name: str) -> None:
    kind = adapter(name)
    assert kind.tunes.keys() | kind.fixed.keys() == set(_WORDS.values())
    assert not kind.tunes.keys() & kind.fixed.keys()
    for sentence in kind.fixed.values():
        assert sentence.endswith(".")
        assert len(sentence.split()) >= 4
    assert not kind.tunes or callable(kind.tune)


class Thing:
    """Something with attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def bare(name: str) -> Any:
    """Return an adapter that was not told of its library: what changes a pool needs none."""
    kind = adapter(name)
    return kind.__new__(kind)


@pytest.mark.parametrize("word", ["size", "kept", "idle"])
def test_every_setting_of_httpcore_comes_back(word: str) -> None:
    inner = Thing(_keepalive_expiry=5.0, is_idle=lambda: True)
    connection = Thing(_keepalive_expiry=5.0, _connection=inner)
    pool = Thing(_max_connections=100, _max_keepalive_connections=20, _keepalive_expiry=5.0, _connections=[connection])
    httpcore = bare("httpcore")
    before = httpcore.settings(pool)
    httpcore.tune(pool, word, 7, before)
    assert httpcore.settings(pool)[httpcore.tunes[word]] == 7
    assert inner._keepalive_expiry == (7 if word == "idle" else 5.0)
    httpcore.tune(pool, word, before[httpcore.tunes[word]], before)
    assert httpcore.settings(pool) == before
    assert inner._keepalive_expiry == 5.0


@pytest.mark.parametrize(("kept", "larger", "smaller"), [(3, 8, 2), (100, 8, 2), (2, 2, 2), (1, 1, 1)])
def test_a_pool_of_httpcore_that_keeps_all_keeps_all_of_another_number(kept: int, larger: int, smaller: int) -> None:
    pool = Thing(_max_connections=3, _max_keepalive_connections=kept, _keepalive_expiry=5.0, _connections=[])
    httpcore = bare("httpcore")
    before = httpcore.settings(pool)
    for size, expected in ((8, larger), (2, smaller), (3, kept)):
        httpcore.tune(pool, "size", size, before)
        assert (pool._max_connections, pool._max_keepalive_connections) == (size, expected)


def test_settings_of_aiohttp_come_back() -> None:
    pool = Thing(_limit=0, _limit_per_host=0, _keepalive_timeout=15.0, _force_close=False)
    aiohttp = bare("aiohttp")
    before = aiohttp.settings(pool)
    for word, value in (("size", 3), ("idle", 1.5)):
        aiohttp.tune(pool, word, value, before)
        assert aiohttp.settings(pool)[aiohttp.tunes[word]] == value
        aiohttp.tune(pool, word, before[aiohttp.tunes[word]], before)
    assert aiohttp.settings(pool) == before
    assert aiohttp.refuses(Thing(_force_close=True), "idle", 3)


def test_a_smaller_connector_of_aiohttp_closes_what_is_idle_in_its_own_loop() -> None:
    """It would go on taking idle connections, whatever its limit says."""
    closed: list[int] = []
    in_loop: list[bool] = []

    def soon(call: Callable[[], None]) -> None:
        in_loop.append(True)
        call()

    def entry(number: int) -> tuple[Thing, float]:
        return Thing(close=lambda: closed.append(number)), 0.0

    pool = Thing(_limit=3, _acquired={1, 2}, _conns={"a": deque(), "b": deque(map(entry, range(4)))},
                 _loop=Thing(call_soon_threadsafe=soon))  # fmt: skip
    aiohttp = bare("aiohttp")
    assert [aiohttp.shrink(pool) for _ in range(4)] == [True, True, True, False]
    assert closed == [3, 2, 1]
    assert in_loop == [True] * 3
    pool._limit = 0
    assert not aiohttp.shrink(pool), "without a limit"


def test_what_urllib3_keeps_comes_back_and_a_blocking_pool_is_refused() -> None:
    pool = Thing(pool=Thing(maxsize=10, queue=deque()), block=False, host="a", port=1)
    urllib3 = bare("urllib3")
    before = urllib3.settings(pool)
    urllib3.tune(pool, "kept", 30, before)
    assert pool.pool.maxsize == 30
    urllib3.tune(pool, "kept", before["max_idle"], before)
    assert urllib3.settings(pool) == before
    assert urllib3.refuses(pool, "kept", 30) is None
    assert "token" in urllib3.refuses(Thing(pool=Thing(), block=True), "kept", 30)


def test_idle_times_of_asyncpg_reach_each_holder() -> None:
    holders = [Thing(_max_inactive_time=300.0, _con=None) for _ in range(3)]
    pool = Thing(_max_inactive_connection_lifetime=300.0, _holders=holders, _maxsize=3, _minsize=3, _max_queries=50)
    asyncpg = bare("asyncpg")
    before = asyncpg.settings(pool)
    asyncpg.tune(pool, "idle", 2, before)
    assert [each._max_inactive_time for each in holders] == [2, 2, 2]
    asyncpg.tune(pool, "idle", before["idle_timeout_s"], before)
    assert asyncpg.settings(pool) == before
    assert [each._max_inactive_time for each in holders] == [300.0] * 3
