"""What counts as a change: intervals that cover, effects that matter, and verdicts that turn round with the sides."""

import numpy as np
import pytest

from perfkit.analysis.changes import BLOCKS, Effect, Measured, Outcome, block_of, change, measured, of_parts, percentile

FACTOR = Effect(1.25, 1.0)
DIFFERENCE = Effect(1, 0.01)


def number(estimate: float, error: float) -> Measured:
    """Return a number with an error on the scale of its changes."""
    return Measured(estimate, estimate, estimate, error)


@pytest.mark.parametrize(
    ("base", "head", "effect", "outcome"),
    [
        pytest.param(number(10, 0.02), number(20, 0.02), FACTOR, Outcome.WORSE, id="twice-as-slow"),
        pytest.param(number(20, 0.02), number(10, 0.02), FACTOR, Outcome.BETTER, id="twice-as-fast"),
        pytest.param(number(10, 0.02), number(11.5, 0.02), FACTOR, Outcome.SAME, id="sure-but-too-small-to-count"),
        pytest.param(number(0.1, 0.02), number(0.2, 0.02), FACTOR, Outcome.SAME, id="twice-nothing-is-nothing"),
        pytest.param(number(10, 0.5), number(20, 0.5), FACTOR, Outcome.CANNOT_TELL, id="large-but-within-noise"),
        pytest.param(number(10, 2.0), number(10, 2.0), FACTOR, Outcome.CANNOT_TELL, id="too-noisy-to-call-it-the-same"),
        pytest.param(number(10, 0.0), number(10, 0.0), FACTOR, Outcome.SAME, id="constant"),
        pytest.param(number(0.0, 0.0), number(0.05, 0.001), DIFFERENCE, Outcome.WORSE, id="from-nothing"),
        pytest.param(number(0.0, 0.0), number(0.005, 0.001), DIFFERENCE, Outcome.SAME, id="from-nothing-to-little"),
        pytest.param(number(10, 0.02), number(20, 0.02), Effect(1.25, 1.0, None), Outcome.MORE, id="not-judged"),
        pytest.param(
            number(10, 0.02), number(20, 0.02), Effect(1.25, 1.0, False), Outcome.BETTER, id="higher-is-better"
        ),
    ],
)
def test_outcome(base: Measured, head: Measured, effect: Effect, outcome: Outcome) -> None:
    assert change(base, head, effect).outcome is outcome


@pytest.mark.parametrize("seed", range(20))
def test_swapping_the_sides_turns_the_verdict_round(seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = (number(float(random.uniform(5, 30)), float(random.uniform(0, 0.3))) for _ in range(2))
    forth, back = change(one, other, FACTOR), change(other, one, FACTOR)
    turned = {Outcome.WORSE: Outcome.BETTER, Outcome.BETTER: Outcome.WORSE}
    assert back.outcome is turned.get(forth.outcome, forth.outcome)
    assert back.estimate == pytest.approx(1 / forth.estimate)
    assert back.interval == pytest.approx((1 / forth.high, 1 / forth.estimate, 1 / forth.low))


def test_more_numbers_at_once_need_more_evidence() -> None:
    base, head = number(10, 0.12), number(15, 0.12)
    assert change(base, head, FACTOR).outcome is Outcome.WORSE
    assert change(base, head, FACTOR, among=100).outcome is Outcome.CANNOT_TELL


def intervals(kind: str, runs: int = 300) -> list[Measured]:
    """Return a mean or a 99th percentile, with its interval, of many samples of one distribution."""
    random = np.random.default_rng(3)
    block = np.arange(1000) * BLOCKS // 1000

    def interval(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Measured | None:
        if kind == "mean":
            return measured(lambda kept: float(values[kept[block]].mean()), FACTOR)
        return percentile(values, block, 0.99)

    found = [interval(random.lognormal(0, 0.5, 1000)) for _ in range(runs)]
    return [each for each in found if each is not None]


@pytest.mark.parametrize(("kind", "truth"), [("mean", np.exp(0.125)), ("p99", np.exp(0.5 * 2.326348))])
def test_intervals_cover_what_they_promise(kind: str, truth: float) -> None:
    """95 % intervals of 300 samples: between 91 and 99 % hold the truth."""
    covering = [each.low <= truth <= each.high for each in intervals(kind)]
    assert len(covering) == 300
    assert 0.91 <= np.mean(covering) <= 0.99


def test_a_number_that_no_part_has_is_not_told() -> None:
    assert of_parts(0.0, np.zeros(BLOCKS), FACTOR) is None, "no factor of nothing"
    assert of_parts(float("nan"), np.ones(BLOCKS), DIFFERENCE) is None


def test_blocks_cover_the_window_and_nothing_else() -> None:
    assert block_of(np.array([-1, 0, 99, 100, 999, 1000]), 0, 1000).tolist() == [-1, 0, 0, 1, 9, -1]
