"""Survivors by site: who allocates what is never given back."""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfkit.analysis.survival import LiveHeap, SiteGrowth, growing_sites, kaplan_meier, live_heap, places
from perfkit.profile import Manifest, ProfileWriter
from perfkit.symbols import Symbols
from perfkit.tables import HEAP_SURVIVAL
from tests.builders import LOGIN, MAIN, PID, SECOND_NS, Row, Stack, healthy, leaking, make_profile

SEQUENCE: Stack = (*MAIN, ("fill", "/srv/app/cache.py", 9))


def row(born_s: float, freed_s: float | None, allocations: int = 10, stack: Stack = LOGIN, each: int = 100) -> Row:
    return {
        "stack": stack,
        "allocated_ns": int(born_s * SECOND_NS),
        "freed_ns": None if freed_s is None else int(freed_s * SECOND_NS),
        "allocations": allocations,
        "size_bytes": allocations * each,
    }


def heap_of(path: Path, rows: list[Row]) -> LiveHeap:
    heap = live_heap(make_profile(path, heap=rows), PID)
    assert heap is not None
    return heap


def only(heap: LiveHeap) -> SiteGrowth:
    [site] = growing_sites(heap)
    return site


def test_live_bytes_are_what_was_allocated_less_what_was_freed(tmp_path: Path) -> None:
    heap = heap_of(tmp_path / "p", [row(1, 3), row(2, None), row(3, 3), row(4, None)])
    assert heap.time_s.tolist() == [1, 2, 3, 4]
    assert heap.live_bytes.tolist() == [[1000, 2000, 1000, 2000]]
    assert heap.live_objects.tolist() == [[10, 20, 10, 20]]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30), st.integers(1, 99)), min_size=1, max_size=60))
def test_live_bytes_end_with_the_survivors(
    tmp_path_factory: pytest.TempPathFactory, lives: list[tuple[int, ...]]
) -> None:
    rows = [row(born, born + lasts if lasts < 20 else None, n) for born, lasts, n in lives]
    heap = heap_of(tmp_path_factory.mktemp("p") / "p", rows)
    assert (heap.live_bytes >= 0).all()
    assert heap.live_objects[:, -1].sum() == sum(r["allocations"] for r in rows if r["freed_ns"] is None)


def test_a_leak_keeps_growing_and_a_full_cache_does_not(tmp_path: Path) -> None:
    rows = [row(t, None) for t in range(1, 31)]
    rows += [row(t, t + 5 if t + 5 <= 30 else None, stack=SEQUENCE) for t in range(1, 31)]
    leak, cache = growing_sites(heap_of(tmp_path / "p", rows))
    assert (leak.site.function, leak.keeps_growing) == ("open_session", True)
    assert (cache.site.function, cache.keeps_growing) == ("fill", False)
    assert leak.bytes_per_s.interval == pytest.approx((1000, 1000, 1000))
    assert leak.p_leak > 0.99 > 0.1 > cache.p_leak


def test_sites_rank_by_slope_not_by_bytes(tmp_path: Path) -> None:
    big_but_done = [row(t, None, 10_000, SEQUENCE) for t in range(1, 4)]
    small_but_growing = [row(t, None) for t in range(1, 31)]
    first, *_ = growing_sites(heap_of(tmp_path / "p", big_but_done + small_but_growing))
    assert first.site.function == "open_session"


def test_the_youngest_do_not_count_as_survivors(tmp_path: Path) -> None:
    """Everything lives for two seconds: what was allocated in the last two is alive, and no leak."""
    rows = [row(t, t + 2 if t + 2 <= 30 else None) for t in range(1, 31)]
    site = growing_sites(heap_of(tmp_path / "p", rows))[0]
    assert site.surviving_allocations == 20
    assert (site.old_survivors, site.survival_ratio) == (0, 0.0)
    assert site.p_leak < 0.01


def test_few_old_allocations_say_little(tmp_path: Path) -> None:
    rows = [row(t, None, 1 if t == 5 else 0) for t in range(1, 31)]
    assert only(heap_of(tmp_path / "p", rows)).p_leak == pytest.approx(2 / 3)


def test_short_recordings_name_no_site(tmp_path: Path) -> None:
    assert growing_sites(heap_of(tmp_path / "p", [row(t, None) for t in range(1, 6)])) == []


def test_nothing_traced_is_none(tmp_path: Path) -> None:
    assert live_heap(make_profile(tmp_path / "p"), PID) is None


def test_other_processes_are_left_out(tmp_path: Path) -> None:
    assert live_heap(leaking(tmp_path / "p"), PID + 1) is None


@pytest.mark.parametrize(
    ("stack", "function"),
    [
        pytest.param(
            (("handle", "/srv/app/server.py", 7), ("dumps", "/usr/lib/python3.11/json/__init__.py", 1)),
            "handle",
            id="standard-library-is-skipped",
        ),
        pytest.param(
            (("handle", "/srv/app/server.py", 7), ("get", "/v/lib/python3.11/site-packages/redis/client.py", 1)),
            "handle",
            id="own-code-before-libraries",
        ),
        pytest.param(
            (
                ("run", "/v/lib/python3.11/site-packages/uvicorn/server.py", 7),
                ("f", "/usr/lib/python3.11/json/x.py", 1),
            ),
            "run",
            id="libraries-before-the-standard-library",
        ),
        pytest.param((("run", "/usr/lib/python3.11/x.py", 1), ("f", None, None)), "f", id="else-the-innermost"),
    ],
)
def test_site_is_the_innermost_frame_of_own_code(stack: Stack, function: str, tmp_path: Path) -> None:
    profile = make_profile(tmp_path / "p", heap=[row(1, None, stack=stack)])
    assert [place.function for place in places(profile).values()] == [function]


@pytest.mark.parametrize(
    "file",
    ["/v/lib/python3.11/site-packages/memray/_memray_attach_hook.py", "<perfkit probe>"],
)
def test_the_measurement_is_not_the_service(file: str, tmp_path: Path) -> None:
    stack = (("run", "/srv/app/main.py", 1), ("work", file, 3), ("f", "/srv/app/x.py", 1))
    assert places(make_profile(tmp_path / "p", heap=[row(1, None, stack=stack)])) == {}


@given(st.lists(st.tuples(st.floats(0.1, 100), st.booleans(), st.integers(1, 50)), min_size=1, max_size=40))
def test_survival_is_a_share_that_only_falls(lives: list[tuple[float, bool, int]]) -> None:
    ages, survival = kaplan_meier(*zip(*lives, strict=True))
    assert (np.diff(ages) > 0).all()
    assert ((survival >= -1e-12) & (survival <= 1)).all()
    assert (np.diff(survival) <= 1e-12).all()


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=40))
def test_survival_without_survivors_is_the_share_that_lives_longer(lives: list[float]) -> None:
    ages, survival = kaplan_meier(lives, [True] * len(lives), [1] * len(lives))
    assert survival == pytest.approx([sum(life > age for life in lives) / len(lives) for age in ages])


def test_the_builders_services(tmp_path: Path) -> None:
    leak = live_heap(leaking(tmp_path / "leak"), PID)
    calm = live_heap(healthy(tmp_path / "calm"), PID)
    assert leak is not None
    assert calm is not None
    assert [site.site.function for site in growing_sites(leak) if site.keeps_growing] == ["open_session"]
    assert [site.site.function for site in growing_sites(calm) if site.keeps_growing] == []
    total = leak.slope(leak.sites[:1])
    assert total is not None
    assert total.estimate == pytest.approx(160 * 1024, rel=0.01)


@pytest.mark.quiet
def test_a_million_rows_take_seconds(tmp_path: Path) -> None:
    rows, stacks = 1_000_000, 2_000
    random, symbols = np.random.default_rng(0), Symbols()
    numbers = [symbols.stack([symbols.frame(f"f{i % 500}", f"/srv/app/m{i % 40}.py", i)]) for i in range(stacks)]
    born = random.integers(1, 600, rows) * (SECOND_NS // 10)
    freed = pa.array(born + random.integers(0, 600, rows) * (SECOND_NS // 10), mask=random.random(rows) < 0.3)
    table = HEAP_SURVIVAL.from_columns(
        {
            "pid": np.full(rows, PID, dtype=np.int32),
            "stack_id": random.choice(numbers, rows).astype(np.int32),
            "allocated_ns": born,
            "freed_ns": freed,
            "allocations": random.integers(1, 9, rows),
            "size_bytes": random.integers(1, 9_000, rows),
        }
    )
    writer = ProfileWriter.create(tmp_path / "p")
    profile = writer.finish({"heap_survival": table} | symbols.tables(), Manifest("p", targets=({"pid": PID},)))
    writer.close()
    began = time.perf_counter()
    heap = live_heap(profile, PID)
    assert heap is not None
    assert growing_sites(heap)
    assert time.perf_counter() - began < 6
