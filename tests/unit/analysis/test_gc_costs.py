"""What collections cost: shares of time, worst windows, overlap with requests, and what drives them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from perfkit.analysis.cyclic_garbage import cyclic_garbage
from perfkit.analysis.gc_case import gather
from perfkit.analysis.gc_costs import costs, paused_before, worst_window_ratio
from perfkit.analysis.gc_model import descriptors_held, model
from perfkit.analysis.gc_overlap import overlap
from tests.builders import PID, SECOND_NS, make_profile, pause
from tests.unit.rules import collections as made

Ints = npt.NDArray[np.int64]


def random_pauses(seed: int) -> tuple[Ints, Ints]:
    random = np.random.default_rng(seed)
    gaps, lengths = random.integers(1, 900, 60), random.integers(1, 300, 60)
    return np.cumsum(gaps + np.concatenate([[0], lengths[:-1]])), lengths


@pytest.mark.parametrize("seed", range(20))
def test_time_paused_before_a_moment_is_what_counting_says(seed: int) -> None:
    starts, lengths = random_pauses(seed)
    moments = np.random.default_rng(seed).integers(0, 40_000, 50)
    expected = [
        sum(min(max(at - start, 0), length) for start, length in zip(starts, lengths, strict=True)) for at in moments
    ]
    assert paused_before(starts, lengths, moments).tolist() == expected


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("window", [500, 5_000])
def test_worst_window_is_the_worst_of_all_windows(seed: int, window: int) -> None:
    starts, lengths = random_pauses(seed)
    begins = np.arange(-window, int(starts[-1] + lengths[-1]))
    all_of_them = paused_before(starts, lengths, begins + window) - paused_before(starts, lengths, begins)
    assert worst_window_ratio(starts, lengths, window) == pytest.approx(all_of_them.max() / window)


def test_shares_of_time_add_up(tmp_path: Path) -> None:
    found = costs(made.manual().record(tmp_path / "p"), PID)
    assert found is not None
    assert sum(each.time_ratio for each in found.generations) == pytest.approx(found.ratio)
    assert found.ratio == pytest.approx(found.automatic_ratio + found.manual_ratio)
    assert sum(each.time_ratio for each in found.callers) == pytest.approx(found.manual_ratio)
    assert 0 < found.ratio <= found.worst_ten_seconds_ratio <= found.worst_second_ratio <= 1
    assert found.coverage == 1.0


def test_collections_of_the_census_are_not_the_programs(tmp_path: Path) -> None:
    ours = (("[perfkit probe]", None, None),)
    rows = [pause(at * SECOND_NS, 30.0, generation=2, manual=True, stack=ours) for at in range(1, 25, 5)]
    found = costs(made.Service().record(tmp_path / "p", gc_pauses=rows), PID)
    assert found is not None
    assert (found.manual_ratio, found.callers) == (0.0, ())
    assert found.census_ratio == pytest.approx(5 * 0.03 / 30)


def test_nothing_recorded_has_no_costs(tmp_path: Path) -> None:
    assert costs(make_profile(tmp_path / "p"), PID) is None


def request(at_ms: float, took_ms: float) -> dict[str, object]:
    return {
        "intended_ns": int(at_ms * 1e6), "start_ns": int(at_ms * 1e6), "latency_ns": int(took_ms * 1e6), "status": 200,
        "route": "page", "method": "GET", "sent_bytes": 0, "received_bytes": 9,
    }  # fmt: skip


def test_requests_that_met_a_pause_are_told_from_those_that_did_not(tmp_path: Path) -> None:
    pauses = [pause(1_000_000_000, 50.0, generation=2), pause(2_000_000_000, 50.0, generation=2)]
    requests = [request(at, 5.0) for at in range(0, 900, 10)]
    requests += [request(995, 60.0), request(1040, 15.0), request(1960, 100.0)]
    profile = made.Service().record(tmp_path / "p", gc_pauses=pauses, requests=requests)
    found = costs(profile, PID)
    assert found is not None
    met = overlap(profile, found)
    assert met is not None
    assert (met.of, met.total, met.overlapped) == ("requests", 93, 3)
    assert (met.p99_ms, met.p99_clear_ms) == (100.0, 5.0)
    assert met.p99_without_ms == 50.0
    assert met.gain_ms == 50.0


def test_without_requests_the_event_loop_tells(tmp_path: Path) -> None:
    lag = [{"at_ns": at * 100_000_000, "lag_ns": 1_000_000, "loop": "asyncio"} for at in range(100)]
    profile = made.Service().record(tmp_path / "p", lag=lag)
    found = costs(profile, PID)
    assert found is not None
    met = overlap(profile, found)
    assert met is not None
    assert met.of == "callbacks"


@pytest.mark.parametrize("situation", [made.cycles, made.above_the_knee, made.static_heap, made.healthy])
def test_shares_of_what_is_counted_are_shares(situation: type[made.Service], tmp_path: Path) -> None:
    case = gather(situation().record(tmp_path / "p"), PID)
    assert case is not None
    found = case.model
    assert found is not None
    for share in (
        found.passing_ratio,
        found.garbage_ratio,
        found.steady_ratio,
        case.garbage.share,
        case.garbage.own_share,
    ):
        assert 0.0 <= share <= 1.0
    assert found.passing_ratio + found.steady_ratio == pytest.approx(1.0)
    costs_then = [found.raised(step).time_ratio for step in (5_000, 20_000, 100_000)]
    assert costs_then == sorted(costs_then, reverse=True), "a higher threshold is never predicted to cost more"
    held = [found.held_bytes(step) for step in (700, 5_000, 50_000)]
    assert held == sorted(held), "nor to hold less"


def test_what_garbage_holds_is_in_proportion_to_the_threshold(tmp_path: Path) -> None:
    profile = made.socket_cycles().record(tmp_path / "p")
    known = costs(profile, PID)
    assert known is not None
    garbage = cyclic_garbage(profile, known)
    # 10 descriptors in 20 checks and 20 lists: one per four objects.
    assert garbage.descriptors_per_object == pytest.approx(0.25)
    found = model(profile, known, garbage)
    assert found is not None
    assert found.held_descriptors(700) == pytest.approx(175, rel=0.05)
    assert descriptors_held(profile, PID, 2_800) == pytest.approx(700, rel=0.05)


def test_descriptors_held_are_not_known_where_nobody_looked(tmp_path: Path) -> None:
    assert descriptors_held(make_profile(tmp_path / "p"), PID, 700) is None
