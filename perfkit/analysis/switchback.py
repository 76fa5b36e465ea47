"""The only place for experiments in windows: which setting in which window, and what the windows say.

One process, one setting after the other: windows, not requests, are what can be compared, because
requests of one window share its queue, its caches and its bad luck. Each block holds every setting
once in random order, so whatever changes slowly hits all of them alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

import numpy as np
from numpy.typing import NDArray

NOW = "as it is now"
"""Name of the setting that the process came with."""
AGAIN = "as it is now, again"
"""The same once more: what differs between the two is noise."""
MIN_BLOCKS = 6
"""With fewer, no outcome can have a two-sided p below 0.05: 2/2^5 is 0.0625."""
_MAX_EXACT = 16


@dataclass(frozen=True, slots=True)
class Effect:
    """The difference that a setting makes: Hodges-Lehmann estimate, interval and exact two-sided p over the blocks."""

    low: float
    estimate: float
    high: float
    p: float
    blocks: int

    @property
    def is_clear(self) -> bool:
        """Whether the whole interval is on one side of zero and chance would rarely do that."""
        return self.p <= 0.05 and (self.low > 0 or self.high < 0)

    def holds(self, value: float) -> bool:
        """Whether a predicted difference lies inside of the interval."""
        return self.low <= value <= self.high


def design(arms: Sequence[str], blocks: int, seed: int) -> list[tuple[int, str]]:
    """Return `(block, arm)` of each window in order: every arm once per block, in random order.

    Args:
        arms: names of the settings, the baseline among them.
        blocks: how many blocks.
        seed: the same seed gives the same order.
    """
    random = Random(seed)  # noqa: S311 - an order, not a secret
    windows = []
    for block in range(blocks):
        order = list(arms)
        random.shuffle(order)
        windows += [(block, arm) for arm in order]
    return windows


def effect(baseline: Sequence[float], candidate: Sequence[float]) -> Effect | None:
    """Return what a setting changes; None of nothing.

    The estimate is the median of all means of two differences (Hodges-Lehmann); the interval is the
    one of the signed-rank test, at least 95 % where the number of blocks allows it, else all of the differences'
    means; p is that of the sum of differences among all ways to exchange the two settings within
    blocks, which is exact whatever the distribution.

    Args:
        baseline: n values, one per block.
        candidate: n values of the same blocks.

    Source: Hodges & Lehmann (1963), doi:10.1214/aoms/1177704172
    """
    differences = np.asarray(candidate, dtype=float) - np.asarray(baseline, dtype=float)
    differences = differences[np.isfinite(differences)]
    n = len(differences)
    if not n:
        return None
    walsh = np.sort([(differences[i] + differences[j]) / 2 for i in range(n) for j in range(i, n)])
    skip = _skipped(n)
    return Effect(
        float(walsh[skip]), float(np.median(walsh)), float(walsh[len(walsh) - 1 - skip]), permutation_p(differences), n
    )


def permutation_p(differences: NDArray[np.float64]) -> float:
    """Return how often exchanging the settings within blocks gives a sum as far from zero (two-sided, exact).

    Args:
        differences: n differences, one per block; more than 16 are exchanged at random 20,000 times.

    >>> float(permutation_p(np.array([1.0, 2.0, 1.5, 3.0, 2.5, 1.0])))
    0.03125
    """
    n = len(differences)
    if n <= _MAX_EXACT:
        signs = np.array(list(product((1.0, -1.0), repeat=n)))
    else:
        signs = np.random.default_rng(0).choice((1.0, -1.0), size=(20_000, n))
        signs[0] = 1.0
    sums = np.abs(signs @ differences)
    return float(np.mean(sums >= abs(differences.sum()) - 1e-12 * np.abs(differences).sum()))


def _skipped(n: int) -> int:
    """Return how many of the smallest and largest means lie outside of a 95 % interval of the signed-rank test."""
    total = n * (n + 1) // 2
    ways = np.zeros(total + 1)
    ways[0] = 1
    for rank in range(1, n + 1):
        ways[rank:] += ways[: total + 1 - rank].copy()
    below = np.cumsum(ways) / 2**n
    return max(0, int(np.searchsorted(below, 0.025, side="right")))
