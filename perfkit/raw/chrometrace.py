"""The only place that turns begin and end events of a Chrome trace into call stacks over time.

py-spy's chrometrace is run-length encoded: while a thread's frames stay equal it writes
nothing. What comes out here are therefore intervals, and samples are taken from them.

Source: https://github.com/benfred/py-spy/blob/master/src/chrometrace.rs
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_NEXT_EVENT = '},{"args"'


class Interval(NamedTuple):
    """A stretch of time in which one thread had one stack; `frames` from root to leaf."""

    tid: int
    start_us: int
    end_us: int
    frames: tuple[int, ...]


@dataclass
class Trace:
    """The intervals of one file, in the order in which they end, and what was wrong with it.

    `first_us` is the first tick, `last_us` the end of the last. `unbalanced` counts end
    events that do not belong to the frame that is open.
    """

    intervals: list[Interval] = field(default_factory=list)
    first_us: int = 0
    last_us: int = 0
    unbalanced: int = 0


def load(text: str) -> tuple[list[dict[str, Any]], bool]:
    """Return the events of a file and whether it is whole; of a file that was cut, the events before the cut.

    Raises:
        ValueError: it is not a Chrome trace, or was cut before the first event.
    """
    try:
        events, whole = json.loads(text), True
    except ValueError:
        # Within a JSON string the quote would be escaped, so this text is always a seam between two events.
        seam = text.rfind(_NEXT_EVENT)
        if seam < 0:
            raise
        events, whole = json.loads(text[:seam] + "}]"), False
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise ValueError("not a list of trace events")
    return events, whole


def trace(events: Iterable[Mapping[str, Any]], frame_id: Callable[[str, str | None, int | None], int]) -> Trace:
    """Return the call stack of every thread over time.

    Args:
        events: begin (B) and end (E) events in file order, `ts` in microseconds; metadata (M)
            of newer py-spy versions gives the pthread id that a small `tid` stands for.
        frame_id: called as (function, file, line); gives the number of the frame.
    """
    result = Trace()
    stacks: dict[int, list[int]] = {}
    since: dict[int, int] = {}
    alias: dict[int, int] = {}
    first: int | None = None
    for event in events:
        phase, tid = event["ph"], event["tid"]
        if phase == "M":
            number = str(event["args"].get("name", "")).partition(":")[0]
            if number.isdigit():
                alias[tid] = int(number)
            continue
        if phase not in ("B", "E"):
            continue
        now_us = event["ts"]
        first = now_us if first is None else first
        stack = stacks.setdefault(tid, [])
        if stack and now_us > since[tid]:
            result.intervals.append(Interval(alias.get(tid, tid), since[tid], now_us, tuple(stack)))
        since[tid] = now_us
        result.last_us = max(result.last_us, now_us)
        args = event["args"]
        frame = frame_id(event["name"], args.get("filename") or None, args.get("line"))
        if phase == "B":
            stack.append(frame)
        elif stack and stack[-1] == frame:
            stack.pop()
        else:
            result.unbalanced += 1
            if frame in stack:
                del stack[len(stack) - 1 - stack[::-1].index(frame) :]
    for tid, stack in stacks.items():  # open only when the file was cut
        if stack and result.last_us > since[tid]:
            result.intervals.append(Interval(alias.get(tid, tid), since[tid], result.last_us, tuple(stack)))
    result.first_us = first or 0
    return result


def on_grid(
    start_ns: NDArray[np.int64], end_ns: NDArray[np.int64], period_ns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return `(row, tick)`: the ticks k x period_ns that lie in [start, end), with the interval each is from.

    Intervals that follow each other share no tick and leave none out, so that the number of
    ticks times the period is the time covered, rounded to the grid once, not once per interval.

    Args:
        start_ns: n starts.
        end_ns: n ends, each at least its start.
        period_ns: distance of the ticks.

    >>> rows, ticks = on_grid(np.array([0, 25]), np.array([25, 40]), 10)
    >>> rows.tolist(), ticks.tolist()
    ([0, 0, 0, 1], [0, 10, 20, 30])
    """
    first = -(-start_ns // period_ns)
    counts = np.maximum(-(-end_ns // period_ns) - first, 0)
    rows = np.repeat(np.arange(len(start_ns), dtype=np.int64), counts)
    offsets = np.arange(counts.sum(), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, (first[rows] + offsets) * period_ns
