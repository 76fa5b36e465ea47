"""CPU time is shared out among the places where a thread was seen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.raw.activity import diffuse, is_known_wait, prior_share, running_share

WORK, SLEEP, SELECT = 0, 1, 2
PLAIN = np.array([1.0, 1.0, prior_share(waits=True)[0]])
NO_SNAPSHOTS = np.array([0.0, 0.0, prior_share(waits=True)[1]])


def shares(
    cells: list[tuple[list[int], float]], prior: np.ndarray = PLAIN, worth: np.ndarray = NO_SNAPSHOTS
) -> dict[int, float]:
    """Return the mean probability per place for cells of (places seen, CPU time in samples)."""
    cell = np.array([number for number, (places, _) in enumerate(cells) for _ in places])
    place = np.array([place for places, _ in cells for place in places])
    likely = running_share(cell, place, prior, worth, np.array([cpu for _, cpu in cells]))
    return {int(p): float(likely[place == p].mean()) for p in np.unique(place)}


def test_a_busy_loop_runs() -> None:
    assert shares([([WORK] * 20, 20.0)] * 5)[WORK] == pytest.approx(1.0)


def test_a_sleeper_that_no_frame_betrays_is_told_by_its_cpu_time() -> None:
    found = shares([([WORK] * 20, 20.0), ([SLEEP] * 20, 0.0)] * 10)
    assert found[WORK] > 0.95
    assert found[SLEEP] < 0.1


def test_an_event_loop_that_never_rests_runs_in_select_too() -> None:
    assert shares([([SELECT] * 20, 20.0)] * 10)[SELECT] > 0.9


def test_an_event_loop_that_rests_works_only_where_it_works() -> None:
    found = shares([([WORK] * 2 + [SELECT] * 18, 2.0)] * 30)
    assert found[WORK] > 0.8
    assert found[SELECT] < 0.05


def test_snapshots_decide_between_places_that_always_come_together() -> None:
    (work, worth), (sleep, sleep_worth) = prior_share(False, 5, 5), prior_share(False, 0, 40)
    found = shares([([WORK] * 2 + [SLEEP] * 18, 2.0)] * 30, np.array([work, sleep]), np.array([worth, sleep_worth]))
    assert found[WORK] > 0.8
    assert found[SLEEP] < 0.05


def test_two_threads_that_share_the_gil_run_half_of_the_time() -> None:
    assert shares([([WORK] * 20, 10.0)] * 10)[WORK] == pytest.approx(0.5, abs=0.05)


def test_nothing_seen_is_nothing_shared() -> None:
    empty = np.zeros(0, dtype=np.int64)
    assert len(running_share(empty, empty, PLAIN, NO_SNAPSHOTS, np.zeros(0))) == 0
    assert len(diffuse(np.zeros(0), empty)) == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3)), max_size=80))
def test_as_many_yes_as_the_probabilities_add_up_to(samples: list[tuple[float, int]]) -> None:
    probability = np.array([p for p, _ in samples])
    group = np.array([g for _, g in samples], dtype=np.int64)
    answer = diffuse(probability, group)
    for number in range(4):
        mine = group == number
        assert abs(answer[mine].sum() - probability[mine].sum()) <= 0.5 + 1e-9


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=20), st.floats(0, 30)), min_size=1, max_size=10)
)
def test_probabilities_are_probabilities(cells: list[tuple[list[int], float]]) -> None:
    assert all(0.0 <= share <= 1.0 for share in shares(cells).values())


@pytest.mark.parametrize(
    ("function", "file", "kind", "waits"),
    [
        pytest.param("wait", "threading.py", "stdlib", True, id="a-lock"),
        pytest.param("EpollSelector.select", "selectors.py", "stdlib", True, id="qualified-name"),
        pytest.param("select", "app/selectors.py", "python", False, id="a-namesake"),
        pytest.param("start", "threading.py", "stdlib", False, id="same-file"),
    ],
)
def test_known_waits(function: str, file: str, kind: str, waits: bool) -> None:
    assert is_known_wait(function, file, kind) == waits
