"""Connections thrown away: by a pool that could keep them, by design, or by the peer."""

from pathlib import Path
from random import Random

import pytest

from perfkit.findings import Verdict
from perfkit.rules.connection_churn import ConnectionChurn
from tests.unit.rules.socket_situations import Sockets


def stream(
    sockets: Sockets,
    per_s: float,
    exchanges: tuple[int, ...],
    *,
    from_s: float = 0.0,
    until_s: float = 60.0,
    **more: object,
) -> None:
    """Add short connections all along, which carry so many exchanges in turn."""
    for number in range(int((until_s - from_s) * per_s)):
        born_s = from_s + number / per_s
        carried = exchanges[number % len(exchanges)]
        sockets.connection(born_s=born_s, died_s=born_s + 0.05 * carried, exchanges=carried, **more)  # type: ignore[arg-type]


def pool(sockets: Sockets, size: int, exchanges: int) -> None:
    """Add connections that stay and are used all the time."""
    for _ in range(size):
        sockets.connection(exchanges=exchanges)


def verdict_of(sockets: Sockets, path: Path) -> Verdict:
    findings = ConnectionChurn().check(sockets.record(path / "p"))
    return findings[0].verdict


def test_a_pool_that_keeps_too_few_is_named_with_peer_and_ratio(tmp_path: Path) -> None:
    sockets = Sockets()
    stream(sockets, 20, (1, 1, 2, 3, 1, 6, 2))
    pool(sockets, 10, 500)
    [finding] = ConnectionChurn().check(sockets.record(tmp_path / "p"))
    assert finding.verdict == Verdict.FAIL
    assert finding.measured == pytest.approx(0.15, abs=0.05)
    assert finding.evidence["peer"] == "10.0.0.7:5432"
    assert finding.evidence["opened_per_s"] == pytest.approx(20, rel=0.02)


@pytest.mark.parametrize(
    ("per_s", "exchanges", "closer", "kept", "verdict"),
    [
        pytest.param(20, (1,), "local", 0, Verdict.UNDECIDED, id="one-request-each-by-design-or-not"),
        pytest.param(20, (1, 2), "local", 0, Verdict.UNDECIDED, id="one-request-each-some-ask-before-they-send"),
        pytest.param(20, (5, 6, 7, 9), "local", 0, Verdict.UNDECIDED, id="sessions-of-a-pool-that-is-off"),
        pytest.param(20, (1, 2, 6), "peer", 10, Verdict.UNDECIDED, id="the-peer-closes"),
        pytest.param(1, (1,), "local", 20, Verdict.PASS, id="a-health-check-beside-a-busy-pool"),
        pytest.param(0.2, (1, 5), "local", 0, Verdict.PASS, id="a-client-now-and-then"),
        pytest.param(300, (1,), "local", 0, Verdict.FAIL, id="ports-run-short"),
    ],
)
def test_verdict(
    tmp_path: Path, per_s: float, exchanges: tuple[int, ...], closer: str, kept: int, verdict: Verdict
) -> None:
    sockets = Sockets()
    stream(sockets, per_s, exchanges, closer=closer)
    pool(sockets, kept, 500)
    assert verdict_of(sockets, tmp_path) == verdict


def test_a_burst_that_warms_a_pool_up_is_none(tmp_path: Path) -> None:
    sockets = Sockets()
    for number in range(100):
        sockets.connection(born_s=0.5 + number / 100, exchanges=40)
    assert verdict_of(sockets, tmp_path) == Verdict.PASS


def test_a_peak_of_load_for_which_a_pool_grows_is_none(tmp_path: Path) -> None:
    sockets = Sockets()
    random = Random(3)
    for _ in range(60):
        sockets.connection(born_s=30 + random.random(), died_s=45 + random.random(), exchanges=random.randint(1, 40))
    pool(sockets, 5, 300)
    assert verdict_of(sockets, tmp_path) == Verdict.PASS


def test_clients_that_come_and_go_are_no_churn_of_ours(tmp_path: Path) -> None:
    sockets = Sockets()
    stream(sockets, 300, (1, 5), role="downstream", peer="10.0.0.9:50000")
    assert verdict_of(sockets, tmp_path) == Verdict.PASS


@pytest.mark.parametrize("ended", [1, 10])
def test_connections_that_are_kept_open_are_not_thrown_away(tmp_path: Path, ended: int) -> None:
    sockets = Sockets()
    for number in range(50):  # one of five requests forgets its answer, and a connection is made in its place
        sockets.connection(born_s=7.0 + number, exchanges=5, died_s=8.0 + number if number < ended else None)
    sockets.connection(exchanges=200)
    finding, *_ = ConnectionChurn().check(sockets.record(tmp_path / "p"))
    assert finding.verdict is Verdict.PASS, finding.title
    assert f"{ended} of them closed" in finding.title


def test_connections_of_which_only_those_of_others_end_are_not_blamed(tmp_path: Path) -> None:
    sockets = Sockets()
    for number in range(30):
        sockets.connection(born_s=7.0 + number, exchanges=3)
    for number in range(30):
        sockets.connection(born_s=7.0 + number, died_s=7.1 + number, exchanges=1 + 3 * (number % 3 == 0))
    assert all(event["event"] == "birth" for event in sockets.events[:30])
    for event in sockets.events[30:]:
        event |= {"owner": "peer"}
    finding, *_ = ConnectionChurn().check(sockets.record(tmp_path / "p"))
    assert finding.verdict is not Verdict.FAIL, finding.title
