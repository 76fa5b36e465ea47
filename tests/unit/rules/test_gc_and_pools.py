"""The collector and the pools are judged together: no threshold is raised at the price of a pool, and the other way."""

from pathlib import Path

import pytest

from perfkit.analysis.gc_and_pools import debts
from perfkit.findings import Finding, Verdict
from perfkit.profile import Profile
from perfkit.rules import gc_dependent_close, gc_tuning
from tests.builders import PID
from tests.unit.rules import collections as made
from tests.unit.rules.pool_recording import REPORT, PoolRecording

JUST_AFTER_S = 0.0004


def service(folder: Path, *, limit: int, left_to_it: float, in_collections: bool = True, block_swing: int) -> Profile:
    """Return a service whose requests are above the threshold, and that leaves connections to the collector.

    Args:
        folder: of the profile.
        limit: of its pool.
        left_to_it: share of the collections that free a connection.
        in_collections: false: connections are freed between two collections.
        block_swing: how much its memory goes up and down.
    """
    gc = made.above_the_knee(block_swing=block_swing, young_per_s=100.0, young_ms=1.0)
    pool = PoolRecording(limit=limit, seconds=gc.seconds)
    pool.requests(every_s=0.5, held_s=0.02)
    step_s = 1 / gc.young_per_s
    each = max(1, round(1 / left_to_it))
    for number in range(each, int((gc.seconds - 1) / step_s), each):
        at_s = 0.3 + number * step_s + (JUST_AFTER_S if in_collections else step_s / 2)
        pool.use(at_s - 0.5 * step_s, 0.5 * step_s, how="collected", holder=number, connection=number, stack=REPORT)
    return gc.record(folder / "p", also=pool.parts())


def of(rule: gc_tuning.GcTuning | gc_dependent_close.GcDependentClose, profile: Profile) -> Finding:
    """Return the one finding of a rule."""
    [finding] = rule.check(profile)
    return finding


def test_a_threshold_is_not_raised_where_the_pool_would_run_dry(tmp_path: Path) -> None:
    profile = service(tmp_path, limit=8, left_to_it=0.5, block_swing=6_000)
    finding = of(gc_tuning.RULE, profile)
    assert finding.class_ == "refuse_raise"
    assert "connections of db would wait for the collector" in finding.title
    assert "recommendation" not in finding.evidence
    assert finding.evidence["refused"].startswith("gc.set_threshold(")


def test_a_large_pool_is_a_risk_that_is_told(tmp_path: Path) -> None:
    profile = service(tmp_path, limit=40_000, left_to_it=0.5, block_swing=6_000)
    [owed] = debts(profile, PID)
    assert owed.waiting(10 * owed.threshold) == pytest.approx(10 * owed.waiting(owed.threshold))
    finding = of(gc_tuning.RULE, profile)
    assert finding.class_ == "raise_threshold"
    assert ("At a risk" in finding.hint) == bool(finding.evidence.get("risks"))


def test_connections_that_are_given_back_change_no_recommendation(tmp_path: Path) -> None:
    gc = made.above_the_knee(block_swing=6_000)
    pool = PoolRecording(limit=8, seconds=gc.seconds)
    pool.requests()
    profile = gc.record(tmp_path / "p", also=pool.parts())
    assert debts(profile, PID) == ()
    finding = of(gc_tuning.RULE, profile)
    assert finding.class_ == "raise_threshold"
    assert "risk" not in finding.hint


def test_a_pool_finding_says_when_the_collectors_settings_decide(tmp_path: Path) -> None:
    finding = of(gc_dependent_close.RULE, service(tmp_path, limit=8, left_to_it=0.5, block_swing=6_000))
    assert finding.verdict is Verdict.FAIL
    assert finding.evidence["settings_decide"] is True
    assert "the collector's settings decide" in finding.hint


def test_a_pool_finding_says_when_they_do_not(tmp_path: Path) -> None:
    profile = service(tmp_path, limit=8, left_to_it=0.5, in_collections=False, block_swing=6_000)
    finding = of(gc_dependent_close.RULE, profile)
    assert finding.verdict is Verdict.FAIL
    assert finding.evidence["settings_decide"] is False
    assert "its settings change nothing" in finding.hint
    assert of(gc_tuning.RULE, profile).class_ == "raise_threshold"


def test_without_collections_a_pool_finding_asks_for_them(tmp_path: Path) -> None:
    pool = PoolRecording(limit=8)
    for number in range(8):
        pool.use(1.0 + number, 0.4, how="collected", holder=number, stack=REPORT)
    finding = of(gc_dependent_close.RULE, pool.profile(tmp_path / "p"))
    assert finding.evidence["settings_decide"] is None
    assert any("--collect pools,gc" in need for need in finding.needs)
