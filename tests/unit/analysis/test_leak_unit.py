"""What piles up together is one unit, whatever else comes and goes; what only keeps the same pace is not."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfkit.analysis.heap_graph import HeapGraph
from perfkit.analysis.leak_unit import LeakUnit, contents, leak_units
from tests.unit.analysis.drawings import SESSION, heap, sessions

RUNG_S = 3.0


def census(counts: Mapping[str, Sequence[int] | np.ndarray], each: int = 100) -> pd.DataFrame:
    """Return a census of these counts, a rung each three seconds; an object takes `each` bytes."""
    rows = [
        {
            "pid": 1, "at_ns": int(rung * RUNG_S * 1e9), "rung": rung, "type": name, "objects": int(count),
            "size_bytes": int(count) * each,
        }
        for name, series in counts.items()
        for rung, count in enumerate(series)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def arrivals(seed: int, per_rung: float, rungs: int = 20) -> np.ndarray:
    """Return how many units were left behind until each rung when requests come at random."""
    return np.cumsum(np.random.default_rng(seed).poisson(per_rung, rungs))


def told(unit: LeakUnit) -> dict[str, int | None]:
    """Return the whole numbers of a unit by type."""
    return {part.type: part.whole for part in unit.parts}


@settings(deadline=None, max_examples=20)
@given(
    st.integers(0, 10_000),
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.integers(10, 30),
    st.integers(40, 400),
)
def test_whole_ratios_are_found(seed: int, ratios: list[int], rungs: int, per_rung: int) -> None:
    units = arrivals(seed, per_rung, rungs)
    series = {"app.Job": units} | {f"builtins.kind{i}": 900 + many * units for i, many in enumerate(ratios)}
    [unit] = leak_units(census(series))
    assert told(unit) == {"app.Job": 1} | {f"builtins.kind{i}": many for i, many in enumerate(ratios)}
    assert unit.type == "app.Job"
    assert unit.own_bytes == pytest.approx(100 * (1 + sum(ratios)))
    assert unit.units_per_s.low <= per_rung / RUNG_S * 1.5


@pytest.mark.parametrize("in_flight", [5, 50, 300])
def test_objects_in_flight_do_not_hide_the_ratio(in_flight: int) -> None:
    together = 0
    for seed in range(20):
        units, many = arrivals(seed, 200.0), 1 + seed % 4
        noise = np.random.default_rng(seed + 1).integers(0, in_flight + 1, len(units))
        found = leak_units(census({"app.Job": units, "builtins.dict": 5000 + many * units + noise}))
        together += [round(part.per_unit[1]) for part in found[0].parts] == [1, many]
    assert together >= 17


def test_two_leaks_of_the_same_pace_are_two_units() -> None:
    apart = 0
    for seed in range(20):
        one, other = arrivals(seed, 100.0, 40), arrivals(seed + 100, 100.0, 40)
        units = leak_units(census({"app.Session": one, "app.Upload": other, "builtins.dict": 40 + 2 * one}))
        apart += sorted(sorted(told(unit)) for unit in units) == [["app.Session", "builtins.dict"], ["app.Upload"]]
    assert apart >= 17


@pytest.mark.parametrize("seed", range(12))
def test_a_timer_and_the_requests_are_two_units(seed: int) -> None:
    timer = np.arange(20)
    units = leak_units(census({"app.Tick": 1 + timer, "app.Session": arrivals(seed, 700.0)}))
    assert len(units) == 2


def test_the_rarest_type_of_the_program_leads() -> None:
    polls = np.arange(1, 13)
    [unit] = leak_units(
        census(
            {"app.Decoder": polls, "app.Field": 9 * polls, "builtins.getset_descriptor": 18 * polls, "_io.IO": polls}
        )
    )
    assert told(unit) == {"app.Decoder": 1, "app.Field": 9, "builtins.getset_descriptor": 18, "_io.IO": 1}
    assert [part.type for part in unit.parts][:2] == ["app.Decoder", "app.Field"]
    assert unit.units_per_s.estimate == pytest.approx(1 / RUNG_S)


def test_parts_of_a_common_lead_need_no_whole_ratio_to_each_other() -> None:
    polls = np.arange(10, 190, 10)
    [unit] = leak_units(census({"app.Poll": polls, "app.Event": 2 * polls, "app.Stack": 3 * polls}))
    assert told(unit) == {"app.Poll": 1, "app.Event": 2, "app.Stack": 3}


@pytest.mark.parametrize(
    "series",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"app.Job": [5] * 12}, id="flat"),
        pytest.param({"app.Job": [5, 9, 14]}, id="too-few-rungs"),
        pytest.param({"app.Job": np.random.default_rng(3).integers(0, 50, 20)}, id="noise"),
    ],
)
def test_where_nothing_grows_there_is_no_unit(series: dict[str, Sequence[int]]) -> None:
    frame = census(series) if series else census({"a.B": [1]}).iloc[:0]
    assert leak_units(frame) == []


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.dictionaries(st.text(min_size=1, max_size=12), st.integers(0, 900), max_size=6))
def test_each_growing_type_is_in_exactly_one_unit(seed: int, paces: dict[str, int]) -> None:
    random = np.random.default_rng(seed)
    series = {f"app.{name}": np.cumsum(random.poisson(pace / 3, 16)) for name, pace in paces.items()}
    types = [part.type for unit in leak_units(census(series or {"app.A": [1] * 16})) for part in unit.parts]
    assert len(types) == len(set(types))
    assert set(types) <= set(series)


def test_units_are_counted_per_request() -> None:
    rungs = np.arange(12)
    requests_s = np.arange(0, 12 * RUNG_S, 0.01)
    [unit] = leak_units(census({"app.Job": 5 + 75 * rungs}), requests_s)
    assert unit.per_request is not None
    assert unit.per_request.estimate == pytest.approx(0.25, rel=0.02)
    assert leak_units(census({"app.Job": 5 + 75 * rungs}))[0].per_request is None


def test_what_each_object_alone_keeps_alive_is_counted() -> None:
    text, shared = {"type": "builtins.str", "size_bytes": 40}, {"type": "builtins.tuple", "size_bytes": 56}
    graph: HeapGraph = heap(
        [
            {"type": "builtins.module", "root": "module", "name": "app"},
            SESSION,
            SESSION,
            text,
            text,
            text,
            text,
            shared,
        ],
        [(0, 1), (0, 2), (1, 3), (1, 4), (2, 5), (2, 6), (1, 7), (2, 7)],
    )
    found = {each.type: (each.objects, each.bytes) for each in contents(graph, np.array([1, 2]))}
    assert found == {"app.Session": (1.0, 100.0), "builtins.str": (2.0, 80.0)}


def test_a_long_chain_is_counted_to_its_end() -> None:
    graph = heap(
        [{"root": "module", "type": "builtins.module", "name": "app"}] + [{}] * 3000, [(i, i + 1) for i in range(3000)]
    )
    [content] = contents(graph, np.array([1]))
    assert content.objects == 3000


def test_of_no_objects_there_are_no_contents() -> None:
    assert contents(sessions(3), np.zeros(0, np.int64)) == []
