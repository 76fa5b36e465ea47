"""Sockets that the peer has closed: a pile that stays is a defect, one that goes away is not."""

from pathlib import Path

import pytest

from perfkit.findings import Verdict
from perfkit.rules.unreaped_peer_close import UnreapedPeerClose
from tests.builders import make_profile
from tests.unit.rules.socket_situations import Sockets


def waiting(sockets: Sockets, count: int, from_s: float, until_s: float | None, **row: object) -> None:
    """Add connections that are in CLOSE_WAIT from one moment to another."""
    for number in range(count):
        states = ((1.0, "established"), (from_s + number / 10, "close_wait"))
        sockets.connection(born_s=1.0, died_s=until_s, states=states, closer="peer", **row)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "from_s", "until_s", "verdict"),
    [
        pytest.param(19, 8.0, None, Verdict.FAIL, id="a-pool-that-never-looks"),
        pytest.param(5, 8.0, 30.0, Verdict.FAIL, id="reaped-after-22-seconds"),
        pytest.param(19, 8.0, 13.0, Verdict.PASS, id="reaped-by-a-timer-of-five-seconds"),
        pytest.param(2, 8.0, None, Verdict.PASS, id="two-idle-connections"),
        pytest.param(19, 55.0, None, Verdict.UNDECIDED, id="just-before-the-end"),
    ],
)
def test_verdict(tmp_path: Path, count: int, from_s: float, until_s: float | None, verdict: Verdict) -> None:
    sockets = Sockets()
    waiting(sockets, count, from_s, until_s)
    [finding] = UnreapedPeerClose().check(sockets.record(tmp_path / "p"))
    assert finding.verdict == verdict, finding.title
    if verdict == Verdict.FAIL:
        assert finding.measured == count
        assert finding.evidence["peer"] == "10.0.0.7:5432"
        assert finding.evidence["direction"] == "upstream"


def test_connections_one_after_the_other_are_no_pile(tmp_path: Path) -> None:
    sockets = Sockets(seconds=120)
    for at_s in range(0, 100, 20):
        waiting(sockets, 1, at_s + 1.5, at_s + 18.0)
    [finding] = UnreapedPeerClose().check(sockets.record(tmp_path / "p"))
    assert finding.verdict == Verdict.PASS, finding.title


def test_a_client_that_shuts_its_side_and_still_gets_its_answer_is_served(tmp_path: Path) -> None:
    sockets = Sockets()
    for _ in range(10):
        cookie = sockets.connection(born_s=1.0, states=((1.0, "established"), (2.0, "close_wait")), role="downstream")
        sockets.row(30.0, sockets.states[-1] | {"at_ns": int(30e9), "sent_bytes": 10_000_000, "cookie": cookie})
    [finding] = UnreapedPeerClose().check(sockets.record(tmp_path / "p"))
    assert finding.verdict == Verdict.PASS, finding.title


def test_each_peer_has_its_own_finding(tmp_path: Path) -> None:
    sockets = Sockets()
    waiting(sockets, 4, 5.0, None, peer="10.0.0.7:80")
    waiting(sockets, 4, 5.0, None, peer="10.0.0.8:80")
    findings = UnreapedPeerClose().check(sockets.record(tmp_path / "p"))
    assert {finding.evidence["peer"] for finding in findings} == {"10.0.0.7:80", "10.0.0.8:80"}


def test_without_sockets_it_has_nothing_to_say(tmp_path: Path) -> None:
    assert UnreapedPeerClose().check(make_profile(tmp_path / "p")) == []


def test_a_short_recording_without_a_pile_cannot_tell(tmp_path: Path) -> None:
    [finding] = UnreapedPeerClose().check(Sockets(seconds=6).record(tmp_path / "p"))
    assert finding.verdict == Verdict.UNDECIDED
