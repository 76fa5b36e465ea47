"""The only place that turns the `requests` table into latencies, rates and shares of errors.

Which requests count: those that the load's client gave up on purpose (`aborted`), could not see
through because it ended (`unfinished`) or could not send for want of ports (`exhausted`) say nothing
about the target and are left out everywhere. An
*error* is a request without an answer, or with a status of 500 and above. *Latencies* are of all
answers and of requests that waited in vain (`timeout`, `no_connection`: at least that long); a
connection refused or cut has no latency, or fast failures would make a broken service look quick.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_LEFT_OUT = ("aborted", "unfinished", "exhausted")
_WAITED_IN_VAIN = ("timeout", "no_connection")
_QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
_Z_95 = 1.959964
OFFERED_RATIO = 0.99
"""A rate counts as offered when at least this share of it was sent."""

PER_SECOND = pa.schema(
    [
        ("at_ns", pa.int64()),
        ("requests", pa.int64()),
        ("errors", pa.int64()),
        ("p50_ms", pa.float64()),
        ("p99_ms", pa.float64()),
        ("max_ms", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Numbers of one load; latencies in milliseconds from the intended start, None without an answer.

    `requests` counts those that count (see the module), `left_out` the others. Each percentile is
    a latency that occurred (nearest rank). `own_lateness_p99_ms` is how late the load generator
    itself dispatched, `connection_wait_p99_ms` how long requests waited for a connection.
    """

    requests: int
    left_out: int
    errors: int
    requests_per_s: float
    error_ratio: float
    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    max_ms: float | None
    own_lateness_p99_ms: float | None
    connection_wait_p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Criterion:
    """One part of an objective: what was measured, its 95 % interval, the limit and the verdict."""

    name: str
    verdict: Literal["pass", "fail", "undecided"]
    measured: float
    low: float
    high: float
    limit: float
    unit: str


@dataclass(frozen=True, slots=True)
class SloVerdict:
    """Whether a load kept an objective: fail if a criterion fails, pass if all pass, else undecided."""

    verdict: Literal["pass", "fail", "undecided"]
    criteria: tuple[Criterion, ...]


def summary(requests: pa.Table) -> LatencySummary:
    """Return the numbers of a load.

    Args:
        requests: the table `requests`.
    """
    kept, left_out = _counted(requests)
    failed = _failed(kept)
    latencies_ms = np.sort(_latencies_ns(kept)) / 1e6
    quantiles = [_quantile(latencies_ms, q) for q in _QUANTILES]
    intended_ns = _numbers(kept, "intended_ns")
    return LatencySummary(
        requests=kept.num_rows,
        left_out=left_out,
        errors=int(failed.sum()),
        requests_per_s=_rate_per_s(intended_ns),
        error_ratio=float(failed.mean()) if kept.num_rows else 0.0,
        p50_ms=quantiles[0],
        p90_ms=quantiles[1],
        p95_ms=quantiles[2],
        p99_ms=quantiles[3],
        p999_ms=quantiles[4],
        max_ms=float(latencies_ms[-1]) if len(latencies_ms) else None,
        own_lateness_p99_ms=_delay_p99_ms(kept, "intended_ns", "dispatched_ns"),
        connection_wait_p99_ms=_delay_p99_ms(kept, "dispatched_ns", "start_ns"),
    )


@dataclass(frozen=True, slots=True)
class Answers:
    """The requests that count, one entry each: latency (NaN: it has none), own lateness of the load, failure."""

    intended_ns: npt.NDArray[np.int64]
    latency_ms: npt.NDArray[np.float64]
    lateness_ms: npt.NDArray[np.float64]
    failed: npt.NDArray[np.bool_]


def answers(requests: pa.Table) -> Answers:
    """Return the requests that count as arrays, for a look at parts of them.

    Args:
        requests: the table `requests`.
    """
    kept, _ = _counted(requests)
    intended_ns = _numbers(kept, "intended_ns")
    dispatched_ns = kept["dispatched_ns"].to_numpy().astype(np.float64)
    return Answers(
        intended_ns=intended_ns,
        latency_ms=np.where(_has_latency(kept), _numbers(kept, "latency_ns") / 1e6, np.nan),
        lateness_ms=np.nan_to_num(dispatched_ns - intended_ns) / 1e6,
        failed=_failed(kept),
    )


def per_second(requests: pa.Table) -> pa.Table:
    """Return one row per second with a request: `at_ns`, `requests`, `errors`, `p50_ms`, `p99_ms`, `max_ms`.

    A request belongs to the second of its intended start, so a stall shows where it happened and not
    where it ended. Latencies are NULL in a second without an answer.

    Args:
        requests: the table `requests`.
    """
    kept, _ = _counted(requests)
    seconds = _numbers(kept, "intended_ns") // 1_000_000_000
    failed = _failed(kept)
    has_latency = _has_latency(kept)
    latencies_ms = _numbers(kept, "latency_ns") / 1e6
    rows = []
    for second in np.unique(seconds):
        here = seconds == second
        sorted_ms = np.sort(latencies_ms[here & has_latency])
        rows.append(
            {
                "at_ns": int(second) * 1_000_000_000,
                "requests": int(here.sum()),
                "errors": int((here & failed).sum()),
                "p50_ms": _quantile(sorted_ms, 0.5),
                "p99_ms": _quantile(sorted_ms, 0.99),
                "max_ms": float(sorted_ms[-1]) if len(sorted_ms) else None,
            }
        )
    return pa.Table.from_pylist(rows, PER_SECOND)


def slo_verdict(
    requests: pa.Table,
    *,
    requests_per_s: float,
    p95_latency_s: float,
    error_ratio: float,
    p99_latency_s: float | None = None,
) -> SloVerdict:
    """Return whether a load kept an objective; `perfkit.load.slo.Slo.limits` gives the limits.

    A percentile is judged by the share of requests slower than its limit: a p95 is kept when that
    share is at most 5 %. Shares come with their Wilson interval at 95 % and are undecided when the
    limit lies inside it. Requests are not independent of each other, so the interval is somewhat
    narrow. A rate that was not offered proves nothing: undecided.

    Args:
        requests: the table `requests`.
        requests_per_s: rate at which the objective holds.
        p95_latency_s: limit of the 95th percentile, seconds from the intended start.
        error_ratio: limit of the share of errors.
        p99_latency_s: limit of the 99th percentile, if the objective names one.

    Source: E. B. Wilson (1927), doi:10.1080/01621459.1927.10502953
    """
    kept, _ = _counted(requests)
    offered_per_s = _rate_per_s(_numbers(kept, "intended_ns"))
    enough = offered_per_s >= OFFERED_RATIO * requests_per_s
    criteria = [
        Criterion(
            "rate",
            "pass" if enough else "undecided",
            offered_per_s,
            offered_per_s,
            offered_per_s,
            requests_per_s,
            "1/s",
        ),
        _share("errors", _failed(kept), error_ratio),
    ]
    latencies_s = _latencies_ns(kept) / 1e9
    for name, limit_s, share in (("slower than p95", p95_latency_s, 0.05), ("slower than p99", p99_latency_s, 0.01)):
        if limit_s is not None:
            criteria.append(_share(name, latencies_s > limit_s, share))
    verdicts = {criterion.verdict for criterion in criteria}
    overall: Literal["pass", "fail", "undecided"] = (
        "fail" if "fail" in verdicts else "undecided" if "undecided" in verdicts else "pass"
    )
    return SloVerdict(overall, tuple(criteria))


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of which `hits` of `trials` were seen; (0, 1) without trials.

    >>> [round(share, 3) for share in wilson_interval(5, 100)]
    [0.022, 0.112]
    """
    if trials == 0:
        return 0.0, 1.0
    share, z2 = hits / trials, _Z_95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z_95 * sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return max(0.0, centre - half), min(1.0, centre + half)


def _share(name: str, hits: npt.NDArray[np.bool_], limit: float) -> Criterion:
    """Return the criterion that a share stays within its limit."""
    low, high = wilson_interval(int(hits.sum()), len(hits))
    verdict: Literal["pass", "fail", "undecided"] = "fail" if low > limit else "pass" if high <= limit else "undecided"
    return Criterion(name, verdict, float(hits.mean()) if len(hits) else 0.0, low, high, limit, "ratio")


def _counted(requests: pa.Table) -> tuple[pa.Table, int]:
    """Return the requests that count, and how many do not."""
    kept = requests.filter(pa.array(~np.isin(_errors(requests), _LEFT_OUT)))
    return kept, requests.num_rows - kept.num_rows


def _errors(requests: pa.Table) -> npt.NDArray[np.str_]:
    """Return the error class of each request, "" for none."""
    return np.array(requests["error"].fill_null("").to_pylist(), dtype=np.str_)


def _failed(requests: pa.Table) -> npt.NDArray[np.bool_]:
    """Return which requests got no answer, or one that says the target failed."""
    return np.asarray((_errors(requests) != "") | (_numbers(requests, "status") >= 500), dtype=np.bool_)


def _has_latency(requests: pa.Table) -> npt.NDArray[np.bool_]:
    """Return which requests have a latency: an answer, or a wait in vain."""
    errors = _errors(requests)
    return np.isin(errors, ("", *_WAITED_IN_VAIN))


def _latencies_ns(requests: pa.Table) -> npt.NDArray[np.int64]:
    """Return the latencies that count."""
    return _numbers(requests, "latency_ns")[_has_latency(requests)]


def _numbers(requests: pa.Table, column: str) -> npt.NDArray[np.int64]:
    """Return a column as integers, 0 where it is unknown."""
    return np.asarray(requests[column].fill_null(0).to_numpy(), dtype=np.int64)


def _rate_per_s(intended_ns: npt.NDArray[np.int64]) -> float:
    """Return the rate that was offered: gaps between intended starts, over their length."""
    if len(intended_ns) < 2:
        return 0.0
    length_ns = int(intended_ns.max() - intended_ns.min())
    return (len(intended_ns) - 1) / length_ns * 1e9 if length_ns else 0.0


def _quantile(ascending: npt.NDArray[np.float64], q: float) -> float | None:
    """Return the smallest value that at least the share `q` of all values do not exceed."""
    return float(np.quantile(ascending, q, method="inverted_cdf")) if len(ascending) else None


def _delay_p99_ms(requests: pa.Table, before: str, after: str) -> float | None:
    """Return the 99th percentile of the time between two columns; None where one is unknown."""
    if not requests.num_rows or requests[before].null_count or requests[after].null_count:
        return None
    return _quantile(np.sort(_numbers(requests, after) - _numbers(requests, before)) / 1e6, 0.99)
