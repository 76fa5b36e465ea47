"""The only place that makes long series short enough to draw, without losing what matters in them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def m4(frame: "pd.DataFrame", time: str, value: str, buckets: int = 800) -> "pd.DataFrame":
    """Return the rows that a line chart of this width needs: first, last, lowest and highest of each bucket.

    A line drawn through them has the same pixels as one through all rows, so a spike of a
    single reading stays. A frame that is short enough is returned as it is.

    Args:
        frame: readings, ordered by `time`.
        time: name of the time column.
        value: name of the value column.
        buckets: number of pixels across.

    Source: Jugel, Jerzak, Hackenbroich, Markl (2014), M4, doi:10.14778/2732951.2732953
    """
    import numpy as np

    if len(frame) <= 4 * buckets:
        return frame
    times = frame[time].to_numpy(dtype=float)
    values = frame[value].to_numpy(dtype=float)
    span = times[-1] - times[0] or 1.0
    bucket = np.minimum(((times - times[0]) / span * buckets).astype(int), buckets - 1)
    starts = np.flatnonzero(np.diff(bucket, prepend=-1))
    ends = np.append(starts[1:], len(frame))
    kept: set[int] = set()
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        part = values[start:end]
        kept |= {start, end - 1, start + int(part.argmin()), start + int(part.argmax())}
    return frame.iloc[sorted(kept)]


def step_s(duration_s: float, steps: int = 240) -> float:
    """Return the length of a bin so that a recording has at most `steps` of them: 1, 2, 5, 10, ... seconds.

    >>> [step_s(60), step_s(900), step_s(86_400)]
    [1.0, 5.0, 600.0]
    """
    for candidate in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600):
        if duration_s / candidate <= steps:
            return float(candidate)
    return max(7_200.0, duration_s / steps)
