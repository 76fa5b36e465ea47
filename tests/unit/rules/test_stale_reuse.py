"""Connections that die of having been idle, and those that die of something else."""

from pathlib import Path
from typing import Any

import pytest

from perfkit.findings import Finding, Verdict
from perfkit.rules.stale_reuse import RULE
from tests.unit.rules.pool_recording import REPORT, PoolRecording


def pool(
    *, dies_after_s: float, every: int = 8, idle_s: float = 2.0, seconds: float = 60.0, **settings: Any
) -> PoolRecording:
    """Return a pool of one connection at a time that is used ten times, rests, and is used again.

    Args:
        dies_after_s: what its peer allows.
        every: uses in a row.
        idle_s: how long it rests.
        seconds: length of the recording.
        settings: of the pool.
    """
    recording = PoolRecording(seconds=seconds, settings=settings)
    connection, at_s, last_s = 1, 0.1, 0.1
    recording.event("created", at_s, connection=connection)
    number = 0
    while at_s < seconds - 3:
        died = at_s - last_s > dies_after_s
        recording.use(at_s, 0.02, holder=number, connection=connection, stack=REPORT)
        last_s = at_s + 0.02
        if died:
            recording.event("closed", last_s + 0.001, connection=connection)
            connection += 1
            last_s = at_s + 0.05
            recording.event("created", last_s, connection=connection)
        number += 1
        at_s += idle_s if number % every == 0 else 0.1
    return recording


def judged(recording: PoolRecording, folder: Path) -> Finding:
    [finding] = RULE.check(recording.profile(folder / "p"))
    return finding


def test_connections_that_die_of_idling_are_stale(tmp_path: Path) -> None:
    finding = judged(pool(dies_after_s=1.0), tmp_path)
    assert finding.verdict is Verdict.FAIL
    assert finding.site is not None
    assert finding.site.function == "report"
    assert finding.evidence["longest_alive_s"] < 1.0 < finding.evidence["idle_s"]


@pytest.mark.parametrize(
    "recording",
    [
        pytest.param(pool(dies_after_s=10.0), id="the-peer-waits-longer"),
        pytest.param(pool(dies_after_s=0.0), id="each-dies-after-a-use"),
        pytest.param(pool(dies_after_s=1.0, seconds=9.0), id="too-few"),
        pytest.param(pool(dies_after_s=1.0, max_lifetime_s=1.5), id="the-pool-ends-their-lives-itself"),
    ],
)
def test_others_are_not(recording: PoolRecording, tmp_path: Path) -> None:
    assert judged(recording, tmp_path).verdict is not Verdict.FAIL


def test_a_restart_of_the_server_is_none(tmp_path: Path) -> None:
    recording = PoolRecording(seconds=40.0)
    for connection in range(6):
        recording.event("created", 0.1, connection=connection)
        for again in range(6):
            recording.use(0.2 + again, 0.02, holder=connection * 100 + again, connection=connection)
        recording.use(20.0 + connection / 50, 0.02, holder=900 + connection, connection=connection)
        recording.event("closed", 20.03 + connection / 50, connection=connection)
    assert judged(recording, tmp_path).verdict is Verdict.PASS


def test_a_pool_that_keeps_few_is_undecided(tmp_path: Path) -> None:
    finding = judged(pool(dies_after_s=1.0, max_idle=4), tmp_path)
    assert finding.verdict is Verdict.UNDECIDED
    assert finding.needs


def test_what_is_noticed_before_it_is_lent_is_no_defect(tmp_path: Path) -> None:
    recording = PoolRecording(seconds=40.0)
    for number in range(12):
        at_s = 0.5 + 3.0 * number
        recording.event("created", at_s, connection=number)
        for again in range(5):
            recording.use(at_s + 0.1 * again + 0.01, 0.02, holder=number, connection=number)
        recording.event("closed", at_s + 2.99, connection=number)  # the check at the next check-out
    assert judged(recording, tmp_path).verdict is Verdict.PASS
