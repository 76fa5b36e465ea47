"""The only place that says what form a growing series has: a line, a curve that fills up, a step.

A leak goes on; a cache fills up; a buffer that was allocated once is a step. Telling them
apart takes a window longer than the time constant, and "unclear" is an answer.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perfkit.analysis.trends import TooFewPoints, variance_inflation

Floats = NDArray[np.float64]
ShapeName = Literal["flat", "linear", "saturating", "step", "unclear"]

MIN_POINTS = 6
"""The widest model has four parameters; AICc needs two readings more than that."""
_CLEAR = 2.0
_TIME_CONSTANTS = np.geomspace(0.05, 2.0, 40)


@dataclass(frozen=True, slots=True)
class Shape:
    """The form of a series.

    `levels_off_s` is how long after the first reading the best filling curve has come within 5 %
    of its end, `step_s` the time of the best step; `aicc` holds the score of each form (lower is
    better).
    """

    name: ShapeName
    levels_off_s: float
    step_s: float
    window_s: float
    aicc: dict[str, float]

    @property
    def filled(self) -> bool:
        """Whether the window is long enough to have seen the filling end."""
        return self.name == "saturating" and self.levels_off_s <= self.window_s


def shape(time_s: ArrayLike, values: ArrayLike) -> Shape:
    """Return which form explains a series best: flat, linear, saturating, step or unclear.

    Least squares for each form, compared by the corrected Akaike criterion with the number of
    readings divided by the inflation that their autocorrelation causes. A form wins by two
    points; among forms that close the simplest wins, except that a line and a filling curve
    that close are "unclear": nobody should act on the difference.

    Args:
        time_s: n times, strictly increasing, seconds.
        values: n readings.

    Raises:
        TooFewPoints: n is less than 6.

    Source: Hurvich & Tsai (1989), doi:10.1093/biomet/76.2.297; two points: Burnham & Anderson
    (2004), doi:10.1177/0049124104268644
    """
    time, y = np.asarray(time_s, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if len(time) < MIN_POINTS:
        raise TooFewPoints(len(time), MIN_POINTS)
    window = float(time[-1] - time[0])
    x = (time - time[0]) / window
    flat = y - y.mean()
    if not flat.any():
        return Shape("flat", float("inf"), 0.0, window, {"flat": -np.inf})
    line = _residuals(np.column_stack([np.ones_like(x), x]), y)
    end, curve = _filling(x, y)
    step, jump = _step(y)
    residuals = {"flat": (flat, 2), "linear": (line, 3), "saturating": (curve, 4), "step": (jump, 4)}
    finest = min(residuals.values(), key=lambda item: float(item[0] @ item[0]))[0]
    # A residual of exactly zero would have a score of minus infinity; readings have a resolution.
    resolution = (1e-6 * float(np.ptp(y))) ** 2
    # A form that misses a kink leaves residuals that look correlated: at least a third of the readings counts.
    effective = max(len(y) / variance_inflation(finest), len(y) / 3, min(len(y), 10))
    scores = {name: _aicc(float(np.mean(r**2)) + resolution, k, effective) for name, (r, k) in residuals.items()}
    return Shape(_winner(scores), end * window, float(time[step]), window, scores)


def _winner(scores: dict[str, float]) -> ShapeName:
    """Return the simplest form within two points of the best."""
    best = min(scores.values())
    close = [name for name, score in scores.items() if score - best < _CLEAR]
    if "flat" in close:
        return "flat"
    if len(close) > 1:
        return "unclear"
    name: ShapeName = close[0]  # type: ignore[assignment]
    return name


def _residuals(columns: Floats, y: Floats) -> Floats:
    """Return what a least-squares fit of `columns` leaves over."""
    solution = np.linalg.lstsq(columns, y, rcond=None)[0]
    return np.asarray(y - columns @ solution)


def _filling(x: Floats, y: Floats) -> tuple[float, Floats]:
    """Return when the best levelling-off curve is full (in windows) and its residuals.

    Two ways to fill up: with a constant chance to meet a known key (exponential), or at a
    constant rate until a limit is reached (a ramp with a knee).
    """
    candidates = [(3 * float(tau), 1 - np.exp(-x / tau)) for tau in _TIME_CONSTANTS]
    candidates += [(float(knee), np.minimum(x, knee)) for knee in x[2:-2]]
    fits = [(end, _residuals(np.column_stack([np.ones_like(x), form]), y)) for end, form in candidates]
    return min(fits, key=lambda fit: float(fit[1] @ fit[1]))


def _step(y: Floats) -> tuple[int, Floats]:
    """Return the first reading after the best single step, and the residuals around its two levels."""
    n = len(y)
    total, squares = np.cumsum(y)[:-1], np.cumsum(y**2)
    left = np.arange(1, n)
    error = squares[-1] - total**2 / left - (y.sum() - total) ** 2 / (n - left)
    at = int(np.argmin(error)) + 1
    return at, np.concatenate([y[:at] - y[:at].mean(), y[at:] - y[at:].mean()])


def _aicc(mean_square: float, parameters: int, points: float) -> float:
    """Return the corrected Akaike criterion of a least-squares fit; `parameters` counts the variance."""
    correction = 2 * parameters * (parameters + 1) / max(points - parameters - 1, 0.5)
    return float(points * np.log(mean_square) + 2 * parameters + correction)
