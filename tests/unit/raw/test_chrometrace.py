"""Begin and end events become stacks over time, and time becomes ticks."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.raw.chrometrace import Trace, load, on_grid, trace


def events(*steps: tuple[int, str, str]) -> list[dict[str, Any]]:
    """Events of one thread from (microseconds, B or E, function)."""
    return [
        {"ph": phase, "ts": us, "name": name, "tid": 1, "pid": 9, "args": {"filename": "a.py", "line": 1}}
        for us, phase, name in steps
    ]


class Names:
    """Numbers functions in the order they come."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, function: str, _file: str | None, _line: int | None) -> int:
        return self.numbers.setdefault(function, len(self.numbers))


def stacks(result: Trace, names: Names) -> list[tuple[int, int, str]]:
    """Intervals with their functions."""
    letters = list(names.numbers)
    return [(i.start_us, i.end_us, "".join(letters[f] for f in i.frames)) for i in result.intervals]


def test_a_call_and_its_return() -> None:
    names = Names()
    result = trace(events((5, "B", "a"), (5, "B", "b"), (20, "E", "b"), (30, "E", "a")), names)
    assert stacks(result, names) == [(5, 20, "ab"), (20, 30, "a")]
    assert (result.first_us, result.last_us, result.unbalanced) == (5, 30, 0)


def test_a_thread_without_frames_is_not_covered() -> None:
    names = Names()
    result = trace(events((0, "B", "a"), (10, "E", "a"), (50, "B", "a"), (60, "E", "a")), names)
    assert stacks(result, names) == [(0, 10, "a"), (50, 60, "a")]


def test_a_file_that_was_cut_ends_at_its_last_event() -> None:
    names = Names()
    result = trace(events((0, "B", "a"), (10, "B", "b"), (15, "E", "b")), names)
    assert stacks(result, names) == [(0, 10, "a"), (10, 15, "ab")]


def test_an_end_that_does_not_fit_is_counted_and_repaired() -> None:
    names = Names()
    result = trace(events((0, "B", "a"), (0, "B", "b"), (10, "E", "a"), (20, "E", "b")), names)
    assert result.unbalanced == 2
    assert stacks(result, names) == [(0, 10, "ab")]


def test_small_thread_numbers_of_newer_versions_are_translated() -> None:
    name = {"ph": "M", "ts": 0, "name": "thread_name", "tid": 1, "pid": 9, "args": {"name": "140000123: worker"}}
    result = trace([name, *events((0, "B", "a"), (10, "E", "a"))], Names())
    assert [interval.tid for interval in result.intervals] == [140000123]


def test_a_cut_inside_a_name_that_looks_like_a_seam() -> None:
    import json

    hostile = '"},{"args"'
    text = json.dumps(events((0, "B", hostile), (5, "B", "x"), (9, "E", "x")), separators=(",", ":")).replace(
        '{"ph"', '{"args":{},"ph"'
    )
    seam = '},{"args"'
    for cut in range(len(text) - 1, text.index(seam) + len(seam), -1):
        found, whole = load(text[:cut])
        assert not whole
        assert found[0]["name"] == hostile


spans = st.lists(st.tuples(st.integers(1, 400), st.integers(0, 5)), min_size=1, max_size=60)


@given(spans, st.integers(0, 1000), st.integers(1, 50))
def test_ticks_cover_the_time_once(lengths: list[tuple[int, int]], start: int, period: int) -> None:
    edges = start + np.concatenate([[0], np.cumsum([length for length, _ in lengths])])
    rows, ticks = on_grid(edges[:-1], edges[1:], period)
    assert (np.diff(ticks) == period).all(), "consecutive intervals leave no tick out and take none twice"
    assert abs(len(ticks) * period - (edges[-1] - edges[0])) < period
    assert ((edges[rows] <= ticks) & (ticks < edges[rows + 1])).all(), "each tick has the stack of its moment"


@given(spans)
def test_the_weight_of_all_stacks_is_the_time_covered(lengths: list[tuple[int, int]]) -> None:
    now, steps = 0, []
    for length, name in lengths:
        steps += [(now, "B", f"f{name}"), (now + length, "E", f"f{name}")]
        now += length
    result = trace(events(*steps), Names())
    assert sum(i.end_us - i.start_us for i in result.intervals) == now
    assert result.unbalanced == 0


@pytest.mark.parametrize("text", ["", "{}", "[3]", "nonsense", '[{"args"'])
def test_what_is_no_trace_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        load(text)
