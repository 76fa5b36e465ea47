"""Objectives: read from text, and turned into connections by Little's law."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfkit.errors import UsageError
from perfkit.load.slo import Slo


def test_the_example_of_little_s_law_needs_216_in_flight() -> None:
    slo = Slo.parse("1200/s, p95 200 ms, errors 0.5%")
    assert (slo.requests_per_s, slo.p95_latency_s, slo.error_ratio) == pytest.approx((1200, 0.2, 0.005))
    assert slo.in_flight == 216


def test_a_mean_that_the_objective_names_is_used_as_it_is() -> None:
    assert Slo.parse("1200/s, p95 200 ms, errors 0.5%, mean 50 ms").in_flight == 60


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("300 req/s, p95 < 1 s, error rate 1%", id="in-words"),
        pytest.param("300rps,p95=1000ms,errors<=1%", id="without-blanks"),
        pytest.param("error ratio: 1 %, P95: 1s, 300 requests per second", id="in-another-order"),
    ],
)
def test_objectives_may_be_written_in_several_ways(text: str) -> None:
    assert Slo.parse(text) == Slo(300, 1.0, 0.01)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("1200/s, p95 200 ms", "lacks error_ratio", id="no-errors"),
        pytest.param("fast, p95 200 ms, errors 1%", "cannot read 'fast'", id="no-number"),
        pytest.param("1200/s, p95 200 ms, p99 100 ms, errors 1%", "p99 of the objective is below", id="p99-below-p95"),
        pytest.param("0/s, p95 200 ms, errors 1%", "no service can keep", id="no-rate"),
        pytest.param("1/s, p95 200 ms, errors 100%", "no service can keep", id="only-errors"),
    ],
)
def test_objectives_that_make_no_sense_are_refused(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        Slo.parse(text)


@settings(deadline=None)
@given(st.floats(0.1, 1e5), st.floats(0.001, 10))
def test_in_flight_covers_rate_times_mean_and_no_more_than_one_above(rate: float, p95_s: float) -> None:
    in_flight = Slo(rate, p95_s, 0.01).in_flight
    assert rate * 0.9 * p95_s - 1e-5 <= in_flight <= rate * 0.9 * p95_s + 1
