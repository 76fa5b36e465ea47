"""What sockets leave open, pools decide: who has a connection, and why it was closed."""

from pathlib import Path
from typing import Any

import pytest

from perfkit.findings import Finding, Verdict
from perfkit.rules.connection_churn import ConnectionChurn
from perfkit.rules.stale_reuse import RULE as STALE_REUSE
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
