"""Shapes of series: what a leak, a cache and a buffer look like under noise."""

from collections import Counter

import numpy as np
import pytest

from perfkit.analysis.shapes import shape
from perfkit.analysis.trends import TooFewPoints

TIME = np.linspace(0, 30, 30)
FORMS = {
    "flat": np.zeros(30),
    "linear": TIME,
    "saturating": 30 * (1 - np.exp(-TIME / 4)),
    "ramp": 3 * np.minimum(TIME, 10),
    "step": 20.0 * (TIME > 12),
}


@pytest.mark.parametrize("noise", [0.01, 1.0, 2.0])
@pytest.mark.parametrize(
    ("form", "name"),
    [
        pytest.param("flat", "flat", id="flat"),
        pytest.param("linear", "linear", id="leak"),
        pytest.param("saturating", "saturating", id="random-keys-fill-a-cache"),
        pytest.param("ramp", "saturating", id="new-keys-fill-a-cache"),
        pytest.param("step", "step", id="one-buffer"),
    ],
)
def test_form_is_recognised(form: str, name: str, noise: float) -> None:
    random = np.random.default_rng(5)
    named = Counter(shape(TIME, FORMS[form] + random.normal(0, noise, 30)).name for _ in range(50))
    assert named[name] >= 40, named


def test_a_noisy_line_is_hardly_ever_taken_for_a_curve_that_has_filled_up() -> None:
    random = np.random.default_rng(6)
    assert sum(shape(TIME, TIME + random.normal(0, 2, 30)).filled for _ in range(100)) <= 2


@pytest.mark.parametrize(("time_constant_s", "filled"), [(3.0, True), (8.0, True), (60.0, False)])
def test_filled_needs_a_window_longer_than_the_filling(time_constant_s: float, filled: bool) -> None:
    values = 1e6 * (1 - np.exp(-TIME / time_constant_s)) + np.random.default_rng(1).normal(0, 1e3, 30)
    assert shape(TIME, values).filled is filled


@pytest.mark.parametrize("form", FORMS)
def test_shape_does_not_depend_on_level_or_unit(form: str) -> None:
    values = FORMS[form] + np.random.default_rng(2).normal(0, 1, 30)
    assert shape(TIME, values).name == shape(TIME + 500, 1e6 * values + 1e9).name


def test_too_few_readings_are_refused() -> None:
    with pytest.raises(TooFewPoints):
        shape(range(5), range(5))
