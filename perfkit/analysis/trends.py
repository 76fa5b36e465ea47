"""The only place that decides whether a series of readings grows, and how fast.

Readings of one process are not independent: memory that is high now is high a second later.
Every interval and p-value here is therefore widened by the autocorrelation of the readings.
All functions take seconds and return the unit of the readings per second.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from perfkit.errors import PerfkitError

Floats = NDArray[np.float64]

MIN_POINTS = 3
"""Two points always make a line; three can disagree."""
_MIN_POINTS_FOR_CORRELATION = 10
_MAX_POINTS = 600
_MAX_EXACT = 40
_SPANS = 8
_DETRENDED = 1.25


class TooFewPoints(PerfkitError, ValueError):
    """A trend was asked of fewer readings than it takes to contradict one."""

    hint = "Record longer, or with a shorter interval between readings."

    def __init__(self, points: int, needed: int) -> None:
        super().__init__(f"a trend needs {needed} readings, there are {points}")
        self.points = points
        self.needed = needed


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth per second with its 95 % interval, and the chance `p` to see it where nothing grows (one-sided)."""

    low: float
    estimate: float
    high: float
    p: float
    points: int

    @property
    def grows(self) -> bool:
        """Whether the whole interval is above zero."""
        return self.low > 0

    @property
    def interval(self) -> tuple[float, float, float]:
        """Return (low, estimate, high)."""
        return self.low, self.estimate, self.high


def theil_sen(time_s: ArrayLike, values: ArrayLike, confidence: float = 0.95) -> Slope:
    """Return the slope of a series, in its unit per second, with a robust interval.

    The median of the slopes between all pairs of readings: a single reading taken in the
    middle of a request does not move it. The interval is the one of Sen's rank test, its
    normal quantile stretched by the square root of `variance_inflation`. Sums of random
    events, such as objects that requests leave behind, wander around their line instead of
    returning to it; where the readings do, the interval is that of a random walk with drift
    (see `wandering`). More than 600 readings are first reduced to the medians of 600 blocks.

    Args:
        time_s: n times, strictly increasing, seconds.
        values: n readings.
        confidence: probability that the interval covers the true slope.

    Raises:
        TooFewPoints: n is less than 3.

    Source: P. K. Sen (1968), doi:10.1080/01621459.1968.10480934; the correction for
    autocorrelation: Hamed & Rao (1998), doi:10.1016/S0022-1694(97)00125-X

    >>> theil_sen([0, 1, 2, 3], [100, 110, 900, 130]).estimate
    10.0
    """
    time, y = _thinned(_series(time_s), _series(values))
    if len(time) < MIN_POINTS:
        raise TooFewPoints(len(time), MIN_POINTS)
    if np.ptp(y) == 0:
        return Slope(0.0, 0.0, 0.0, 1.0, len(time))
    estimate = float(stats.theilslopes(y, time).slope)
    if step := wandering(y - estimate * time):
        error = step * float(np.sqrt(len(y) - 1)) / float(time[-1] - time[0])
        reach = float(stats.t.ppf((1 + confidence) / 2, _SPANS)) * error
        p = float(stats.t.sf(estimate / error, _SPANS))
        return Slope(estimate - reach, estimate, estimate + reach, p, len(time))
    inflation = variance_inflation(y - estimate * time)
    quantile = stats.norm.ppf((1 - confidence) / 2) * np.sqrt(inflation)
    fit = stats.theilslopes(y, time, alpha=max(2 * float(stats.norm.cdf(quantile)), 1e-300))
    low, high = float(fit.low_slope), float(fit.high_slope)
    p = _p_of_increase(_kendall_s(y), len(y), inflation)
    return Slope(min(low, estimate), estimate, max(high, estimate), p, len(time))


def mann_kendall(values: ArrayLike, *, independent: bool = False) -> float:
    """Return the probability of so many increases if the series had no upward trend (one-sided).

    Exact for up to 40 readings without autocorrelation: n readings that only ever rise have
    1/n!, so 8 of them survive a correction for 300 types at 5 % and 7 just do not. Ties count
    for neither side, which errs towards "no trend".

    Args:
        values: n readings in the order of time.
        independent: do not correct for autocorrelation. For censuses that are seconds apart:
            what one request holds is gone at the next, while the number of what stays wanders
            around its line like every sum of random arrivals, which the correction would punish.

    Raises:
        TooFewPoints: n is less than 3.

    Source: Mann (1945), doi:10.2307/1907187; Hamed & Rao (1998), doi:10.1016/S0022-1694(97)00125-X

    >>> round(1 / mann_kendall([1, 2, 3, 4, 5]))
    120
    """
    y = _series(values)
    if len(y) < MIN_POINTS:
        raise TooFewPoints(len(y), MIN_POINTS)
    if np.ptp(y) == 0:
        return 1.0
    inflation = 1.0
    if not independent:
        index = np.arange(len(y), dtype=np.float64)
        inflation = variance_inflation(y - float(stats.theilslopes(y, index).slope) * index)
    return _p_of_increase(_kendall_s(y), len(y), inflation)


def variance_inflation(residuals: ArrayLike) -> float:
    """Return by how much autocorrelation widens the variance of a trend test; at least 1.

    The larger of two: the sum of Hamed and Rao over the lags whose rank correlation is
    significant, and the same sum for a first-order process whose correlation is corrected for
    the downward bias that detrending a short series causes, plus one standard error where it is
    significant. Simulated false alarms at a nominal 5 %, 60 readings: 5 % up to a correlation of
    0.8 between neighbours, 9 % at 0.9; 20 readings: 8 % from 0.6 on. Below 10 readings a
    correlation cannot be estimated and 1 is returned: callers must not trust short series alone.

    Args:
        residuals: n detrended readings in the order of time.

    Source: Hamed & Rao (1998), doi:10.1016/S0022-1694(97)00125-X, equations 13 and 14; the bias:
    Kendall (1954), doi:10.1093/biomet/41.3-4.403
    """
    y = _series(residuals)
    n = len(y)
    if n < _MIN_POINTS_FOR_CORRELATION or np.ptp(y) == 0:
        return 1.0
    # Rounded, so that readings that are equal up to the arithmetic stay equal.
    ranks = stats.rankdata(np.round((y - y.min()) / np.ptp(y), 9)) - (n + 1) / 2
    spectrum = np.fft.rfft(ranks, 2 * n)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, 2 * n)[1 : n - 2]
    correlation /= float(ranks @ ranks)
    lag = np.arange(1, n - 2, dtype=np.float64)
    weight = 2 * (n - lag) * (n - lag - 1) * (n - lag - 2) / (n * (n - 1.0) * (n - 2.0))
    significant = np.abs(correlation) > 1.96 / np.sqrt(n)
    hamed_rao = 1 + float((weight * correlation)[significant].sum())
    first = (n * float(correlation[0]) + 2) / (n - 4)
    if significant[0]:
        first += np.sqrt(max(1 - first**2, 0) / n)
    first = min(first, 0.99)
    first_order = 1 + float((weight * first**lag).sum()) if first > 0 else 1.0
    return max(1.0, hamed_rao, first_order)


def wandering(residuals: ArrayLike, spans: int = _SPANS) -> float:
    """Return the typical step of readings that wander around their line, or 0.0 if they return to it.

    Steps over an eighth of the series are compared with steps between neighbours: those of a
    random walk grow with the square root of the distance, those of noise do not grow. Below
    ten readings nobody can tell, and 0.0 is returned.

    Args:
        residuals: n detrended readings in the order of time.
        spans: the long steps are over one of so many parts of the series. With fewer parts less noise is
            taken for wandering, but it takes more readings to see.

    Returns:
        Standard deviation of one step, in the unit of the readings.

    Source: the variance ratio of Lo & MacKinlay (1988), doi:10.1093/rfs/1.1.41. It is 1 for a
    random walk and 1/q for noise over spans of q steps; the limit is three quarters of their
    geometric mean: in doubt the interval is the wide one. Simulated coverage of 95 % intervals:
    92 to 98 % from 20 readings on, for noise with a correlation up to 0.8 and for random walks.
    """
    y = _series(residuals)
    n = len(y)
    if n < _MIN_POINTS_FOR_CORRELATION or np.ptp(y) == 0:
        return 0.0
    span = max(n // spans, 3)
    near = float(np.mean(np.diff(y) ** 2))
    far = float(np.mean((y[span:] - y[:-span]) ** 2)) / span
    if near <= (1e-9 * float(np.abs(y).max())) ** 2 or far < 0.75 * near / np.sqrt(span):
        return 0.0
    # The line was fitted to the same readings and took a part of the wandering with it.
    return float(np.sqrt(far)) * _DETRENDED


def floor(time_s: ArrayLike, values: ArrayLike, blocks: int = 20) -> tuple[Floats, Floats]:
    """Return the lowest reading of each block of time, as (times in seconds, readings).

    What requests in flight and garbage waiting for the collector add comes and goes; what is
    never given back raises the minimum. Blocks do not overlap, so neighbours stay independent.

    Args:
        time_s: n times, strictly increasing, seconds.
        values: n readings; all are returned when they are fewer than two per block.
        blocks: how many blocks; a block without a reading is left out.
    """
    time, y = _series(time_s), _series(values)
    if len(time) < 2 * blocks:
        return time, y
    edges = np.linspace(time[0], time[-1], blocks + 1)
    block = np.clip(np.searchsorted(edges, time, side="right") - 1, 0, blocks - 1)
    order = np.lexsort((y, block))
    lowest = order[np.unique(block[order], return_index=True)[1]]
    return time[lowest], y[lowest]


def warm_up_end(time_s: ArrayLike, loaded: ArrayLike, share: float = 0.99) -> float:
    """Return when a service had loaded what it ever loads, in seconds.

    Args:
        time_s: n times, increasing, seconds.
        loaded: n counts of something that only grows while code is being imported, such as
            the number of types alive.
        share: of the final count that must be there.

    Source: JDK Mission Control takes 90 % of the loaded classes as the end of the warm-up
    (IncreasingLiveSetRule.java); modules of Python are few and coarse, hence 99 %.

    >>> warm_up_end([0, 10, 20, 30], [400, 520, 700, 701])
    20.0
    """
    time, count = _series(time_s), _series(loaded)
    return float(time[np.argmax(count >= share * count[-1])]) if len(time) else 0.0


def persistence(time_s: ArrayLike, values: ArrayLike) -> tuple[Slope, float]:
    """Return the slope of the last third, and its ratio to the slope of the first third.

    Growth that goes on has a ratio near 1; something that fills up or loads has one near 0.
    The ratio is 0 where the last third does not grow and infinite where only the first did not.

    Args:
        time_s: n times, strictly increasing, seconds.
        values: n readings.

    Raises:
        TooFewPoints: a third has less than 3 readings.
    """
    time, y = _series(time_s), _series(values)
    third = max(len(time) // 3, MIN_POINTS)
    first, last = theil_sen(time[:third], y[:third]), theil_sen(time[-third:], y[-third:])
    if last.estimate <= 0:
        return last, 0.0
    return last, last.estimate / first.estimate if first.estimate > 0 else float("inf")


def discoveries(p: ArrayLike, rate: float = 0.05) -> NDArray[np.bool_]:
    """Return which of many p-values stand when at most `rate` of those that do may be false.

    Source: Benjamini & Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x

    >>> discoveries([0.001, 0.2, 0.03, 0.9]).tolist()
    [True, False, False, False]
    """
    values = _series(p)
    if not len(values):
        return np.zeros(0, dtype=np.bool_)
    return np.asarray(stats.false_discovery_control(values, method="bh") <= rate)


def _series(values: ArrayLike) -> Floats:
    """Return readings as floats."""
    return np.asarray(values, dtype=np.float64)


def _thinned(time: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return at most `_MAX_POINTS` readings: the medians of blocks of neighbours."""
    if len(time) <= _MAX_POINTS:
        return time, y
    chunks = zip(np.array_split(time, _MAX_POINTS), np.array_split(y, _MAX_POINTS), strict=True)
    medians = np.array([(np.median(t), np.median(v)) for t, v in chunks])
    return medians[:, 0], medians[:, 1]


def _kendall_s(y: Floats) -> int:
    """Return how many pairs rise minus how many fall."""
    return int(np.sign(np.subtract.outer(y, y))[np.tril_indices(len(y), -1)].sum())


def _p_of_increase(s: int, n: int, inflation: float) -> float:
    """Return the probability of at least `s` under no trend."""
    if n <= _MAX_EXACT and inflation == 1.0:
        # S = pairs - 2 * inversions, so S >= s is: at most this many inversions.
        # Rounded up: half a tie counts as an inversion.
        allowed = -((s - n * (n - 1) // 2) // 2)
        return float(_inversions(n)[: allowed + 1].sum())
    sigma = np.sqrt(n * (n - 1) * (2 * n + 5) / 18 * inflation)
    return float(stats.norm.sf((s - np.sign(s)) / sigma))


@cache
def _inversions(n: int) -> Floats:
    """Return the probability of each number of inversions in a random order of n."""
    chances = np.ones(1)
    for size in range(2, n + 1):
        chances = np.convolve(chances, np.full(size, 1 / size))
    return chances
