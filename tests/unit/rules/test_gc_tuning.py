"""What `gc_tuning` says about a collector in each situation."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from perfkit.analysis.gc_case import gather
from perfkit.findings import Finding, Site, Verdict, to_json_form
from perfkit.profile import Profile
from perfkit.rules.gc_tuning import RULE
from tests.builders import make_profile
from tests.unit.rules import collections as made
from tests.unit.rules.collections import Service


def judged(profile: Profile) -> Finding:
    [finding] = RULE.check(profile)
    return finding


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("seconds", [12, 45])
@pytest.mark.parametrize(
    ("situation", "verdict", "class_"),
    [
        pytest.param(made.healthy, Verdict.PASS, "no_change", id="healthy-needs-no-change"),
        pytest.param(made.library_cycles, Verdict.PASS, "no_change", id="a-librarys-small-cycles-need-no-change"),
        pytest.param(made.cycles, Verdict.FAIL, "fix_cycles", id="cycles-of-its-own"),
        pytest.param(made.payload_cycles, Verdict.FAIL, "refuse_raise", id="cycles-that-hold-bodies"),
        pytest.param(made.socket_cycles, Verdict.FAIL, "refuse_raise", id="cycles-that-hold-sockets"),
        pytest.param(made.above_the_knee, Verdict.FAIL, "raise_threshold", id="requests-above-the-threshold"),
        pytest.param(made.static_heap, Verdict.FAIL, "freeze", id="a-heap-that-is-walked-for-nothing"),
        pytest.param(made.manual, Verdict.FAIL, "manual_collect", id="collects-by-hand"),
        pytest.param(made.switched_off, Verdict.FAIL, "gc_debt", id="switched-off-with-garbage"),
    ],
)
def test_class(
    situation: Callable[..., Service], verdict: Verdict, class_: str, seed: int, seconds: int, tmp_path: Path
) -> None:
    finding = judged(situation(seed=seed, seconds=seconds).record(tmp_path / "p"))
    assert (finding.verdict, finding.class_) == (verdict, class_), finding.title


def test_one_long_pause_of_a_large_heap_is_no_reason_to_change(tmp_path: Path) -> None:
    finding = judged(made.large_but_rare(seconds=30).record(tmp_path / "p"))
    assert (finding.verdict, finding.class_) == (Verdict.PASS, "no_change"), finding.title


def test_a_pause_that_waited_for_a_cpu_is_not_the_collectors_fault(tmp_path: Path) -> None:
    profile = Service(young_ms=0.2).record(tmp_path / "p")
    rows = profile.table("gc_pauses").to_pylist()
    stretched = [{**row, "pause_ns": 40_000_000, "stack_id": None} for row in rows]
    assert judged(Service().record(tmp_path / "q", gc_pauses=stretched)).class_ == "no_change"


def test_a_call_of_collect_now_and_then_passes(tmp_path: Path) -> None:
    assert judged(made.manual(per_s=0.1, took_ms=40.0).record(tmp_path / "p")).class_ == "no_change"


def test_who_collects_by_hand_is_named(tmp_path: Path) -> None:
    assert judged(made.manual().record(tmp_path / "p")).site == Site("tidy", "app/server.py", 93)


def test_slow_finalizer_is_named_with_its_line(tmp_path: Path) -> None:
    profile = made.slow_finalizer().record(tmp_path / "p")
    finding = judged(profile)
    assert finding.class_ == "slow_finalizer", finding.title


def test_cycles_are_named_with_their_constructor(tmp_path: Path) -> None:
    finding = judged(made.cycles().record(tmp_path / "p"))
    assert finding.site == Site("Span.__init__", "app/trace.py", 14)
    assert finding.type == "app.trace.Span"
    assert "recommendation" not in finding.evidence, "cycles are to be broken up, not to be tuned"


@pytest.mark.parametrize(
    ("python", "class_"),
    [
        ("3.10.13", "raise_threshold"),
        ("3.13.0", "raise_threshold"),
        ("3.14.2", "not_identifiable"),
        ("3.14.5", "raise_threshold"),
        ("3.16.0", "not_identifiable"),
    ],
)
def test_settings_are_recommended_only_for_the_collector_they_are_known_for(
    python: str, class_: str, tmp_path: Path
) -> None:
    finding = judged(made.above_the_knee(python=python).record(tmp_path / "p"))
    assert finding.class_ == class_
    assert ("recommendation" in finding.evidence) == (class_ == "raise_threshold")


def test_the_recommended_threshold_is_above_everything_that_passes(tmp_path: Path) -> None:
    finding = judged(made.above_the_knee(block_swing=6_000).record(tmp_path / "p"))
    code = finding.evidence["recommendation"]["code"]
    threshold = int(code.partition("set_threshold(")[2].rstrip(")"))
    assert threshold in (5_000, 10_000)
    assert threshold > finding.evidence["model"]["working_set_objects"]
    assert finding.evidence["predicted"]["time_ratio"] < 0.2 * finding.evidence["automatic_ratio"]


def test_what_passes_and_how_large_is_not_known_without_readings(tmp_path: Path) -> None:
    finding = judged(made.above_the_knee().record(tmp_path / "p", ledger=[]))
    assert (finding.verdict, finding.class_) == (Verdict.UNDECIDED, "not_identifiable")
    assert any("python_memory" in need for need in finding.needs)


@pytest.mark.parametrize("situation", [made.healthy, made.above_the_knee, made.static_heap])
def test_short_recordings_decide_nothing(situation: Callable[..., Service], tmp_path: Path) -> None:
    finding = judged(situation(seconds=5).record(tmp_path / "p"))
    assert (finding.verdict, finding.class_) == (Verdict.UNDECIDED, "not_identifiable")
    assert finding.needs


def test_lost_collections_decide_nothing(tmp_path: Path) -> None:
    quality = {"collector": "gc_pauses", "from_ns": 0, "until_ns": 30 * 10**9, "expected": 100, "taken": 60, "lost": 40}
    assert judged(made.healthy().record(tmp_path / "p", quality=[quality])).verdict is Verdict.UNDECIDED


def test_a_collector_that_is_off_and_not_needed_passes(tmp_path: Path) -> None:
    service = made.switched_off(grows_per_s=0.0)
    service.garbage = []
    assert judged(service.record(tmp_path / "p")).class_ == "no_change"


def test_a_high_threshold_with_bodies_in_cycles_is_a_debt(tmp_path: Path) -> None:
    finding = judged(made.payload_cycles(thresholds=(100_000, 10, 10), young_per_s=0.1).record(tmp_path / "p"))
    assert (finding.verdict, finding.class_) == (Verdict.FAIL, "gc_debt"), finding.title


def test_who_switched_the_collector_off_and_collects_by_hand_now_and_then_has_no_debt(tmp_path: Path) -> None:
    service = made.manual(per_s=0.5, took_ms=30.0, young_per_s=0.0, enabled=False)
    service.garbage = made.switched_off().garbage
    finding = judged(service.record(tmp_path / "p"))
    assert (finding.verdict, finding.class_) == (Verdict.PASS, "no_change"), finding.title


def test_nothing_recorded_decides_nothing(tmp_path: Path) -> None:
    assert judged(make_profile(tmp_path / "p")).verdict is Verdict.UNDECIDED
    assert judged(make_profile(tmp_path / "q", manifest={"targets": ()})).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize("situation", [made.payload_cycles, made.static_heap, made.manual])
def test_findings_are_plain_json_and_the_same_every_time(situation: Callable[..., Service], tmp_path: Path) -> None:
    profile = situation().record(tmp_path / "p")
    first, second = (json.dumps(to_json_form("p", RULE.check(profile)), allow_nan=False) for _ in range(2))
    assert first == second


def test_freezing_saves_nothing_where_full_passes_come_as_much_oftener(tmp_path: Path) -> None:
    waits_for_the_quarter = made.static_heap(young_per_s=600.0, young_ms=0.02, middle_ms=0.2, block_swing=900_000)
    profile = waits_for_the_quarter.record(tmp_path / "p")
    case = gather(profile, profile.pids[0])
    assert case is not None
    assert case.model is not None
    now, frozen = case.costs.cost(2), case.model.frozen()
    assert now is not None
    assert frozen.full_per_s > 1.5 * now.per_s
    assert frozen.full_pause_ms < 0.7 * now.p50_ms
    assert frozen.time_ratio == pytest.approx(case.costs.automatic_ratio, rel=0.05)
    finding = judged(profile)
    assert (finding.verdict, finding.class_) == (Verdict.FAIL, "raise_threshold"), finding.title
    assert finding.evidence["predicted"]["setting"].startswith("gc.set_threshold(")


def test_freezing_helps_where_full_passes_come_as_often_as_the_counters_let_them(tmp_path: Path) -> None:
    profile = made.static_heap().record(tmp_path / "p")
    case = gather(profile, profile.pids[0])
    assert case is not None
    assert case.model is not None
    now = case.costs.cost(2)
    assert now is not None
    assert case.model.frozen().full_per_s == pytest.approx(now.per_s)
    assert case.model.frozen().time_ratio < 0.5 * case.costs.automatic_ratio


def test_a_threshold_makes_full_passes_rarer_only_where_the_counters_hold_them_back(tmp_path: Path) -> None:
    services = {
        "quarter": made.static_heap(young_per_s=600.0, young_ms=0.02, middle_ms=0.2, block_swing=900_000),
        "counters": made.static_heap(block_swing=900_000),
    }
    rarer = {}
    for name, service in services.items():
        profile = service.record(tmp_path / name)
        case = gather(profile, profile.pids[0])
        assert case is not None
        assert case.model is not None
        now = case.costs.cost(2)
        assert now is not None
        rarer[name] = [case.model.raised(700 * times).full_per_s / now.per_s for times in (1, 2, 10)]
    assert rarer["quarter"][:2] == [1.0, 1.0]
    assert rarer["quarter"][2] == pytest.approx(0.5, abs=0.1)
    assert rarer["counters"] == pytest.approx([1.0, 0.5, 0.1])
