"""What the other rules about pools say, and about what they say nothing."""

from pathlib import Path

import pytest

from perfkit.findings import Finding, Rule, Verdict
from perfkit.rules import (
    gc_dependent_close,
    ghost_slot,
    hold_inefficiency,
    lifetime_not_enforced,
    pool_exhaustion,
    self_deadlock,
    unbounded_wait,
)
from tests.unit.rules.pool_recording import LOAD, PRICE, REPORT, PoolRecording

ALL = (
    gc_dependent_close.RULE, ghost_slot.RULE, hold_inefficiency.RULE, lifetime_not_enforced.RULE,
    pool_exhaustion.RULE, self_deadlock.RULE, unbounded_wait.RULE,
)  # fmt: skip


def only(rule: Rule, recording: PoolRecording, folder: Path) -> Finding:
    """Return the one finding of a rule."""
    [finding] = rule.check(recording.profile(folder / "p"))
    return finding


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: type(rule).__name__)
def test_a_busy_pool_is_well(rule: Rule, tmp_path: Path) -> None:
    recording = PoolRecording(limit=3, settings={"acquire_timeout_s": 5.0, "max_lifetime_s": 3600})
    recording.requests(every_s=0.1, held_s=0.25)
    assert only(rule, recording, tmp_path).verdict == Verdict.PASS


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: type(rule).__name__)
def test_a_short_recording_decides_nothing(rule: Rule, tmp_path: Path) -> None:
    recording = PoolRecording(seconds=5.0)
    recording.requests()
    assert only(rule, recording, tmp_path).verdict == Verdict.UNDECIDED


def test_slots_that_nobody_has_are_ghosts(tmp_path: Path) -> None:
    recording = PoolRecording(ghosts=2)
    recording.requests()
    recording.wish("cancelled", 3.0, 0.001, stack=REPORT)
    finding = only(ghost_slot.RULE, recording, tmp_path)
    assert finding.verdict == Verdict.FAIL
    assert finding.site is not None
    assert finding.site.line == 12
    assert finding.measured == 2


def test_what_the_interpreter_gives_back_depends_on_the_collector(tmp_path: Path) -> None:
    recording = PoolRecording()
    for number in range(12):
        recording.use(1.0 + number, 0.4, how="collected" if number % 2 else "released", holder=number, stack=REPORT)
    finding = only(gc_dependent_close.RULE, recording, tmp_path)
    assert finding.verdict == Verdict.FAIL
    assert finding.site is not None
    assert finding.site.function == "report"


def test_holders_that_wait_for_each_other_are_locked(tmp_path: Path) -> None:
    recording = PoolRecording(limit=2)
    recording.requests(every_s=1.0)
    for holder in (1, 2):
        recording.use(10.0, None, holder=holder, connection=holder, stack=LOAD)
        recording.wish("waiting", 10.1, 0.0, holder=holder, stack=PRICE)
    finding = only(self_deadlock.RULE, recording, tmp_path)
    assert finding.verdict == Verdict.FAIL
    assert finding.site is not None
    assert finding.site.function == "fetch_price"


def test_who_waits_without_holding_is_not_locked(tmp_path: Path) -> None:
    recording = PoolRecording(limit=2)
    for holder in (1, 2):
        recording.use(5.0, 12.0, holder=holder, connection=holder)
        recording.wish("timeout", 6.0, 3.0, holder=holder + 10)
    assert only(self_deadlock.RULE, recording, tmp_path).verdict == Verdict.PASS


def test_waiting_in_vain_for_a_full_pool_names_who_has_it(tmp_path: Path) -> None:
    recording = PoolRecording(limit=2)
    for number in range(24):
        recording.use(number, 1.9, holder=number, connection=number % 2, stack=REPORT)
        recording.wish("timeout", number + 0.1, 0.5, holder=100 + number, stack=LOAD)
    finding = only(pool_exhaustion.RULE, recording, tmp_path)
    assert finding.verdict == Verdict.FAIL
    assert finding.site is not None
    assert finding.site.function == "report"
    assert finding.evidence["enough_connections"] > 3


@pytest.mark.parametrize(
    ("wait_s", "waiting", "verdict"),
    [
        pytest.param(0.9, 4, Verdict.UNDECIDED, id="longer-than-they-have-it"),
        pytest.param(0.05, 4, Verdict.PASS, id="a-moment"),
        pytest.param(0.9, 0, Verdict.PASS, id="in-bursts-between-two-readings"),
    ],
)
def test_a_queue_that_never_ends_may_be_meant(wait_s: float, waiting: int, verdict: Verdict, tmp_path: Path) -> None:
    recording = PoolRecording(limit=2, waiting=waiting)
    for number in range(200):
        recording.use(0.1 * number, 0.19, holder=number % 20, connection=number % 2, wait_s=wait_s, stack=REPORT)
    finding = only(pool_exhaustion.RULE, recording, tmp_path)
    assert finding.verdict == verdict
    if verdict == Verdict.UNDECIDED:
        assert finding.site is not None
        assert finding.site.function == "report"


def test_a_host_has_a_limit_of_its_own(tmp_path: Path) -> None:
    recording = PoolRecording(limit=100, settings={"max_per_host": 2})
    for number in range(24):
        recording.use(number, 1.9, holder=number, connection=number % 2, stack=REPORT)
        recording.wish("timeout", number + 0.1, 0.5, holder=100 + number, stack=LOAD)
    finding = only(pool_exhaustion.RULE, recording, tmp_path)
    assert finding.verdict == Verdict.FAIL
    assert finding.evidence["limit"] == 2


def test_a_server_that_does_not_answer_is_no_full_pool(tmp_path: Path) -> None:
    recording = PoolRecording(limit=20)
    recording.requests()
    for number in range(6):
        recording.wish("timeout", number + 0.1, 3.0, holder=100 + number)
    assert only(pool_exhaustion.RULE, recording, tmp_path).verdict == Verdict.PASS


@pytest.mark.parametrize(
    ("settings", "others", "verdict"),
    [
        pytest.param({"acquire_timeout_s": None}, (), Verdict.FAIL, id="no-deadline"),
        pytest.param({"acquire_timeout_s": 30}, (), Verdict.PASS, id="a-deadline-of-the-pool"),
        pytest.param({"acquire_timeout_s": None}, ("cancelled",), Verdict.PASS, id="a-deadline-of-the-caller"),
        pytest.param({}, (), Verdict.PASS, id="unknown"),
    ],
)
def test_long_waits(settings: dict[str, object], others: tuple[str, ...], verdict: Verdict, tmp_path: Path) -> None:
    recording = PoolRecording(limit=1, settings=settings)
    recording.use(2.0, None, holder=1)
    recording.wish("waiting", 4.0, 0.0, holder=2, stack=REPORT)
    for each in others:
        recording.wish(each, 3.0, 6.0, holder=3)
    assert only(unbounded_wait.RULE, recording, tmp_path).verdict == verdict


@pytest.mark.parametrize(
    ("lifetime_s", "verdict"),
    [
        pytest.param(4, Verdict.FAIL, id="lent-when-twice-as-old"),
        pytest.param(20, Verdict.PASS, id="younger-than-that"),
        pytest.param(None, Verdict.PASS, id="no-lifetime"),
    ],
)
def test_lifetimes(lifetime_s: int | None, verdict: Verdict, tmp_path: Path) -> None:
    recording = PoolRecording(settings={"max_lifetime_s": lifetime_s})
    for number in range(5):
        recording.event("created", 1.0 + number, connection=number)
        recording.use(9.0 + number, 0.1, connection=number, holder=number)
    assert only(lifetime_not_enforced.RULE, recording, tmp_path).verdict == verdict


@pytest.mark.parametrize(
    ("limit", "answered", "verdict"),
    [
        pytest.param(2, True, Verdict.FAIL, id="others-could-have-used-it"),
        pytest.param(2, False, Verdict.PASS, id="the-server-is-at-work"),
        pytest.param(50, True, Verdict.PASS, id="there-are-enough"),
    ],
)
def test_connections_held_in_vain(limit: int, answered: bool, verdict: Verdict, tmp_path: Path) -> None:
    recording = PoolRecording(limit=limit)
    for number in range(29):
        for holder in (1, 2):
            at_s = number + 0.3 + 0.01 * holder
            recording.use(at_s, 0.98, holder=holder, connection=holder)
            recording.look(
                at_s + 0.5, at_s, holder=holder, connection=holder, silent_s=0.3, answered=answered, where=PRICE
            )
    finding = only(hold_inefficiency.RULE, recording, tmp_path)
    assert finding.verdict == verdict, finding.title
    if verdict == Verdict.FAIL:
        assert finding.site is not None
        assert finding.site.function == "fetch_price"
