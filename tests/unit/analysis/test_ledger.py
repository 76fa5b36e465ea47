"""Which kind of memory grew, and how much is left."""

from pathlib import Path

import pytest

from perfkit.analysis.ledger import ledger, memory_limit
from tests.builders import MIB, PID, SECOND_NS, leaking, ledger_rows, make_profile


def reading(at_s: float, **more: int | None) -> dict[str, int | None]:
    base: dict[str, int | None] = {"rss_bytes": 0, "anon_bytes": 0, "file_bytes": 0, "shmem_bytes": 0}
    return {"at_ns": int(at_s * SECOND_NS)} | base | more


def test_growth_is_found_where_it_is(tmp_path: Path) -> None:
    rows = [reading(t, anon_bytes=50 * MIB, file_bytes=t * MIB, rss_bytes=(50 + t) * MIB) for t in range(30)]
    parts = ledger(make_profile(tmp_path / "p", ledger=rows), PID)
    assert parts.file is not None
    assert parts.file.keeps_growing
    assert parts.file.slope.estimate == pytest.approx(MIB)
    assert parts.anon is not None
    assert not parts.anon.keeps_growing


def test_resident_growth_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    parts = ledger(leaking(tmp_path / "p"), PID, since_s=6)
    assert parts.rss
    assert parts.anon
    assert parts.file
    assert parts.shmem
    total = sum(part.slope.estimate for part in (parts.anon, parts.file, parts.shmem))
    assert parts.rss.slope.estimate == pytest.approx(total, rel=0.02)
    assert parts.unexplained_bytes_per_s == pytest.approx(0, abs=0.05 * total)


@pytest.mark.parametrize("rows", [0, 7])
def test_too_few_readings_are_unknown_not_flat(rows: int, tmp_path: Path) -> None:
    parts = ledger(make_profile(tmp_path / "p", ledger=[reading(t) for t in range(rows)]), PID)
    assert parts.anon is None
    assert parts.summary() == {}


def test_columns_that_are_null_are_unknown(tmp_path: Path) -> None:
    parts = ledger(make_profile(tmp_path / "p", ledger=[reading(t) for t in range(20)]), PID)
    assert parts.glibc_in_use is None
    assert parts.anon is not None


@pytest.mark.parametrize(
    ("limit_bytes", "source"),
    [
        pytest.param(256 * MIB, "limit of the control group", id="group-is-tighter"),
        pytest.param(None, "memory of the host", id="group-without-limit"),
        pytest.param(64 << 30, "memory of the host", id="host-is-tighter"),
    ],
)
def test_the_tighter_limit_counts(limit_bytes: int | None, source: str, tmp_path: Path) -> None:
    limit = memory_limit(make_profile(tmp_path / "p", ledger=ledger_rows(20, 6, limit_bytes)), PID)
    assert limit is not None
    assert limit.source == source


def test_page_cache_does_not_count_against_the_group(tmp_path: Path) -> None:
    rows = [
        reading(1, cgroup_bytes=90 * MIB, cgroup_inactive_file_bytes=60 * MIB, cgroup_limit_bytes=100 * MIB),
    ]
    limit = memory_limit(make_profile(tmp_path / "p", ledger=rows), PID)
    assert limit is not None
    assert limit.left_bytes == 70 * MIB


def test_no_readings_no_limit(tmp_path: Path) -> None:
    assert memory_limit(make_profile(tmp_path / "p"), PID) is None
