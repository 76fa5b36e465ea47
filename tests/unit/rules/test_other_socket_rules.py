"""Shared after a fork, expiring in step, unread: what is a defect and what looks like one."""

from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import pytest

from perfkit.findings import Finding, Verdict
from perfkit.rules.fork_shared_socket import ForkSharedSocket
from perfkit.rules.synchronized_expiry import SynchronizedExpiry
from perfkit.rules.unread_reply import UnreadReply
from tests.builders import PID
from tests.unit.rules.socket_situations import Sockets

CHILD = 4243


def shared_for(path: Path, seconds: int, users: tuple[int, ...], role: str = "upstream") -> Finding:
    sockets = Sockets()
    cookie = sockets.connection(born_s=0.0, role=role)
    for at_s in range(1, 50):
        sockets.row(at_s, sockets.states[0] | {"at_ns": int(at_s * 1e9), "sent_bytes": at_s * 100})
    for at_s in range(10, 10 + seconds + 1, 10):
        sockets.shared(cookie, at_s, CHILD)
    for number, user in enumerate(users):
        sockets.used(cookie, 10 + number / 10, user)
    return ForkSharedSocket().check(sockets.record(path / "p"))[0]


@pytest.mark.parametrize(
    ("seconds", "users", "role", "verdict"),
    [
        pytest.param(30, (PID, CHILD), "upstream", Verdict.FAIL, id="both-wait-on-it"),
        pytest.param(30, (CHILD, CHILD + 1), "upstream", Verdict.FAIL, id="two-children-wait-on-it"),
        pytest.param(30, (PID,), "upstream", Verdict.UNDECIDED, id="one-was-seen-once"),
        pytest.param(30, (), "upstream", Verdict.UNDECIDED, id="nobody-was-seen-using-it"),
        pytest.param(30, (PID,) * 25, "upstream", Verdict.PASS, id="a-worker-inherited-what-its-parent-uses"),
        pytest.param(0, (PID, CHILD), "upstream", Verdict.UNDECIDED, id="seen-once-between-fork-and-exec"),
        pytest.param(30, (CHILD,), "downstream", Verdict.PASS, id="a-server-hands-a-client-to-its-worker"),
    ],
)
def test_shared_after_a_fork(tmp_path: Path, seconds: int, users: tuple[int, ...], role: str, verdict: Verdict) -> None:
    finding = shared_for(tmp_path, seconds, users, role)
    assert finding.verdict == verdict, finding.title
    if verdict == Verdict.FAIL:
        assert finding.evidence["processes"] == [PID, CHILD]


def test_nothing_shared_passes(tmp_path: Path) -> None:
    sockets = Sockets()
    sockets.connection()
    assert ForkSharedSocket().check(sockets.record(tmp_path / "p"))[0].verdict == Verdict.PASS


def generations(
    sockets: Sockets, lifetime_s: float, *, count: int, jitter: float = 0.0, idle: float = 0.0, pause_s: float = 0.05
) -> None:
    """Add a pool of ten whose connections end at an age and are opened anew, `count` times."""
    random = Random(5)
    for _ in range(10):
        at_s = 1.0
        for number in range(count):
            age_s = lifetime_s * (1 - jitter * random.random())
            last = number + 1 == count
            died_s = None if last else at_s + age_s + random.random() * 0.02
            sockets.connection(born_s=at_s, died_s=died_s, exchanges=100, idle_s=idle * age_s)
            at_s += age_s + pause_s


@pytest.mark.parametrize(
    ("lifetime_s", "count", "jitter", "idle", "pause_s", "verdict"),
    [
        pytest.param(12, 4, 0.0, 0.0, 0.05, Verdict.FAIL, id="one-lifetime-for-all"),
        pytest.param(40, 2, 0.0, 0.0, 0.05, Verdict.UNDECIDED, id="once-like-a-restart-of-the-peer"),
        pytest.param(12, 4, 0.25, 0.0, 0.05, Verdict.PASS, id="jitter-of-a-quarter"),
        pytest.param(12, 4, 0.1, 0.0, 0.05, Verdict.PASS, id="jitter-of-a-tenth"),
        pytest.param(12, 4, 0.0, 0.7, 0.05, Verdict.PASS, id="idle-timeout-after-bursts"),
        pytest.param(6, 4, 0.0, 0.0, 7.0, Verdict.PASS, id="batches-with-breaks"),
        pytest.param(2, 20, 0.0, 0.0, 0.05, Verdict.PASS, id="short-batches"),
    ],
)
def test_expiring_in_step(
    tmp_path: Path, lifetime_s: float, count: int, jitter: float, idle: float, pause_s: float, verdict: Verdict
) -> None:
    sockets = Sockets()
    generations(sockets, lifetime_s, count=count, jitter=jitter, idle=idle, pause_s=pause_s)
    [finding] = SynchronizedExpiry().check(sockets.record(tmp_path / "p"))
    assert finding.verdict == verdict, finding.title
    if verdict == Verdict.FAIL:
        ages = [group["median_age_s"] for group in finding.evidence["cohorts"]]
        assert median(ages) == pytest.approx(lifetime_s, rel=0.02)


def unread(
    sockets: Sockets,
    *,
    size: int = 40,
    from_s: float = 5.0,
    reply_after_s: float = 0.1,
    segments_out: int = 9,
    born_s: float | None = 1.0,
) -> None:
    """Add a connection on which an answer came and was not read; `born_s` None: before it was recorded."""
    how: dict[str, Any] = {"states": ((0.0, "established"),)} if born_s is None else {"born_s": born_s}
    cookie = sockets.connection(exchanges=segments_out, **how)
    row = sockets.states[-1] | {"sent_bytes": 900, "received_bytes": 500, "segments_out": segments_out}
    ages = {"last_received_ns": 5_000_000, "last_sent_ns": 5_000_000 + int(reply_after_s * 1e9)}
    sockets.row(from_s, row | ages | {"at_ns": int(from_s * 1e9), "recv_q_bytes": size, "cookie": cookie})


def busy(sockets: Sockets) -> None:
    """Add a connection that is used all the time."""
    sockets.connection(exchanges=500)


@pytest.mark.parametrize(
    ("cells", "works", "verdict"),
    [
        pytest.param({}, True, Verdict.FAIL, id="an-answer-in-the-pool"),
        pytest.param({}, False, Verdict.UNDECIDED, id="the-process-does-nothing-at-all"),
        pytest.param({"from_s": 50.0}, True, Verdict.PASS, id="not-for-long"),
        pytest.param({"reply_after_s": 600.0}, True, Verdict.PASS, id="a-notification"),
        pytest.param({"reply_after_s": -3.0}, True, Verdict.PASS, id="something-was-sent-since"),
        pytest.param({"segments_out": 2, "size": 500}, True, Verdict.PASS, id="session-tickets-after-a-handshake"),
        pytest.param({"size": 2_000_000}, True, Verdict.UNDECIDED, id="a-download-read-slowly"),
    ],
)
def test_unread(tmp_path: Path, cells: dict[str, float], works: bool, verdict: Verdict) -> None:
    sockets = Sockets()
    unread(sockets, **cells)  # type: ignore[arg-type]
    if works:
        busy(sockets)
    [finding] = UnreadReply().check(sockets.record(tmp_path / "p"))
    assert finding.verdict == verdict, finding.title


def test_several_downloads_that_stand_still_are_not_read_slowly(tmp_path: Path) -> None:
    sockets = Sockets()
    for _ in range(4):
        unread(sockets, size=2_000_000)
    busy(sockets)
    assert UnreadReply().check(sockets.record(tmp_path / "p"))[0].verdict == Verdict.FAIL


@pytest.mark.parametrize(
    ("waits_s", "every", "most", "verdict"),
    [
        pytest.param(0.4, 1, 50, Verdict.FAIL, id="always-one-answer-behind"),
        pytest.param(0.001, 1, 50, Verdict.PASS, id="data-just-arrived-at-each-reading"),
        pytest.param(0.4, 1, 900_000, Verdict.PASS, id="downloads-read-slowly"),
        pytest.param(0.4, 40, 50, Verdict.PASS, id="an-answer-of-many-pieces"),
    ],
)
def test_a_connection_that_is_always_behind(
    tmp_path: Path, waits_s: float, every: int, most: int, verdict: Verdict
) -> None:
    sockets = Sockets()
    sockets.connection(born_s=1.0)
    for at_s in range(2, 58):
        cells = {"at_ns": int(at_s * 1e9), "sent_bytes": at_s // every * 30, "received_bytes": at_s * 50}
        cells |= {"recv_q_bytes": 50 if at_s % 2 else most}
        waited = {"last_received_ns": int(waits_s * 1e9), "last_sent_ns": int(waits_s * 1e9) + 1_000_000}
        sockets.row(at_s, sockets.states[0] | cells | waited)
    [finding] = UnreadReply().check(sockets.record(tmp_path / "p"))
    assert finding.verdict == verdict, finding.title
