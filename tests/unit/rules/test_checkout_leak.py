"""When a connection that is out is said to be left behind, and when it is only used for long."""

from collections.abc import Callable
from pathlib import Path

import pytest

from perfkit.findings import Site, Verdict
from perfkit.rules.checkout_leak import RULE
from perfkit.views import checkout_sites
from tests.unit.rules.pool_recording import LOAD, REPORT, PoolRecording


def leaking(recording: PoolRecording, number: int = 5, **look: object) -> None:
    """Requests of which some keep their connection."""
    recording.requests()
    for each in range(number):
        at_s = 2.0 + 3 * each
        recording.use(at_s, None, holder=each, connection=each)
        recording.look(29.0, at_s, holder=each, connection=each, **look)  # type: ignore[arg-type]


def test_the_line_that_takes_and_does_not_give_back_is_named(tmp_path: Path) -> None:
    recording = PoolRecording()
    leaking(recording, finished=True, active=None)
    [finding] = RULE.check(recording.profile(tmp_path / "p"))
    assert (finding.verdict, finding.class_) == (Verdict.FAIL, "checkout_leak")
    assert finding.site == Site("load_order", "app/orders.py", 31)
    assert finding.measured == 5
    assert finding.evidence["never_returned_by_littles_law"] == pytest.approx(4, abs=1.5)
    assert finding.seconds_to_limit is not None


def test_a_thread_that_goes_on_without_the_frames_that_return_it_has_left_it(tmp_path: Path) -> None:
    recording = PoolRecording()
    leaking(recording, finished=False, active=1)  # those that come back do so with two active
    [finding] = RULE.check(recording.profile(tmp_path / "p"))
    assert finding.verdict == Verdict.FAIL


def still_there(recording: PoolRecording) -> None:
    leaking(recording, finished=False, active=2)


def in_traffic(recording: PoolRecording) -> None:
    leaking(recording, finished=True, silent_s=0.7)


def between_two_messages(recording: PoolRecording) -> None:
    leaking(recording, finished=True, silent_s=2.0)
    recording.use(17.0, None, holder=70, connection=70)
    recording.look(29.0, 17.0, holder=70, connection=70, finished=True, silent_s=0.3)


def slow_but_back(recording: PoolRecording) -> None:
    recording.requests()
    for number in range(4):
        recording.use(1.0 + 5 * number, 6.0, holder=number, connection=number)
    recording.use(20.0, None, holder=50, connection=50)
    recording.look(29.0, 20.0, holder=50, connection=50, finished=True)


def handed_over(recording: PoolRecording) -> None:
    recording.requests()
    for number in range(8):
        recording.use(1.0 + number, 2.0, holder=number, connection=number, active_at_end=0, stack=REPORT)
    for number in range(3):
        recording.use(20.0 + 0.1 * number, None, holder=60 + number, connection=60 + number, stack=REPORT)
        recording.look(29.0, 20.0, holder=60 + number, connection=60 + number, finished=False, active=0, stack=REPORT)


def in_flight(recording: PoolRecording) -> None:
    recording.requests()
    for number in range(4):
        recording.use(29.0 + number / 10, None, holder=number, connection=number)
        recording.look(29.9, 29.0, holder=number, connection=number, finished=True)


@pytest.mark.parametrize(
    "situation",
    [still_there, in_traffic, between_two_messages, slow_but_back, in_flight],
    ids=lambda each: each.__name__,
)
def test_long_uses_are_no_leaks(situation: Callable[[PoolRecording], None], tmp_path: Path) -> None:
    recording = PoolRecording(limit=30)
    situation(recording)
    [finding] = RULE.check(recording.profile(tmp_path / "p"))
    assert finding.verdict == Verdict.PASS, finding.title


def test_uses_that_others_return_are_not_called_leaks(tmp_path: Path) -> None:
    recording = PoolRecording(limit=30)
    handed_over(recording)
    assert all(finding.verdict != Verdict.FAIL for finding in RULE.check(recording.profile(tmp_path / "p")))


def test_one_alone_is_not_enough(tmp_path: Path) -> None:
    recording = PoolRecording()
    leaking(recording, 1, finished=True)
    assert [finding.verdict for finding in RULE.check(recording.profile(tmp_path / "p"))] == [Verdict.PASS]


def test_taken_together_and_never_seen_back_is_undecided(tmp_path: Path) -> None:
    recording = PoolRecording(limit=30)
    for number in range(4):
        recording.use(1.0 + number / 100, None, holder=number, connection=number)
        recording.look(29.0, 1.0, holder=number, connection=number, finished=True)
    [finding] = RULE.check(recording.profile(tmp_path / "p"))
    assert finding.verdict == Verdict.UNDECIDED


def test_a_pool_used_up_before_the_recording_is_undecided(tmp_path: Path) -> None:
    recording = PoolRecording(limit=4)
    for number in range(4):
        recording.event("found_in_use", 0.01, connection=number)
    recording.wish("timeout", 3.0, 5.0)
    [finding] = RULE.check(recording.profile(tmp_path / "p"))
    assert finding.verdict == Verdict.UNDECIDED
    assert "before the recording" in finding.title


@pytest.mark.parametrize(
    ("recording", "verdicts"),
    [
        pytest.param(PoolRecording(seconds=4.0), [Verdict.UNDECIDED], id="too-short"),
        pytest.param(PoolRecording(lost=7), [Verdict.UNDECIDED], id="events-were-lost"),
        pytest.param(PoolRecording(recorded=False), [], id="not-asked-for"),
    ],
)
def test_too_little_data_is_no_pass(recording: PoolRecording, verdicts: list[Verdict], tmp_path: Path) -> None:
    recording.requests(stack=LOAD)
    assert [finding.verdict for finding in RULE.check(recording.profile(tmp_path / "p"))] == verdicts


@pytest.mark.parametrize("known", [1.0, 0.25], ids=["all-lines-are-known", "lines-of-a-sample"])
def test_counts_of_a_sample_are_called_one(known: float, tmp_path: Path) -> None:
    recording = PoolRecording(limit=None)
    recording.requests(every_s=0.05)
    for number in range(4):
        recording.use(2.0 + 3 * number, None, holder=number, connection=number, stack=REPORT)
        recording.look(29.5, 2.0 + 3 * number, holder=number, connection=number, finished=True, stack=REPORT)
    for number, event in enumerate(recording.events):
        if event["event"] == "acquired" and event["stack"] is LOAD and (number // 2) % 4 >= 4 * known:
            del event["stack"]
    profile = recording.profile(tmp_path / "p")
    [finding] = RULE.check(profile)
    assert finding.verdict is Verdict.FAIL
    assert ("a sample" in finding.title) is (known < 1)
    assert ("lines_known_ratio" in finding.evidence) is (known < 1)
    shown = checkout_sites(profile)._repr_mimebundle_()["text/plain"]
    assert ("are of this sample" in shown) is (known < 1)
