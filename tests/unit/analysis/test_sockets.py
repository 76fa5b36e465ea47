"""Lifetimes and states of sockets, from tables made by hand."""

from itertools import pairwise
from pathlib import Path

import pytest

from perfkit.analysis.socket_lifetimes import churn, cohorts, connections, coverage, socket_window
from perfkit.analysis.socket_states import most_at_once, spells
from perfkit.views.connection_timeline import IDLE, IN_USE, PEER_CLOSED, bars_of
from tests.builders import SECOND_NS, make_profile
from tests.unit.rules.socket_situations import Sockets


def test_a_connection_that_is_older_than_the_recording_counts_only_what_it_did_in_it(tmp_path: Path) -> None:
    sockets = Sockets()
    sockets.connection(exchanges=40)  # 40 at the start, 80 at the end
    [found] = connections(sockets.record(tmp_path / "p"), 4242)
    assert (found.born_s, found.died_s, found.age_s) == (None, None, None)
    assert (found.exchanges, found.sent_bytes) == (40, 4_000)


def test_a_death_tells_the_whole_life(tmp_path: Path) -> None:
    sockets = Sockets()
    sockets.connection(born_s=10.0, died_s=12.5, exchanges=7, closer="peer", idle_s=0.5)
    [found] = connections(sockets.record(tmp_path / "p"), 4242)
    assert (found.age_s, found.closer, found.idle_s, found.exchanges, found.turns) == (2.5, "peer", 0.5, 7, 7)


def test_segments_that_are_full_in_one_direction_do_not_count_as_turns(tmp_path: Path) -> None:
    sockets = Sockets()
    sockets.connection(born_s=1.0, died_s=2.0)
    for row in (*sockets.states, *sockets.events):
        row |= {"sent_bytes": 300, "segments_out": 1, "received_bytes": 14_480, "segments_in": 10}
    [found] = connections(sockets.record(tmp_path / "p"), 4242)
    assert (found.exchanges, found.turns) == (1, 1)


def test_bodies_in_both_directions_say_nothing_about_turns(tmp_path: Path) -> None:
    sockets = Sockets()
    sockets.connection(born_s=1.0, died_s=2.0)
    for row in (*sockets.states, *sockets.events):
        row |= {"sent_bytes": 7_000, "segments_out": 5, "received_bytes": 14_480, "segments_in": 10}
    [found] = connections(sockets.record(tmp_path / "p"), 4242)
    assert (found.exchanges, found.turns) == (5, None)


def test_churn_leaves_the_first_tenth_out(tmp_path: Path) -> None:
    sockets = Sockets()
    for number in range(60):
        sockets.connection(born_s=number + 0.5, died_s=number + 0.75, exchanges=1)
    profile = sockets.record(tmp_path / "p")
    window = socket_window(profile, 4242)
    assert window is not None
    [row] = churn(connections(profile, 4242), window)
    assert (row.born, row.closed_by_us, row.busy_ratio) == (54, 54, 1.0)
    assert row.born_per_s == pytest.approx(1.0)
    assert row.median_age_s == pytest.approx(0.25)


def test_births_that_no_reading_dated_are_put_to_the_death_of_the_cohort_before(tmp_path: Path) -> None:
    sockets = Sockets()
    for _ in range(6):
        sockets.connection(born_s=0.0, died_s=10.0)
    for _ in range(6):
        sockets.connection(born_s=14.0, died_s=20.0)
        sockets.events[-2] |= {"at_ns": 18 * SECOND_NS, "earliest_ns": 9 * SECOND_NS}
    first, second = cohorts(connections(sockets.record(tmp_path / "p"), 4242))
    assert first.replaced == second.deaths == 6
    assert set(second.ages_s) == {10.0}


def test_the_share_seen_is_of_all_that_the_kernel_counted(tmp_path: Path) -> None:
    rows = [
        {"at_ns": at, "active_opens": a, "passive_opens": p, "seen_born": s}
        | {"tcp_sockets": 1, "unix_sockets": 0, "other_sockets": 0}
        for at, a, p, s in ((0, 1_000, 500, 0), (SECOND_NS, 1_060, 540, 95))
    ]
    assert coverage(make_profile(tmp_path / "p", others={"socket_counters": rows}), 4242) == (100, 95)


def test_a_spell_ends_with_the_next_state_or_with_the_socket(tmp_path: Path) -> None:
    sockets = Sockets()
    sockets.connection(born_s=1.0, died_s=9.0, states=((1.0, "established"), (4.0, "close_wait")))
    found = spells(sockets.record(tmp_path / "p"), 4242, 60.0)
    assert [(s.state, s.from_s, s.until_s, s.open_end) for s in found] == [
        ("established", 1.0, 4.0, False),
        ("close_wait", 4.0, 9.0, False),
    ]
    assert most_at_once(found, 2.0) == (1, 3.0)
    assert most_at_once(found, 10.0) == (0, 0.0)


def test_bars_of_a_life_have_no_gap(tmp_path: Path) -> None:
    sockets = Sockets()
    sockets.connection(born_s=1.0, died_s=30.0)
    shared = sockets.states.pop()
    for at_s, total, state in ((1, 0, "established"), (2, 90, "established"), (3, 180, "established")):
        sockets.row(at_s, shared, {"at_ns": at_s * SECOND_NS, "sent_bytes": total, "state": state})
    sockets.row(20.0, shared, {"at_ns": 20 * SECOND_NS, "sent_bytes": 180, "state": "close_wait"})
    [found] = connections(sockets.record(tmp_path / "p"), 4242)
    bars = bars_of(found, sockets.states, 60.0)
    assert [what for _, _, what in bars] == [IN_USE, IDLE, PEER_CLOSED]
    assert bars[0][0] == 1.0
    assert bars[-1][1] == 30.0
    assert all(before[1] == after[0] for before, after in pairwise(bars))
