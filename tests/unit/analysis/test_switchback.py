"""Experiments in windows: the order of the settings, and what the windows say."""

import numpy as np
import pytest

from perfkit.analysis.switchback import design, effect, permutation_p


@pytest.mark.parametrize("seed", range(20))
def test_every_block_has_every_setting_once(seed: int) -> None:
    windows = design(("now", "a", "b"), 6, seed)
    for block in range(6):
        assert sorted(arm for number, arm in windows if number == block) == ["a", "b", "now"]


def test_the_order_differs_between_blocks_and_is_the_same_for_a_seed() -> None:
    orders = {
        tuple(arm for number, arm in design(("now", "a", "b"), 6, seed) if number == block)
        for seed in range(10)
        for block in range(6)
    }
    assert len(orders) == 6, "all orders of three occur"
    assert design(("now", "a"), 8, 3) == design(("now", "a"), 8, 3)


@pytest.mark.parametrize("seed", range(30))
def test_estimate_is_inside_of_its_interval_and_turns_with_the_sign(seed: int) -> None:
    random = np.random.default_rng(seed)
    base, other = random.normal(10, 1, 7), random.normal(11, 2, 7)
    there, back = effect(base.tolist(), other.tolist()), effect(other.tolist(), base.tolist())
    assert there is not None
    assert back is not None
    assert there.low <= there.estimate <= there.high
    assert back.estimate == pytest.approx(-there.estimate)
    assert (back.low, back.high) == (pytest.approx(-there.high), pytest.approx(-there.low))
    assert back.p == pytest.approx(there.p)
    assert 0 < there.p <= 1


def test_six_blocks_that_agree_are_the_fewest_that_are_clear() -> None:
    assert effect([0.0] * 6, [1.0, 1.1, 0.9, 1.2, 1.0, 1.3]).is_clear  # type: ignore[union-attr]
    assert not effect([0.0] * 5, [1.0, 1.1, 0.9, 1.2, 1.0]).is_clear  # type: ignore[union-attr]


def test_one_window_that_went_wrong_does_not_move_the_estimate() -> None:
    found = effect([0.0] * 8, [1.0, 1.1, 0.9, 1.2, 1.0, 1.05, 0.95, 900.0])
    assert found is not None
    assert found.estimate == pytest.approx(1.05, abs=0.1)


@pytest.mark.parametrize("blocks", [6, 8])
def test_settings_that_do_not_differ_are_seldom_called_different(blocks: int) -> None:
    random = np.random.default_rng(7)
    called = 0
    for _ in range(400):
        found = effect(random.lognormal(0, 0.5, blocks).tolist(), random.lognormal(0, 0.5, blocks).tolist())
        called += bool(found and found.is_clear)
    assert called / 400 <= 0.075, "at most one in twenty, and the chance of this test"


def test_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(400):
        base = random.normal(0, 1, 9)
        found = effect(base.tolist(), (base + 0.7 + random.standard_t(3, 9)).tolist())
        covered += bool(found and found.holds(0.7))
    assert covered / 400 >= 0.93


def test_p_is_exact_for_any_distribution() -> None:
    assert permutation_p(np.array([5.0])) == 1.0
    assert permutation_p(np.array([1.0, 2.0, 4.0])) == pytest.approx(2 / 8)
    assert permutation_p(np.zeros(6)) == 1.0
    assert permutation_p(np.ones(20)) < 0.001


def test_nothing_measured_has_no_effect() -> None:
    assert effect([], []) is None
    assert effect([float("nan")], [1.0]) is None
