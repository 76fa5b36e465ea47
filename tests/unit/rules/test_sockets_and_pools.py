"""What sockets leave open, pools decide: who has a connection, and why it was closed."""

from pathlib import Path
from typing import Any

import pytest

from perfkit.findings import Finding, Verdict
from perfkit.rules.connection_churn import ConnectionChurn
from perfkit.rules.stale_reuse import RULE as STALE_REUSE
from perfkit.rules.synchronized_expiry import SynchronizedExpiry
from perfkit.rules.unread_reply import UnreadReply
from tests.unit.rules.pool_recording import REPORT, PoolRecording
from tests.unit.rules.socket_situations import HERE, UPSTREAM, Sockets
from tests.unit.rules.test_other_socket_rules import busy, unread


def ends(cookie: int) -> dict[str, str]:
    """Return both ends of a connection of `Sockets`."""
    return {"local": f"{HERE}:{40_000 + cookie}", "peer": UPSTREAM}


def of_unread(folder: Path, *, lent: bool | None, size: int = 40, works: bool = True) -> Finding:
    """Return what is said about a connection with an unread answer; `lent` None: no pool was recorded."""
    sockets = Sockets()
    unread(sockets, size=size)
    if works:
        busy(sockets)
    pool = PoolRecording(seconds=60.0)
    pool.event("acquired", 2.0, connection=1, wait_ns=0, holder=1, stack=REPORT, **ends(1))
    if not lent:
        pool.event("released", 6.0, connection=1, held_ns=4_000_000_000, holder=1, stack=REPORT, **ends(1))
    [finding] = UnreadReply().check(sockets.record(folder / "p", pool.parts() if lent is not None else {}))
    return finding


@pytest.mark.parametrize(
    ("how", "verdict"),
    [
        pytest.param({"lent": None}, Verdict.FAIL, id="no-pool-was-recorded"),
        pytest.param({"lent": False}, Verdict.FAIL, id="idle-in-its-pool"),
        pytest.param({"lent": True}, Verdict.PASS, id="taken-and-not-given-back"),
        pytest.param({"lent": None, "size": 2_000_000}, Verdict.UNDECIDED, id="a-body-of-a-connection-nobody-knows"),
        pytest.param({"lent": False, "size": 2_000_000}, Verdict.FAIL, id="a-body-in-an-idle-connection"),
    ],
)
def test_an_unread_answer_is_a_defect_where_the_next_user_gets_it(
    how: dict[str, Any], verdict: Verdict, tmp_path: Path
) -> None:
    finding = of_unread(tmp_path, **how)
    assert finding.verdict is verdict, finding.title
    if how["lent"]:
        assert "checkout_leak" in finding.hint


@pytest.mark.parametrize(
    ("settings", "confidence"),
    [
        pytest.param({}, 0.95, id="the-pool-has-it"),
        pytest.param({"uses_before_unknown": True}, 0.8, id="whether-it-was-lent-before-is-not-known"),
    ],
)
def test_a_connection_that_was_there_before_is_idle_only_where_its_pool_says_so(
    settings: dict[str, Any], confidence: float, tmp_path: Path
) -> None:
    sockets, pool = Sockets(), PoolRecording(seconds=60.0, settings=settings)
    unread(sockets)
    busy(sockets)
    pool.event("found", 0.5, connection=1, **ends(1))
    [finding] = UnreadReply().check(sockets.record(tmp_path / "p", pool.parts()))
    assert finding.confidence == confidence


@pytest.mark.parametrize(("peer", "verdict"), [(UPSTREAM, Verdict.UNDECIDED), ("10.1.1.1:80", Verdict.FAIL)])
def test_what_its_pool_did_not_have_when_the_recording_began_may_have_been_taken_before(
    peer: str, verdict: Verdict, tmp_path: Path
) -> None:
    sockets, pool = Sockets(), PoolRecording(seconds=60.0)
    unread(sockets, born_s=None, from_s=0.0)
    busy(sockets)
    pool.event("found", 0.5, connection=2, local=f"{HERE}:40002", peer=peer)
    [finding] = UnreadReply().check(sockets.record(tmp_path / "p", pool.parts()))
    assert finding.verdict is verdict, finding.title


def churn(folder: Path, pools: PoolRecording | None, *, closer: str = "local", per_pool: bool = False) -> Finding:
    """Return what is said about sixty connections of one exchange each, which one pool had, or one pool each."""
    sockets = Sockets()
    for number in range(60):
        at_s = 0.5 + 0.95 * number
        cookie = sockets.connection(born_s=at_s, died_s=at_s + 0.1, closer=closer)
        if pools is None:
            continue
        where = {} if per_pool else ends(cookie)
        name = f"db #{number}" if per_pool else "db"
        shared = {"connection": cookie, **where}
        first = len(pools.events)
        pools.event("created", at_s, **shared)
        pools.event("acquired", at_s + 0.01, wait_ns=0, holder=number, stack=REPORT, **shared)
        pools.event("released", at_s + 0.09, held_ns=80_000_000, holder=number, stack=REPORT, **shared)
        pools.event("closed", at_s + (0.3 if closer == "peer" else 0.1), **shared)
        for event in pools.events[first:]:
            event["pool"] = name
    [finding] = ConnectionChurn().check(sockets.record(folder / "p", pools.parts() if pools else {}))
    return finding


def test_connections_of_one_exchange_are_undecided_from_outside(tmp_path: Path) -> None:
    assert churn(tmp_path, None).verdict is Verdict.UNDECIDED


def test_a_pool_that_is_set_so_is_no_defect(tmp_path: Path) -> None:
    finding = churn(tmp_path, PoolRecording(seconds=60.0, settings={"force_close": True}))
    assert finding.verdict is Verdict.PASS
    assert "force_close" in finding.title


def test_a_pool_for_each_request_is_one_with_its_line(tmp_path: Path) -> None:
    finding = churn(tmp_path, PoolRecording(seconds=60.0), per_pool=True)
    assert finding.verdict is Verdict.FAIL
    assert finding.site is not None
    assert finding.site.function == "report"


def test_a_peer_that_closes_is_no_defect_of_the_pool(tmp_path: Path) -> None:
    finding = churn(tmp_path, PoolRecording(seconds=60.0), closer="peer")
    assert finding.verdict is Verdict.PASS
    assert "the pool would have kept them" in finding.title


def test_a_pool_that_keeps_fewer_than_it_has_is_one(tmp_path: Path) -> None:
    pool = PoolRecording(limit=None, seconds=60.0, settings={"max_idle": 1})
    for number in range(3):  # as many at a time
        pool.use(0.1, 59.0, holder=900 + number, connection=900 + number)
    finding = churn(tmp_path, pool)
    assert finding.verdict is Verdict.FAIL
    assert "keeps 1 idle connections and has up to 3" in finding.title


def test_what_the_pool_does_not_explain_stays_open(tmp_path: Path) -> None:
    finding = churn(tmp_path, PoolRecording(seconds=60.0))
    assert finding.verdict is Verdict.UNDECIDED
    assert "Connection: close" in finding.needs[0]


def stale(folder: Path, *, closes_s: tuple[float, ...], used_s: float = 2.4, seen: bool = True) -> Finding:
    """Return what is said of connections that are used once `used_s` after they were made, and end with that use.

    Args:
        folder: where to write.
        closes_s: times at which the peer closes one, each made a second and a half before.
        used_s: when each is used, from its beginning on.
        seen: whether sockets were recorded, too.
    """
    sockets, pool = Sockets(), PoolRecording(seconds=60.0)
    for number, close_s in enumerate(closes_s, 1):
        born_s = close_s - 1.5
        states = ((born_s, "established"), (close_s, "close_wait"))
        sockets.connection(born_s=born_s, died_s=born_s + used_s + 0.02, states=states, closer="peer")
        shared = {"connection": number, **ends(number)}
        pool.event("created", born_s, **shared)
        pool.event("acquired", born_s + used_s, wait_ns=0, holder=number, stack=REPORT, **shared)
        pool.event("closed", born_s + used_s + 0.01, held_ns=10_000_000, holder=number, stack=REPORT, **shared)
    if not seen:
        sockets = Sockets()
        busy(sockets)
    [finding] = STALE_REUSE.check(sockets.record(folder / "p", pool.parts()))
    return finding


def test_a_connection_that_its_peer_had_closed_before_is_stale_even_where_none_was_used_sooner(tmp_path: Path) -> None:
    finding = stale(tmp_path, closes_s=(5.0, 9.0, 14.0, 20.0))
    assert finding.verdict is Verdict.FAIL
    assert finding.site is not None
    assert finding.site.function == "report"
    assert finding.evidence["closed_by_peer_before"] == 4
    assert finding.evidence["closed_after_s_at_most"] == pytest.approx(1.5)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"closes_s": (5.0, 5.1, 5.2, 5.3)}, id="a-server-that-restarts"),
        pytest.param({"closes_s": (5.0, 9.0)}, id="too-few"),
        pytest.param({"closes_s": (5.0, 9.0, 14.0, 20.0), "used_s": 1.4}, id="closed-while-it-was-used"),
        pytest.param({"closes_s": (5.0, 9.0, 14.0, 20.0), "seen": False}, id="sockets-that-were-not-recorded"),
    ],
)
def test_others_are_not_stale(how: dict[str, Any], tmp_path: Path) -> None:
    assert stale(tmp_path, **how).verdict is not Verdict.FAIL


@pytest.mark.parametrize(
    ("settings", "closer", "verdict"),
    [
        pytest.param(None, "local", Verdict.FAIL, id="no-pool-was-recorded"),
        pytest.param({"max_lifetime_s": 20}, "local", Verdict.FAIL, id="a-lifetime"),
        pytest.param({"max_lifetime_s": None}, "local", Verdict.PASS, id="no-lifetime"),
        pytest.param({"max_lifetime_s": None}, "peer", Verdict.FAIL, id="a-lifetime-of-the-peer"),
        pytest.param(
            {"max_lifetime_s": 20, "lifetime_jitter_ratio": 0.05}, "local", Verdict.PASS, id="lifetimes-drawn-at-random"
        ),
    ],
)
def test_only_an_age_that_is_set_can_be_reached_together(
    settings: dict[str, Any] | None, closer: str, verdict: Verdict, tmp_path: Path
) -> None:
    sockets, pool = Sockets(), PoolRecording(seconds=60.0, settings=settings or {})
    for generation in range(3):
        for _ in range(6):
            born_s = 1.0 + 19.0 * generation
            cookie = sockets.connection(born_s=born_s, died_s=born_s + 19.0, closer=closer, exchanges=50)
            shared = {"connection": cookie, **ends(cookie)}
            pool.event("created", born_s, **shared)
            pool.event("acquired", born_s + 0.1, wait_ns=0, holder=cookie, stack=REPORT, **shared)
            pool.event("released", born_s + 0.2, held_ns=100_000_000, holder=cookie, stack=REPORT, **shared)
    [finding] = SynchronizedExpiry().check(sockets.record(tmp_path / "p", pool.parts() if settings is not None else {}))
    assert finding.verdict is verdict, finding.title


def of_pool(folder: Path, pool: PoolRecording) -> Finding:
    """Return what is said of a pool whose sockets were not recorded."""
    profile = Sockets(seconds=60.0).record(folder / "p", pool.parts())
    return next(each for each in ConnectionChurn().check(profile) if each.verdict is not Verdict.PASS)


def made_per_use(*, closed_after_s: float, in_use: bool = False, **settings: Any) -> PoolRecording:
    """Return a pool of four connections at a time that makes each anew for every use."""
    pool = PoolRecording(seconds=60.0, settings=settings)
    for number in range(200):
        at_s = 0.3 * number
        pool.event("created", at_s, connection=number)
        pool.use(at_s, 0.1, holder=number, connection=number, stack=REPORT, how="closed" if in_use else "released")
        if not in_use:
            pool.event("closed", at_s + 0.1 + closed_after_s, connection=number)
    return pool


@pytest.mark.parametrize(
    ("pool", "verdict", "cause"),
    [
        pytest.param(made_per_use(closed_after_s=0.01, max_idle=2), Verdict.FAIL, "surplus", id="keeps-too-few"),
        pytest.param(made_per_use(closed_after_s=1.0, idle_timeout_s=1.0), Verdict.FAIL, "expired", id="for-too-short"),
        pytest.param(
            made_per_use(closed_after_s=0.0, in_use=True), Verdict.UNDECIDED, "closed_in_use", id="answers-not-read"
        ),
    ],
)
def test_pools_tell_of_connections_that_live_too_short_to_be_seen(
    pool: PoolRecording, verdict: Verdict, cause: str, tmp_path: Path
) -> None:
    finding = of_pool(tmp_path, pool)
    assert finding.verdict is verdict
    assert finding.evidence["cause"] == cause
    assert finding.site is not None
    assert finding.site.function == "report"


def test_connections_of_other_processes_to_the_same_peer_are_not_blamed(tmp_path: Path) -> None:
    sockets, pool = Sockets(), PoolRecording(seconds=60.0)
    for number in range(10):  # its own, used again and again
        cookie = sockets.connection(exchanges=200)
        pool.event("created", 0.1, connection=cookie, **ends(cookie))
        pool.event("acquired", 0.2 + number, wait_ns=0, holder=1, connection=cookie, stack=REPORT, **ends(cookie))
    for number in range(300):
        born_s = 0.5 + 0.19 * number
        sockets.connection(born_s=born_s, died_s=born_s + 0.01, exchanges=1 + 4 * (number % 9 == 0))
    for event in sockets.events[10:]:
        event |= {"owner": "peer", "seen_by": "destroy"}
    [finding] = ConnectionChurn().check(sockets.record(tmp_path / "p", pool.parts()))
    assert finding.verdict is Verdict.UNDECIDED
    assert "or others of the machine" in finding.title
