"""Latency numbers from the requests table: which requests count, percentiles, seconds, objectives."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfkit.analysis import latency
from perfkit.tables import REQUESTS

SECOND_NS = 1_000_000_000


def requests(*latencies_ms: float, per_s: float = 100.0, **others: Any) -> pa.Table:
    """Return requests that were due evenly, with these latencies."""
    return table([{"latency_ms": latency_ms, **others} for latency_ms in latencies_ms], per_s)


def table(rows: list[Mapping[str, Any]], per_s: float = 100.0) -> pa.Table:
    """Return requests that were due evenly; each row gives what matters about it."""
    return REQUESTS.from_rows(
        {
            "intended_ns": round(number * SECOND_NS / per_s),
            "dispatched_ns": round(number * SECOND_NS / per_s + row.get("late_ms", 0) * 1e6),
            "start_ns": round(number * SECOND_NS / per_s + (row.get("late_ms", 0) + row.get("wait_ms", 0)) * 1e6),
            "latency_ns": round(row["latency_ms"] * 1e6),
            "status": row.get("status", None if row.get("error") else 200),
            "error": row.get("error"),
            "route": "page",
            "method": "GET",
            "sent_bytes": 0,
            "received_bytes": 0,
        }
        for number, row in enumerate(rows)
    )


def test_percentiles_are_latencies_that_occurred() -> None:
    summary = latency.summary(requests(*range(1, 1001)))
    assert (summary.p50_ms, summary.p90_ms, summary.p95_ms, summary.p99_ms, summary.p999_ms, summary.max_ms) == (
        500, 900, 950, 990, 999, 1000,
    )  # fmt: skip


def test_the_rate_is_what_was_offered() -> None:
    assert latency.summary(requests(*[1.0] * 500, per_s=250)).requests_per_s == pytest.approx(250)


@pytest.mark.parametrize(
    ("row", "counted", "errors", "max_ms"),
    [
        pytest.param({}, 2, 0, 70, id="an-answer"),
        pytest.param({"status": 404}, 2, 0, 70, id="the-client-s-own-mistake-is-an-answer"),
        pytest.param({"status": 503}, 2, 1, 70, id="a-server-error-has-a-latency-too"),
        pytest.param({"error": "timeout"}, 2, 1, 70, id="a-timeout-took-at-least-that-long"),
        pytest.param({"error": "no_connection"}, 2, 1, 70, id="so-did-a-wait-for-a-connection"),
        pytest.param({"error": "reset"}, 2, 1, 1, id="a-cut-connection-has-no-latency"),
        pytest.param({"error": "connect"}, 2, 1, 1, id="a-refused-connection-has-no-latency"),
        pytest.param({"error": "reset", "status": 200}, 2, 1, 1, id="an-answer-cut-short-is-an-error"),
        pytest.param({"error": "aborted"}, 1, 0, 1, id="an-abort-by-the-client-does-not-count"),
        pytest.param({"error": "exhausted"}, 1, 0, 1, id="what-the-load-s-machine-could-not-send-does-not-count"),
        pytest.param({"error": "unfinished"}, 1, 0, 1, id="what-the-load-left-unfinished-does-not-count"),
    ],
)
def test_what_counts(row: dict[str, Any], counted: int, errors: int, max_ms: float) -> None:
    summary = latency.summary(table([{"latency_ms": 1}, {"latency_ms": 70, **row}]))
    assert (summary.requests, summary.left_out) == (counted, 2 - counted)
    assert (summary.errors, summary.error_ratio, summary.max_ms) == (errors, errors / counted, max_ms)


def test_no_requests_have_no_latency_and_no_rate() -> None:
    summary = latency.summary(REQUESTS.empty())
    assert (summary.requests, summary.requests_per_s, summary.error_ratio, summary.p99_ms) == (0, 0.0, 0.0, None)
    assert latency.per_second(REQUESTS.empty()).num_rows == 0


def test_the_load_s_own_lateness_is_kept_apart_from_waiting_for_a_connection() -> None:
    summary = latency.summary(table([{"latency_ms": 50, "late_ms": 20, "wait_ms": 3}] * 10))
    assert (summary.own_lateness_p99_ms, summary.connection_wait_p99_ms) == (20, 3)


def test_lateness_is_unknown_where_the_load_did_not_say() -> None:
    foreign = requests(1.0).drop_columns("dispatched_ns")
    assert latency.summary(REQUESTS.conform(foreign)).own_lateness_p99_ms is None


def test_seconds_tell_where_a_stall_was() -> None:
    stall = [{"latency_ms": 900 - 10 * number} for number in range(90)]
    seconds = latency.per_second(table([{"latency_ms": 1}] * 100 + stall + [{"latency_ms": 1}] * 110)).to_pylist()
    assert [second["at_ns"] for second in seconds] == [0, SECOND_NS, 2 * SECOND_NS]
    assert [second["requests"] for second in seconds] == [100, 100, 100]
    assert [second["max_ms"] for second in seconds] == [1, 900, 1]


def test_a_second_of_failures_has_errors_and_no_latency() -> None:
    [second] = latency.per_second(requests(1.0, 2.0, error="connect")).to_pylist()
    assert (second["requests"], second["errors"], second["p50_ms"]) == (2, 2, None)


@settings(deadline=None)
@given(st.lists(st.floats(0, 5000), min_size=1, max_size=60), st.floats(1, 1000))
def test_seconds_add_up_and_percentiles_never_fall(latencies_ms: list[float], per_s: float) -> None:
    rows = requests(*latencies_ms, per_s=per_s)
    summary, seconds = latency.summary(rows), latency.per_second(rows).to_pylist()
    assert sum(second["requests"] for second in seconds) == summary.requests == len(latencies_ms)
    assert max(second["max_ms"] for second in seconds) == summary.max_ms
    ranks = [summary.p50_ms, summary.p90_ms, summary.p95_ms, summary.p99_ms, summary.p999_ms, summary.max_ms]
    assert ranks == sorted(ranks)  # type: ignore[type-var]


LIMITS: dict[str, Any] = {"requests_per_s": 100, "p95_latency_s": 0.2, "error_ratio": 0.005}
FAST: dict[str, Any] = {"latency_ms": 100}
SLOW: dict[str, Any] = {"latency_ms": 300}
BROKEN: dict[str, Any] = {"latency_ms": 100, "status": 500}


@pytest.mark.parametrize(
    ("rows", "per_s", "verdict"),
    [
        pytest.param([FAST] * 2000, 100, "pass", id="everything-kept"),
        pytest.param([FAST] * 1940 + [SLOW] * 60, 100, "pass", id="three-percent-are-slow"),
        pytest.param([FAST] * 1840 + [SLOW] * 160, 100, "fail", id="eight-percent-are-slow"),
        pytest.param([FAST] * 1900 + [SLOW] * 100, 100, "undecided", id="five-percent-are-slow"),
        pytest.param([FAST] * 1960 + [BROKEN] * 40, 100, "fail", id="too-many-errors"),
        pytest.param([FAST] * 100, 100, "undecided", id="too-few-requests-to-tell-half-a-percent-of-errors"),
        pytest.param([FAST] * 2000, 80, "undecided", id="the-rate-was-not-offered"),
        pytest.param([SLOW] * 2000, 80, "fail", id="too-slow-even-at-a-lower-rate"),
        pytest.param([], 100, "undecided", id="nothing-sent"),
    ],
)
def test_objective(rows: list[dict[str, Any]], per_s: float, verdict: str) -> None:
    answer = latency.slo_verdict(table(rows, per_s), **LIMITS)
    assert answer.verdict == verdict
    assert [criterion.name for criterion in answer.criteria] == ["rate", "errors", "slower than p95"]


def test_an_objective_with_a_p99_has_one_criterion_more() -> None:
    rows = table([FAST] * 1940 + [SLOW] * 60)
    answer = latency.slo_verdict(rows, **LIMITS, p99_latency_s=0.25)
    assert [(c.name, c.verdict) for c in answer.criteria][2:] == [
        ("slower than p95", "pass"),
        ("slower than p99", "fail"),
    ]


@settings(deadline=None)
@given(st.integers(0, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_stays_a_probability(sample: tuple[int, int]) -> None:
    hits, trials = sample
    low, high = latency.wilson_interval(hits, trials)
    assert 0 <= low <= high <= 1
    assert trials == 0 or low - 1e-12 <= hits / trials <= high + 1e-12
