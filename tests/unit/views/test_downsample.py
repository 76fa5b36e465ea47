"""Downsampling keeps what a reader would have seen."""

import numpy as np
import pandas as pd
import pytest

from perfkit.views.downsample import m4, step_s


def series(rows: int) -> pd.DataFrame:
    """Return a noisy series with one spike of a single reading."""
    values = np.random.default_rng(3).normal(100, 5, rows)
    values[rows // 3] = 10_000
    return pd.DataFrame({"t": np.arange(rows) * 10, "v": values})


def test_a_spike_of_one_reading_stays() -> None:
    assert m4(series(100_000), "t", "v")["v"].max() == 10_000


@pytest.mark.parametrize("buckets", [10, 800])
def test_at_most_four_rows_per_bucket_stay_in_order(buckets: int) -> None:
    short = m4(series(50_000), "t", "v", buckets)
    assert len(short) <= 4 * buckets
    assert short["t"].is_monotonic_increasing


def test_first_and_last_reading_stay() -> None:
    whole = series(50_000)
    assert m4(whole, "t", "v").iloc[[0, -1]].equals(whole.iloc[[0, -1]])


def test_a_short_series_is_left_alone() -> None:
    assert m4(series(3_200), "t", "v") is not None
    assert len(m4(series(3_200), "t", "v")) == 3_200


def test_equal_times_do_not_break_it() -> None:
    assert len(m4(series(5_000).assign(t=7), "t", "v", 10)) <= 4


@pytest.mark.parametrize("duration_s", [0.5, 59, 3_600, 86_400, 2_000_000])
def test_steps_stay_below_their_number(duration_s: float) -> None:
    assert duration_s / step_s(duration_s) <= 240.0001
