"""Slopes, tests and floors: against simulated truth, and for every series."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.analysis.trends import (
    TooFewPoints,
    discoveries,
    floor,
    mann_kendall,
    persistence,
    theil_sen,
    variance_inflation,
    warm_up_end,
)

READINGS = st.lists(st.integers(-1_000_000, 1_000_000), min_size=3, max_size=40)


def correlated_noise(random: np.random.Generator, n: int, correlation: float) -> np.ndarray:
    """Return first-order autoregressive noise that has settled."""
    steps = random.normal(size=n + 200)
    for i in range(1, len(steps)):
        steps[i] += correlation * steps[i - 1]
    return steps[200:]


@given(READINGS, st.integers(-10_000, 10_000), st.floats(0.01, 1e6))
def test_slope_ignores_the_level_and_scales_with_the_unit(readings: list[int], level: int, scale: float) -> None:
    time = np.arange(len(readings))
    plain = theil_sen(time, readings)
    moved = theil_sen(time, (np.array(readings) + level) * scale)
    assert moved.interval == pytest.approx([each * scale for each in plain.interval], rel=1e-6, abs=1e-6 * scale)


@given(READINGS, st.integers(-1000, 1000))
def test_slope_grows_by_a_line_that_is_added(readings: list[int], per_s: int) -> None:
    time = np.arange(len(readings))
    assert theil_sen(time, np.array(readings) + per_s * time).estimate == pytest.approx(
        theil_sen(time, readings).estimate + per_s, abs=1e-6
    )


@given(READINGS)
def test_slope_of_a_series_read_backwards_is_its_negative(readings: list[int]) -> None:
    time = np.arange(len(readings))
    there, back = theil_sen(time, readings), theil_sen(time, readings[::-1])
    assert back.estimate == pytest.approx(-there.estimate, abs=1e-6)


@given(READINGS)
def test_interval_holds_the_estimate_and_p_is_a_probability(readings: list[int]) -> None:
    slope = theil_sen(np.arange(len(readings)), readings)
    assert slope.low <= slope.estimate <= slope.high
    assert 0 <= slope.p <= 1


def test_one_wild_reading_does_not_move_the_slope() -> None:
    assert theil_sen(range(8), [0, 10, 20, 9_000, 40, 50, 60, 70]).estimate == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize("readings", [0, 1, 2])
def test_too_few_readings_are_refused(readings: int) -> None:
    with pytest.raises(TooFewPoints) as refused:
        theil_sen(range(readings), range(readings))
    assert (refused.value.points, refused.value.needed) == (readings, 3)


def test_a_million_readings_are_thinned_not_paired() -> None:
    time = np.arange(1_000_000.0)
    slope = theil_sen(time, 3 * time)
    assert slope.points == 600
    assert slope.estimate == pytest.approx(3)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_interval_covers_the_truth_as_often_as_it_says(correlation: float) -> None:
    random, time = np.random.default_rng(20_261_123), np.arange(60.0)
    covered = 0
    for _ in range(300):
        slope = theil_sen(time, 0.7 * time + correlated_noise(random, 60, correlation))
        covered += slope.low <= 0.7 <= slope.high
    assert covered / 300 >= 0.90


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_noise_is_called_growth_in_at_most_one_of_twenty(correlation: float) -> None:
    random = np.random.default_rng(7)
    alarms = sum(mann_kendall(correlated_noise(random, 60, correlation)) <= 0.05 for _ in range(400))
    assert alarms / 400 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)


def test_uncorrected_test_would_call_correlated_noise_growth() -> None:
    random = np.random.default_rng(7)
    alarms = sum(mann_kendall(correlated_noise(random, 60, 0.8), independent=True) <= 0.05 for _ in range(400))
    assert alarms / 400 > 0.15


@pytest.mark.parametrize("n", [3, 5, 8, 12])
def test_only_one_order_of_n_readings_rises_all_the_time(n: int) -> None:
    assert mann_kendall(range(n), independent=True) == pytest.approx(1 / math.factorial(n))


def test_exact_test_agrees_with_counting_every_order() -> None:
    orders = [mann_kendall(order, independent=True) for order in permutations(range(5))]
    for p in set(orders):
        assert sum(other <= p + 1e-12 for other in orders) / len(orders) == pytest.approx(p)


@pytest.mark.parametrize(
    ("values", "p"),
    [
        pytest.param([5, 5, 5, 5], 1.0, id="constant"),
        pytest.param([4, 3, 2, 1], 1.0, id="falling"),
    ],
)
def test_what_does_not_rise_is_no_growth(values: list[int], p: float) -> None:
    assert mann_kendall(values) == pytest.approx(p)


def test_ties_make_the_test_more_careful_not_less() -> None:
    assert mann_kendall([1, 2, 3, 3, 4, 5]) > mann_kendall([1, 2, 3, 4, 5, 6])


@given(st.lists(st.floats(-1e6, 1e6), max_size=80))
def test_inflation_never_narrows_an_interval(residuals: list[float]) -> None:
    assert 1 <= variance_inflation(residuals) < math.inf


@pytest.mark.parametrize("readings", [20, 60])
def test_interval_covers_the_rate_of_random_events(readings: int) -> None:
    """What requests leave behind is a sum of random events: it wanders around its line."""
    random, covered = np.random.default_rng(5), 0
    for _ in range(300):
        slope = theil_sen(np.arange(readings) * 0.5, np.cumsum(random.poisson(100, readings)))
        covered += slope.low <= 200 <= slope.high
    assert 0.90 <= covered / 300 <= 0.99


def test_a_random_walk_is_seldom_called_growth() -> None:
    random = np.random.default_rng(9)
    alarms = sum(theil_sen(range(60), np.cumsum(random.normal(size=60))).grows for _ in range(300))
    assert alarms / 300 <= 0.05


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200), st.integers(2, 30))
def test_floor_keeps_the_lowest_reading_and_invents_none(readings: list[int], blocks: int) -> None:
    time, lowest = floor(np.arange(len(readings)), readings, blocks)
    assert lowest.min() == min(readings)
    assert all(readings[int(t)] == low for t, low in zip(time, lowest, strict=True))
    assert (np.diff(time) > 0).all()


def test_floor_of_a_saw_tooth_is_flat() -> None:
    time = np.arange(400)
    assert theil_sen(*floor(time, time % 10)).interval == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("loaded", "end_s"),
    [
        pytest.param([100, 300, 500, 500, 501], 2.0, id="loads-then-serves"),
        pytest.param([500, 500, 500], 0.0, id="was-loaded-before"),
        pytest.param([], 0.0, id="not-recorded"),
    ],
)
def test_warm_up_ends_when_all_is_loaded(loaded: list[int], end_s: float) -> None:
    assert warm_up_end(range(len(loaded)), loaded) == end_s


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(range(30), pytest.approx(1.0), id="goes-on"),
        pytest.param(np.minimum(np.arange(30), 10), 0.0, id="has-stopped"),
        pytest.param(np.maximum(np.arange(30) - 15, 0), math.inf, id="has-begun"),
    ],
)
def test_persistence(values: list[int], expected: float) -> None:
    assert persistence(range(30), values)[1] == expected


@given(st.lists(st.floats(0, 1), max_size=50))
def test_fewer_discoveries_than_small_p_values(p: list[float]) -> None:
    found = discoveries(p)
    assert len(found) == len(p)
    assert all(value <= 0.05 for value, stands in zip(p, found, strict=True) if stands)


def test_chance_finds_no_growing_type_among_three_hundred() -> None:
    random = np.random.default_rng(3)
    found = sum(
        discoveries([mann_kendall(random.poisson(50, 8), independent=True) for _ in range(300)]).any()
        for _ in range(20)
    )
    assert found <= 3


@given(st.integers(3, 40))
def test_slope_grows_when_its_interval_is_above_zero(n: int) -> None:
    assert theil_sen(range(n), range(n)).grows
    assert not theil_sen(range(n), range(n, 0, -1)).grows
