"""What `memory_growth` says about a busy service in each situation."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perfkit.analysis.growth import CodePlace, ContainerGrowth, Evidence, FillingPool, gather
from perfkit.analysis.growth_rates import is_outside_of_python, sites_of
from perfkit.analysis.heap_growth import Pile, heap_growth
from perfkit.analysis.holders import is_queue
from perfkit.analysis.trends import Slope
from perfkit.findings import Finding, Site, Verdict, to_json_form
from perfkit.profile import Profile
from perfkit.rules.memory_growth import RULE, MemoryGrowth
from tests.builders import PID, SECOND_NS, make_profile
from tests.builders import healthy as slow_healthy
from tests.builders import leaking as slow_leaking
from tests.unit.analysis.drawings import pool as drawn_pool
from tests.unit.rules.pool_recording import PoolRecording
from tests.unit.rules.situations import (
    NATIVE,
    Service,
    descriptor_leak,
    filling_cache,
    full_cache,
    healthy,
    load_driven,
    native_growth,
    queue_backlog,
    sessions_leak,
)

LEAKS = {"python_leak", "native_leak", "thread_leak", "fd_leak"}


def judged(profile: Profile) -> Finding:
    [finding] = RULE.check(profile)
    return finding


@pytest.mark.parametrize("seconds", [20, 45])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("situation", "verdict", "class_"),
    [
        pytest.param(healthy, Verdict.PASS, "none", id="healthy-passes"),
        pytest.param(sessions_leak, Verdict.FAIL, "python_leak", id="sessions-leak"),
        pytest.param(full_cache, Verdict.PASS, "none", id="a-full-cache-passes-though-traced-memory-rises"),
        pytest.param(filling_cache, Verdict.PASS, "filling", id="a-filling-cache-with-a-limit-is-filling"),
        pytest.param(descriptor_leak, Verdict.FAIL, "fd_leak", id="descriptors-leak"),
        pytest.param(queue_backlog, Verdict.FAIL, "backlog", id="a-queue-that-gets-longer-is-a-backlog"),
        pytest.param(native_growth, Verdict.UNDECIDED, "undetermined", id="growth-that-nothing-holds-is-undetermined"),
    ],
)
def test_verdict(
    situation: Callable[..., Service], verdict: Verdict, class_: str, seed: int, seconds: int, tmp_path: Path
) -> None:
    finding = judged(situation(seed=seed, seconds=seconds).record(tmp_path / "p"))
    assert (finding.verdict, finding.class_) == (verdict, class_), finding.title


@pytest.mark.parametrize("tracer", [True, False], ids=["with-tracer", "without-tracer"])
@pytest.mark.parametrize(
    "situation",
    [
        pytest.param(
            lambda **how: filling_cache(declared=False, type_="functools._lru_cache_wrapper", **how), id="lru"
        ),
        pytest.param(lambda **how: filling_cache(declared=False, type_="cachetools.TTLCache", **how), id="ttl"),
        pytest.param(lambda **how: filling_cache(declared=False, type_="collections.deque", **how), id="deque"),
        pytest.param(lambda **how: filling_cache(limit=2_000, declared=False, **how), id="dict-that-fills-up"),
        pytest.param(full_cache, id="full"),
        pytest.param(load_driven, id="follows-the-load"),
    ],
)
def test_nothing_bounded_is_called_a_leak(situation: Callable[..., Service], tracer: bool, tmp_path: Path) -> None:
    for seed in range(2):
        finding = judged(situation(seed=seed, seconds=30, tracer=tracer).record(tmp_path / str(seed)))
        assert finding.verdict is not Verdict.FAIL, finding.title


@pytest.mark.parametrize("type_", ["collections.deque", "functools._lru_cache_wrapper"])
def test_what_says_that_it_has_no_limit_is_a_leak(type_: str, tmp_path: Path) -> None:
    service = filling_cache(limit=1_000_000, declared=False, type_=type_, seconds=30)
    pages = next(key for key in service.containers if key[0] == type_)
    service.containers[pages] = (service.containers[pages][0], 0)
    finding = judged(service.record(tmp_path / "p"))
    assert (finding.verdict, finding.class_) == (Verdict.FAIL, "python_leak"), finding.title


@pytest.mark.parametrize(
    ("function", "has_run", "is_one"),
    [
        pytest.param("Worker.step", None, True, id="taken-from-elsewhere"),
        pytest.param("Worker.drain", None, True, id="drained"),
        pytest.param("Listeners.clear", None, False, id="cleared-perhaps-never"),
        pytest.param("Listeners.clear", True, True, id="cleared-at-times"),
        pytest.param("Worker.step", False, False, id="never-taken-from"),
    ],
)
def test_a_deque_is_a_queue_when_others_take_from_it(function: str, has_run: bool | None, is_one: bool) -> None:
    places = (
        CodePlace("inserts", "Listeners.add", "app/events.py", 10),
        CodePlace("evicts", function, "app/events.py", 20, has_run=has_run),
    )
    held = ContainerGrowth(
        container="0x1",
        type="collections.deque",
        item_type=None,
        owner=("module app.events", "LISTENERS"),
        limit_items=None,
        items_per_s=Slope(1.0, 1.0, 1.0, 0.0, 10),
        p=0.0,
        every_rung=True,
        persistence_ratio=1.0,
        shape=None,
        follows_load=False,
        first=1,
        last=9,
        rungs=10,
        code=places,
    )
    assert is_queue(held) is is_one


def pooled(evidence: Evidence, opened: int, source: str, limit: int | None, *beside: ContainerGrowth) -> Evidence:
    """Return what is known of a process with a pool that opened some connections, by its events or by heap and code."""
    if source == "events":
        return replace(evidence, containers=beside, filling_pool=FillingPool("db", 1, 1 + opened, limit))
    grown = heap_growth(drawn_pool(1), drawn_pool(1 + opened), least_bytes=1)
    [pile] = grown.piles
    place = CodePlace("bounds", "Pool.get", "app/pool.py", 14, limit_items=limit, has_run=True)
    like = next(each for each in evidence.containers if each.owner)
    held = replace(
        like, owner=("module app", "POOL"), type="list", item_type="app.Connection", pile=pile, code=(place,),
        limit_items=limit, first=1, last=1 + opened,
    )  # fmt: skip
    return replace(evidence, containers=(held, *beside), heap_growth=grown, snapshots_s=(1.0, 29.0))


@pytest.mark.parametrize("source", ["events", "heap-and-code"])
@pytest.mark.parametrize(
    ("opened_ratio", "verdict", "class_"),
    [
        pytest.param(1.0, Verdict.PASS, "filling", id="all-of-them"),
        pytest.param(0.5, Verdict.UNDECIDED, "filling", id="half-of-them-the-others-may-be-the-server's"),
        pytest.param(0.2, Verdict.FAIL, "fd_leak", id="mostly-beside-the-pool"),
    ],
)
def test_descriptors_of_a_pool_within_its_limit_are_no_leak_whatever_says_so(
    source: str, opened_ratio: float, verdict: Verdict, class_: str, tmp_path: Path
) -> None:
    evidence = gather(descriptor_leak(seconds=30).record(tmp_path / "p"), PID)
    assert evidence.descriptors is not None
    opened = round(opened_ratio * (evidence.descriptors.last - evidence.descriptors.first))
    finding = RULE.judge(pooled(evidence, opened, source, limit=1000))
    assert (finding.verdict, finding.class_) == (verdict, class_), finding.title
    assert ("holds at most 1,000" in finding.title) == (class_ == "filling")


def test_descriptors_of_a_pool_are_undecided_where_only_code_limits_it(tmp_path: Path) -> None:
    evidence = gather(descriptor_leak(seconds=30).record(tmp_path / "p"), PID)
    assert evidence.descriptors is not None
    added = int(evidence.descriptors.last - evidence.descriptors.first)
    finding = RULE.judge(pooled(evidence, added, "heap-and-code", limit=None))
    assert (finding.verdict, finding.class_) == (Verdict.UNDECIDED, "filling"), finding.title
    assert "Pool.get (app/pool.py:14) limits it" in finding.title
    assert finding.retainer == ("module app", "POOL", "list")


def test_descriptors_in_a_list_that_nothing_limits_leak(tmp_path: Path) -> None:
    evidence = gather(descriptor_leak(seconds=30).record(tmp_path / "p"), PID)
    evidence = pooled(evidence, 300, "heap-and-code", limit=None)
    finding = RULE.judge(replace(evidence, containers=(replace(evidence.containers[0], code=()),)))
    assert finding.class_ == "fd_leak", finding.title


@pytest.mark.parametrize("source", ["events", "heap-and-code"])
@pytest.mark.parametrize(
    ("opened", "verdict", "class_"),
    [
        pytest.param(3_000, Verdict.FAIL, "python_leak", id="which-gets-longer-than-the-pool"),
        pytest.param(5_000, Verdict.UNDECIDED, "filling", id="which-may-hold-its-connections"),
    ],
)
def test_a_pool_excuses_what_it_opened_and_no_leak_beside_it(
    source: str, opened: int, verdict: Verdict, class_: str, tmp_path: Path
) -> None:
    evidence = gather(sessions_leak(seconds=30).record(tmp_path / "p"), PID)
    descriptors = gather(descriptor_leak(per_s=100, seconds=30).record(tmp_path / "q"), PID).descriptors
    [sessions] = evidence.containers
    assert opened < sessions.last - sessions.first < 6_000
    finding = RULE.judge(pooled(replace(evidence, descriptors=descriptors), opened, source, 9_000, sessions))
    assert (finding.verdict, finding.class_) == (verdict, class_), finding.title
    assert "Session" in finding.title


@pytest.mark.parametrize(
    ("added", "traced_per_s", "pile_bytes", "verdict"),
    [
        pytest.param(5, 80_000.0, 3_000_000, Verdict.UNDECIDED, id="kept-every-now-and-then"),
        pytest.param(5, 1_000.0, 3_000_000, Verdict.PASS, id="in-hand-when-it-was-looked-at"),
        pytest.param(500, 80_000.0, 3_000_000, Verdict.PASS, id="enough-to-show-a-trend-and-none-is-there"),
        pytest.param(5, 80_000.0, 3_000, Verdict.PASS, id="too-small-to-matter"),
    ],
)
def test_a_few_large_items_are_too_few_for_any_answer(
    added: int, traced_per_s: float, pile_bytes: int, verdict: Verdict, tmp_path: Path
) -> None:
    evidence = gather(slow_healthy(tmp_path / "p"), PID)
    assert evidence.ledger.traced is not None
    wide = Slope(-traced_per_s, traced_per_s, 3 * traced_per_s, 0.1, 60)
    steps = replace(evidence.ledger.traced, slope=wide, p_rising=1e-6, persistence_ratio=0.0)
    two = replace(pile("list"), item_type="builtins.dict", bytes=pile_bytes, items_before=1, items_after=1 + added)
    nothing = Slope(0.1, 0.1, 0.1, 1.0, 2)
    held = ContainerGrowth(
        container="0x1", type="list", item_type="builtins.dict", owner=("module app.gauges", "HISTORY"),
        limit_items=None, items_per_s=nothing, p=1.0, every_rung=False, persistence_ratio=1.0, shape=None,
        follows_load=False, first=1, last=1 + added, rungs=2, pile=two, bytes_per_s=pile_bytes / evidence.between_s,
    )  # fmt: skip
    ledger = replace(evidence.ledger, traced=steps)
    finding = RULE.judge(replace(evidence, ledger=ledger, types=(), sites=(), containers=(held,)))
    assert finding.verdict is verdict, finding.title
    assert ("HISTORY" in finding.title) == (verdict is Verdict.UNDECIDED)
    assert bool(finding.needs) == (verdict is Verdict.UNDECIDED)


def test_the_line_that_enlarges_one_object_is_named_though_it_leaves_no_more_of_them(tmp_path: Path) -> None:
    """A buffer that grows is moved each time: its line frees as much as it allocates, but for what is added."""
    evidence = gather(sessions_leak(seconds=30).record(tmp_path / "p"), PID)
    [line] = [each for each in evidence.sites if each.site.function == "remember"]
    held = next(each for each in evidence.containers if each.owner[0] == "module app.sessions")
    rate, nothing = line.bytes_per_s, Slope(0.0, 0.0, 0.0, 1.0, 60)
    moved = replace(line, objects_per_s=nothing, last_third=nothing, p_leak=0.05)
    buffer = replace(
        held, type="bytearray", item_type=None, items_per_s=nothing, bytes_per_s=rate.estimate, pile=pile("bytearray")
    )
    assert [each.site for each in sites_of(replace(evidence, sites=(moved,)), buffer)] == [line.site]
    slower = replace(buffer, bytes_per_s=rate.estimate / 10)
    assert sites_of(replace(evidence, sites=(moved,)), slower) == []


def pile(type_: str) -> Pile:
    """Return what two snapshots say of one object of a module that got larger."""
    one = np.array([0], np.int64)
    return Pile(
        kind="module",
        steps=("module app.sessions", "BUFFER"),
        node=0,
        holders=one,
        holder_ids=one,
        type=type_,
        item_type=None,
        items_before=0,
        items_after=0,
        objects=0,
        bytes=1_000_000,
        share=1.0,
        newcomers=one[:0],
    )


def test_a_leak_is_named_completely(tmp_path: Path) -> None:
    finding = judged(sessions_leak(seconds=30).record(tmp_path / "p"))
    assert finding.site == Site("remember", "app/sessions.py", 31)
    assert finding.insertion == finding.site
    assert finding.retainer == ("module app.sessions", "SESSIONS", "by_id", "dict")
    assert finding.type == "app.sessions.Session"
    assert finding.pid == PID
    assert "remember" in finding.title
    assert "by_id" in finding.title
    assert finding.confidence is not None
    assert finding.confidence > 0.9
    assert finding.needs


@pytest.mark.parametrize("size_bytes", [300, 1024, 4096], ids=lambda size: f"{size}-bytes-per-request")
@pytest.mark.parametrize("seconds", [20, 45])
def test_rate_is_within_a_tenth(size_bytes: int, seconds: int, tmp_path: Path) -> None:
    service = sessions_leak(size_bytes, seconds=seconds)
    truth = len(service.arrivals_s) / seconds * size_bytes
    rate = judged(service.record(tmp_path / "p")).rate_bytes_per_s
    assert rate is not None
    assert rate[1] == pytest.approx(truth, rel=0.1)
    assert rate[0] < rate[1] < rate[2]


def test_time_to_the_limit_is_what_is_left_over_the_rate(tmp_path: Path) -> None:
    finding = judged(slow_leaking(tmp_path / "p"))
    assert finding.seconds_to_limit is not None
    assert finding.rate_bytes_per_s is not None
    left = 256 * 2**20 - finding.seconds_to_limit[1] * finding.rate_bytes_per_s[1]  # type: ignore[operator]
    assert left == pytest.approx(50 * 2**20 + 60 * 160 * 1024 + 3 * 2**20, rel=0.05)


@pytest.mark.parametrize(
    "missing",
    [
        pytest.param({"heap": [], "usage": []}, id="without-the-tracer"),
        pytest.param({"usage": []}, id="without-the-size-of-the-heap"),
        pytest.param({"ledger": []}, id="without-the-ledger"),
        pytest.param({"process": [], "requests": []}, id="without-load-and-process"),
    ],
)
def test_a_leak_is_found_without(missing: dict[str, Any], tmp_path: Path) -> None:
    assert judged(slow_leaking(tmp_path / "p", **missing)).class_ == "python_leak"
    assert judged(slow_healthy(tmp_path / "q", **missing)).class_ == "none"


def test_what_is_called_a_cache_lowers_the_confidence(tmp_path: Path) -> None:
    plain, cache = (
        judged(sessions_leak(owner=f"module app > {name}", seconds=20).record(tmp_path / name))
        for name in ("SESSIONS", "SESSION_CACHE")
    )
    assert cache.confidence is not None
    assert plain.confidence is not None
    assert cache.confidence < 0.75 < plain.confidence


def test_without_a_census_two_snapshots_name_the_holder(tmp_path: Path) -> None:
    finding = judged(slow_leaking(tmp_path / "p", census=[], containers=[]))
    assert (finding.class_, finding.retainer) == ("python_leak", ("module app.sessions", "SESSIONS", "dict"))


def test_without_objects_no_leak_is_claimed_but_the_line_is_named(tmp_path: Path) -> None:
    finding = judged(slow_leaking(tmp_path / "p", census=[], containers=[], snapshots=[]))
    assert (finding.verdict, finding.class_) == (Verdict.UNDECIDED, "undetermined")
    assert "open_session" in finding.title
    assert any("objects" in need for need in finding.needs)


@pytest.mark.parametrize("make", [slow_healthy, slow_leaking])
@pytest.mark.parametrize("seconds", [2, 6, 10])
def test_short_recordings_decide_nothing(make: Callable[..., Profile], seconds: int, tmp_path: Path) -> None:
    finding = judged(make(tmp_path / "p", seconds=seconds))
    assert (finding.verdict, finding.class_) == (Verdict.UNDECIDED, "undetermined")
    assert finding.needs


def test_an_empty_recording_decides_nothing(tmp_path: Path) -> None:
    assert judged(make_profile(tmp_path / "p")).verdict is Verdict.UNDECIDED


def test_no_process_decides_nothing(tmp_path: Path) -> None:
    assert judged(make_profile(tmp_path / "p", manifest={"targets": ()})).verdict is Verdict.UNDECIDED


def test_each_process_is_judged_on_its_own(tmp_path: Path) -> None:
    targets = ({"pid": PID}, {"pid": PID + 1})
    leak, other = RULE.check(slow_leaking(tmp_path / "p", manifest={"targets": targets}))
    assert (leak.pid, leak.class_) == (PID, "python_leak")
    assert (other.pid, other.verdict) == (PID + 1, Verdict.UNDECIDED)


def test_growth_too_slow_to_matter_passes(tmp_path: Path) -> None:
    profile = slow_leaking(tmp_path / "p", ledger=[])
    finding = RULE.check(profile)[0]
    [patient] = MemoryGrowth(min_bytes_per_s=1e6, limit_share=0.999, horizon_s=60).check(profile)
    assert (finding.class_, patient.class_) == ("python_leak", "none")


def test_growth_of_the_measurement_itself_is_not_the_services(tmp_path: Path) -> None:
    service = sessions_leak(owner="module memray > _trackers", seconds=30)
    service.heap = [row for row in service.heap if "remember" not in str(row["stack"])]
    assert judged(service.record(tmp_path / "p")).class_ != "python_leak"


def test_findings_are_plain_json_and_the_same_every_time(tmp_path: Path) -> None:
    profile = sessions_leak(seconds=20).record(tmp_path / "p")
    first, second = (json.dumps(to_json_form("p", RULE.check(profile)), allow_nan=False) for _ in range(2))
    assert first == second


def test_page_cache_is_not_the_process(tmp_path: Path) -> None:
    rows = [
        {"at_ns": t * SECOND_NS, "rss_bytes": 10**8, "anon_bytes": 8 * 10**7, "file_bytes": 2 * 10**7, "shmem_bytes": 0,
         "cgroup_bytes": 10**8 + t * 10**6, "cgroup_inactive_file_bytes": t * 10**6, "cgroup_limit_bytes": 10**9}
        for t in range(60)
    ]  # fmt: skip
    finding = judged(slow_healthy(tmp_path / "p", ledger=rows, heap=[], usage=[]))
    assert (finding.verdict, finding.class_) == (Verdict.PASS, "page_cache")


@pytest.mark.parametrize(
    ("column", "class_"), [("glibc_in_use_bytes", "native_leak"), ("glibc_retained_bytes", "allocator_retention")]
)
def test_the_allocator_says_whether_it_is_used_or_kept(column: str, class_: str, tmp_path: Path) -> None:
    rows = [
        {"at_ns": t * SECOND_NS, "rss_bytes": 10**8 + t * 10**6, "anon_bytes": 8 * 10**7 + t * 10**6,
         "file_bytes": 2 * 10**7, "shmem_bytes": 0, "python_blocks": 10_000, column: 10**7 + t * 10**6}
        for t in range(60)
    ]  # fmt: skip
    assert judged(slow_healthy(tmp_path / "p", ledger=rows, heap=[], usage=[])).class_ == class_


def test_the_line_below_which_native_code_keeps_memory_is_named_though_most_of_what_it_allocates_is_freed(
    tmp_path: Path,
) -> None:
    """As by a database in memory: a statement leaves a row, and what it works with is freed."""
    service = Service(seconds=30)
    service.allocate(NATIVE, service.arrivals_s, np.full(len(service.arrivals_s), np.inf), 2048)
    kept = service.traced[-1]
    for _each in range(4):
        service.allocate(NATIVE, service.arrivals_s, np.full(len(service.arrivals_s), 0.9), 512)
    rows = [
        {"at_ns": t * SECOND_NS, "rss_bytes": int(10**8 + kept(t)), "anon_bytes": int(8 * 10**7 + kept(t)),
         "file_bytes": 2 * 10**7, "shmem_bytes": 0, "python_blocks": 10_000, "glibc_in_use_bytes": int(10**7 + kept(t))}
        for t in range(1, 30)
    ]  # fmt: skip
    finding = judged(service.record(tmp_path / "p", ledger=rows))
    assert finding.class_ == "native_leak"
    assert finding.site == Site("compress", "app/codec.py", 90)


@pytest.mark.parametrize(
    ("python_bytes_per_s", "is_outside"),
    [(0.0, True), (400.0, True), (600.0, False), (-13_000.0, False)],
    ids=["steady", "grows-slowly", "accounts-for-it", "comes-and-goes-in-larger-amounts"],
)
def test_growth_is_native_only_where_objects_keep_stiller_than_it(
    python_bytes_per_s: float, is_outside: bool, tmp_path: Path
) -> None:
    evidence = gather(slow_healthy(tmp_path / "p"), PID)
    assert evidence.heap_growth is not None
    objects = replace(evidence.heap_growth, bytes=int(python_bytes_per_s * evidence.between_s), is_whole=True)
    rate = Slope(800.0, 1000.0, 1200.0, 1e-9, 60)
    assert is_outside_of_python(replace(evidence, heap_growth=objects), rate) == is_outside


@pytest.mark.parametrize("kept", [False, True])
def test_a_pool_fills_when_what_is_taken_comes_back(kept: bool, tmp_path: Path) -> None:
    pool = PoolRecording(limit=20)
    for number in range(10):
        pool.event("created", 2.5 * number + 0.5, connection=number)
        for again in range(int(2 * (30 - 2.5 * number)) - 2):
            if not kept:
                pool.use(2.5 * number + 0.6 + again / 2, 0.45, holder=number, connection=number)
        if kept:
            pool.use(2.5 * number + 0.6, None, holder=number, connection=number)
    pool.use(0.1, 0.2, holder=99, connection=99)
    filling = gather(pool.profile(tmp_path / "p"), PID).filling_pool
    assert (filling is None) is kept
