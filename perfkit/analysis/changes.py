"""The only place that decides whether a number differs between two recordings, and by how much.

Readings within one recording are not independent, so each recording is cut into blocks of time
and every number is computed again without each block: how much it moves is its error. What
differs between two runs of the same program on the same machine is more than that; the
smallest effect that counts (see `Effect`) stands for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

BLOCKS = 10
"""Parts of a recording: enough to tell an error, few enough to last longer than what requests have in common."""
CONFIDENCE = 0.95
BLIND = 4.0
"""An interval that reaches this many times the smallest effect to either side cannot say that nothing changed."""


class Outcome(StrEnum):
    """What became of a number from BASE to HEAD; MORE and LESS are told without being judged."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "same"
    CANNOT_TELL = "cannot_tell"
    MORE = "more"
    LESS = "less"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Measured:
    """A number of one recording with its 95 % interval; `error` is its standard error on the scale of its changes."""

    low: float
    estimate: float
    high: float
    error: float
    freedom: float = BLOCKS - 1.0

    @property
    def interval(self) -> tuple[float, float, float]:
        """Return (low, estimate, high)."""
        return self.low, self.estimate, self.high


@dataclass(frozen=True, slots=True)
class Effect:
    """The smallest change that counts: by this factor *and* by this much. `lower_is_better` None: not judged.

    `factor` 1 means that the difference alone decides; the change is then told as a difference.
    """

    factor: float
    least: float
    lower_is_better: bool | None = True

    @property
    def scale(self) -> Literal["ratio", "difference"]:
        """Whether a change is told as head / base or as head - base."""
        return "ratio" if self.factor > 1 else "difference"


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a number: interval of head / base or head - base, the chance `p` to see it without a change.

    `outcome` is what the numbers say; `smallest_seen` the smallest change that would have stood
    out of the noise, on the same scale.
    """

    scale: Literal["ratio", "difference"]
    low: float
    estimate: float
    high: float
    p: float
    smallest_seen: float
    outcome: Outcome

    @property
    def interval(self) -> tuple[float, float, float]:
        """Return (low, estimate, high)."""
        return self.low, self.estimate, self.high


def measured(statistic: Callable[[NDArray[np.bool_]], float], effect: Effect, blocks: int = BLOCKS) -> Measured | None:
    """Return a number with its interval, or None when it cannot be computed of the whole or of a part.

    The delete-a-group jackknife: the number is computed without each block in turn. Right for
    means and what is made of them; a percentile has its own, see `percentile`.

    Args:
        statistic: takes one flag per block and returns the number of the blocks that are flagged; NaN: none.
        effect: says on which scale the number is compared; ratios need numbers above zero.
        blocks: how many blocks there are.

    Source: Shao & Wu (1989), doi:10.1214/aos/1176347263
    """
    every = np.ones(blocks, bool)
    without = np.array([statistic(every & (np.arange(blocks) != left_out)) for left_out in range(blocks)])
    return of_parts(statistic(every), without, effect)


def of_parts(estimate: float, without: Floats, effect: Effect) -> Measured | None:
    """Return a number with its interval, from the same number without each block."""
    values = np.r_[estimate, without]
    if not np.isfinite(values).all() or (effect.scale == "ratio" and (values <= 0).any()):
        return None
    blocks = len(without)
    scaled = np.log(without) if effect.scale == "ratio" else without
    error = float(np.sqrt((blocks - 1) / blocks * ((scaled - scaled.mean()) ** 2).sum()))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, blocks - 1)) * error
    if effect.scale == "ratio":
        return Measured(estimate * _exp(-reach), estimate, estimate * _exp(reach), error, blocks - 1.0)
    return Measured(estimate - reach, estimate, estimate + reach, error, blocks - 1.0)


def percentile(values: Floats, block: NDArray[np.int64], share: float) -> Measured | None:
    """Return a percentile with its interval, to be compared as a ratio; None without values above zero.

    How many values exceed it is a mean, whose error the blocks tell; the percentiles at both ends of
    that share's interval are the ends of this one. Slow moments that come together make it wide,
    as they should. Where an end lies beyond the largest value, the other side stands for it.

    Args:
        values: n readings.
        block: n numbers of blocks from 0 to 9.
        share: of the values that do not exceed it.

    Source: Woodruff (1952), doi:10.1080/01621459.1952.10483443
    """
    if not len(values):
        return None
    estimate = float(np.quantile(values, share, method="inverted_cdf"))
    above, total = (np.bincount(block, weights, BLOCKS) for weights in (values > estimate, np.ones(len(values))))
    without = (above.sum() - above) / np.maximum(total.sum() - total, 1)
    error = float(np.sqrt((BLOCKS - 1) / BLOCKS * ((without - without.mean()) ** 2).sum()))
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, BLOCKS - 1))
    reach = max(error, float(np.sqrt(share * (1 - share) / len(values)))) * quantile
    low, high = np.quantile(values, np.clip([share - reach, share + reach], 0, 1), method="inverted_cdf").tolist()
    if low <= 0:
        return None
    sides = np.log(estimate / low), np.log(high / estimate)
    return Measured(low, estimate, high, float(max(sides)) / quantile)


def change(base: Measured, head: Measured, effect: Effect, *, among: int = 1) -> Change:
    """Return what became of a number.

    Worse or better needs both: an interval that excludes "no change", and a change of at least
    the smallest effect. The same is said where neither is there and a large change would have
    shown; else nobody can tell.

    Args:
        base: the number before.
        head: the number after.
        effect: the smallest change that counts, and its direction.
        among: how many numbers of its kind are judged at once; its chance is held against 5 % divided by it.

    Source: Welch (1947), doi:10.1093/biomet/34.1-2.28; several at once: Bonferroni
    """
    variances = base.error**2, head.error**2
    error = float(np.sqrt(sum(variances)))
    spread = sum(v**2 / d for v, d in zip(variances, (base.freedom, head.freedom), strict=True))
    freedom = error**4 / spread if spread > 0 else base.freedom + head.freedom
    alpha = (1 - CONFIDENCE) / among
    reach = float(stats.t.ppf(1 - alpha / 2, freedom)) * error
    if effect.scale == "ratio":
        moved, limit = float(np.log(head.estimate / base.estimate)), float(np.log(effect.factor))
    else:
        moved, limit = head.estimate - base.estimate, effect.least
    p = float(2 * stats.t.sf(abs(moved) / error, freedom)) if error > 0 else float(moved == 0)
    counts = abs(moved) >= limit and abs(head.estimate - base.estimate) >= effect.least
    ends = (moved - reach, moved, moved + reach)
    low, estimate, high = map(_exp, ends) if effect.scale == "ratio" else ends
    if counts and abs(moved) > reach:
        outcome = _judged(moved > 0, effect.lower_is_better)
    elif counts or reach > BLIND * limit:
        outcome = Outcome.CANNOT_TELL
    else:
        outcome = Outcome.SAME
    smallest = max(reach, limit)
    return Change(
        effect.scale, low, estimate, high, p, _exp(smallest) if effect.scale == "ratio" else smallest, outcome
    )


def block_of(time_ns: NDArray[np.int64], from_ns: float, until_ns: float, blocks: int = BLOCKS) -> NDArray[np.int64]:
    """Return the number of the block that each time is in; -1 for times outside of [from_ns, until_ns)."""
    number = np.floor((time_ns - from_ns) / max(until_ns - from_ns, 1) * blocks).astype(np.int64)
    return np.where((number >= 0) & (number < blocks), number, -1)


def _judged(rose: bool, lower_is_better: bool | None) -> Outcome:
    """Return whether a change is for the better."""
    if lower_is_better is None:
        return Outcome.MORE if rose else Outcome.LESS
    return Outcome.WORSE if rose == lower_is_better else Outcome.BETTER


def _exp(value: float) -> float:
    """Return e to the power of a value that may be too large for it."""
    return float(np.exp(min(value, 700.0)))
