"""How busy the machine was is read off what had to happen at a time, whatever the program did."""

from pathlib import Path
from typing import Any

import pytest

from perfkit.analysis.disturbance import Disturbance, disturbance
from tests.builders import SECOND_NS, Row, make_profile, process_rows, request_rows

EVERY_S: dict[str, Any] = {"collectors": {"process_stats": {"every_s": 1.0}}}


def sent(late_ms: float, every: int) -> list[Row]:
    """Return requests of which one in `every` is sent late; all of them take long."""
    rows = [dict(row) | {"latency_ns": 80_000_000} for row in request_rows(60)]
    return [
        row | {"dispatched_ns": row["intended_ns"] + int(late_ms * 1e6) * (number % every == 0)}
        for number, row in enumerate(rows)
    ]


def read(late_ms: float, every: int) -> list[Row]:
    """Return readings of /proc of which one in `every` is taken late; the next one is on time again."""
    return [
        dict(row) | {"at_ns": row["at_ns"] + int(late_ms * 1e6) * (number % every == 0)}
        for number, row in enumerate(process_rows(60))
    ]


@pytest.mark.parametrize(
    ("late_ms", "every", "spoils"),
    [
        pytest.param(0.2, 2, (False, False, False), id="on-time"),
        pytest.param(8.0, 500, (False, False, False), id="now-and-then"),
        pytest.param(8.0, 30, (True, False, False), id="some"),
        pytest.param(8.0, 6, (True, True, False), id="many"),
        pytest.param(8.0, 2, (True, True, True), id="every-other"),
    ],
)
def test_late_requests(tmp_path: Path, late_ms: float, every: int, spoils: tuple[bool, bool, bool]) -> None:
    assert judged(disturbance(make_profile(tmp_path / "one", requests=sent(late_ms, every)))) == spoils


@pytest.mark.parametrize(
    ("late_ms", "every", "spoils"),
    [
        pytest.param(0.2, 2, (False, False, False), id="on-time"),
        pytest.param(8.0, 60, (False, False, False), id="now-and-then"),
        pytest.param(8.0, 10, (True, False, False), id="some"),
        pytest.param(8.0, 2, (True, True, True), id="every-other"),
    ],
)
def test_late_readings_tell_where_no_load_is_known(
    tmp_path: Path, late_ms: float, every: int, spoils: tuple[bool, bool, bool]
) -> None:
    profile = make_profile(tmp_path / "one", process=read(late_ms, every), manifest=EVERY_S)
    assert judged(disturbance(profile)) == spoils


def test_nothing_is_said_without_anything_that_has_to_happen_at_a_time(tmp_path: Path) -> None:
    assert disturbance(make_profile(tmp_path / "one", requests=request_rows(60))) is None


def test_a_later_interval_is_not_a_late_reading(tmp_path: Path) -> None:
    """Every two seconds, on time."""
    rows = [dict(row) | {"at_ns": row["at_ns"] * 2 + SECOND_NS // 3} for row in process_rows(30)]
    found = disturbance(make_profile(tmp_path / "one", process=rows))
    assert found is not None
    assert found.late_ratio == 0


def judged(found: Disturbance | None) -> tuple[bool, bool, bool]:
    """Return what is spoilt: tails, levels, all."""
    assert found is not None
    return found.spoils_tails, found.spoils_levels, found.spoils_all
