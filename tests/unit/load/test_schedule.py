"""Schedules as properties: how many requests, when, and always the same for one seed."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfkit.errors import UnknownName, UsageError
from perfkit.load.schedule import ARRIVALS, Schedule, Segment

SEGMENTS = st.lists(
    st.builds(
        Segment,
        start_per_s=st.floats(0, 300),
        end_per_s=st.floats(0, 300),
        duration_s=st.floats(0.01, 5),
    ),
    min_size=1,
    max_size=4,
)
SCHEDULES = st.builds(
    Schedule,
    segments=SEGMENTS.map(tuple),
    arrivals=st.sampled_from(ARRIVALS),
    seed=st.integers(0, 1000),
)


@settings(deadline=None)
@given(SCHEDULES)
def test_requests_are_due_in_order_and_within_the_schedule(schedule: Schedule) -> None:
    offsets = list(schedule.offsets_ns())
    assert offsets == sorted(offsets)
    assert all(0 <= offset <= schedule.duration_s * 1e9 + 1 for offset in offsets)


@settings(deadline=None)
@given(SCHEDULES)
def test_the_same_seed_gives_the_same_times(schedule: Schedule) -> None:
    assert list(schedule.offsets_ns()) == list(schedule.offsets_ns())


@settings(deadline=None)
@given(SEGMENTS)
def test_constant_arrivals_are_as_many_as_the_area_under_the_rate(segments: list[Segment]) -> None:
    schedule = Schedule(tuple(segments), "constant")
    assert abs(len(list(schedule.offsets_ns())) - schedule.requests) <= 1 + 1e-6


@settings(deadline=None)
@given(st.floats(1, 500), st.floats(0.1, 3))
def test_constant_arrivals_are_evenly_spaced(rate_per_s: float, duration_s: float) -> None:
    offsets = list(Schedule((Segment(rate_per_s, rate_per_s, duration_s),), "constant").offsets_ns())
    assert all(abs(after - before - 1e9 / rate_per_s) <= 2 for before, after in pairwise(offsets))


@settings(deadline=None)
@given(SEGMENTS, st.integers(0, 1 << 30))
def test_poisson_counts_stay_within_six_standard_deviations(segments: list[Segment], seed: int) -> None:
    schedule = Schedule(tuple(segments), "poisson", seed)
    expected = schedule.requests
    assert abs(len(list(schedule.offsets_ns())) - expected) <= 6 * expected**0.5 + 6


def test_poisson_gaps_vary_as_much_as_they_last() -> None:
    offsets = list(Schedule.parse("1000/s for 20s", "poisson", seed=7).offsets_ns())
    gaps = [after - before for before, after in pairwise(offsets)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1e6, rel=0.03)
    assert deviation / mean == pytest.approx(1.0, abs=0.03), "the gaps of a Poisson process are exponential"


@pytest.mark.parametrize("arrivals", ARRIVALS)
def test_a_ramp_sends_in_each_quarter_what_its_rate_asks_for(arrivals: str) -> None:
    offsets = list(Schedule.parse("0..1000/s for 8s", arrivals, seed=3).offsets_ns())
    quarters = [sum(1 for offset in offsets if at <= offset / 2e9 < at + 1) for at in range(4)]
    assert quarters == pytest.approx([250, 750, 1250, 1750], rel=0.1)


def test_a_pause_between_two_steps_sends_nothing() -> None:
    offsets = list(Schedule.parse("10/s for 1s, 0/s for 1s, 10/s for 1s", "constant").offsets_ns())
    assert len(offsets) == 20
    assert not [offset for offset in offsets if 1e9 < offset < 2e9]


def test_other_seeds_give_other_times() -> None:
    first, second = (list(Schedule.parse("50/s for 1s", seed=seed).offsets_ns()) for seed in (1, 2))
    assert first != second


@pytest.mark.parametrize(
    ("text", "requests", "duration_s"),
    [
        pytest.param("200/s for 30s", 6000, 30, id="one-rate"),
        pytest.param("100..300/s for 20s", 4000, 20, id="a-ramp"),
        pytest.param("100/s for 500ms, 200/s for 1m", 12050, 60.5, id="steps-in-other-units"),
        pytest.param("0.5/s for 4 s", 2, 4, id="less-than-one-per-second"),
    ],
)
def test_shapes_are_read_from_text(text: str, requests: float, duration_s: float) -> None:
    schedule = Schedule.parse(text)
    assert (schedule.requests, schedule.duration_s) == pytest.approx((requests, duration_s))
    assert Schedule.parse(str(schedule)) == schedule


@pytest.mark.parametrize("text", ["", "200", "200/s", "-1/s for 3s", "1/s for 0s", "1/s for 1h", "1/s for 1s,"])
def test_other_texts_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Schedule.parse(text)
    assert caught.value.hint


def test_unknown_arrivals_are_refused() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'poisson'"):
        Schedule.parse("1/s for 1s", arrivals="poison")
