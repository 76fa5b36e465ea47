"""What speaks for growth in one process, gathered from every table."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from perfkit.analysis.growth import SETTLE_S, ContainerGrowth, Load, gather, growing_containers, growing_types
from tests.builders import PID, SECOND_NS, Row, leaking, make_profile


def census(tmp_path: Path, **types: Callable[[int], int]) -> list[str]:
    rows = [
        {"at_ns": rung * 3 * SECOND_NS, "rung": rung, "type": name.replace("__", "."), "objects": count(rung)}
        for rung in range(10)
        for name, count in types.items()
    ]
    frame = make_profile(tmp_path / "p", census=rows).frame("object_census")
    return [each.type for each in growing_types(frame)]


def containers(tmp_path: Path, *rows: Row, load: Load | None = None) -> list[ContainerGrowth]:
    frame = make_profile(tmp_path / "p", containers=rows).frame("container_sizes")
    return growing_containers(frame, load)


def lengths(
    items: list[int], container: str = "0x1", owner: str | None = "module app > MAP", first: int = 0, **more: object
) -> list[Row]:
    return [
        {"at_ns": rung * 3 * SECOND_NS, "rung": rung, "container": container, "type": "builtins.dict", "items": count,
         "owner": owner} | more
        for rung, count in enumerate(items, first)
    ]  # fmt: skip


def test_types_that_rise_are_found_fastest_first(tmp_path: Path) -> None:
    found = census(
        tmp_path,
        app__Slow=lambda rung: 100 + rung,
        app__Fast=lambda rung: 100 + 50 * rung,
        app__Steady=lambda _: 500,
        app__Busy=lambda rung: 500 + (rung * 7) % 5,
        app__Fewer=lambda rung: 500 - rung,
    )
    assert found == ["app.Fast", "app.Slow"]


def test_types_of_the_measurement_are_left_out(tmp_path: Path) -> None:
    assert census(tmp_path, memray__Tracker=lambda rung: rung, _memray__X=lambda rung: rung) == []


def test_types_seen_late_count_from_zero(tmp_path: Path) -> None:
    rows = [{"at_ns": rung * SECOND_NS, "rung": rung, "type": "app.Late", "objects": rung} for rung in range(1, 10)] + [
        {"at_ns": 0, "rung": 0, "type": "app.Other", "objects": 5}
    ]
    [late] = growing_types(make_profile(tmp_path / "p", census=rows).frame("object_census"))
    assert (late.type, late.first, late.last, late.every_rung) == ("app.Late", 0, 9, True)


def test_few_rungs_find_nothing(tmp_path: Path) -> None:
    rows = [{"at_ns": r * SECOND_NS, "rung": r, "type": "app.T", "objects": r} for r in range(5)]
    assert growing_types(make_profile(tmp_path / "p", census=rows).frame("object_census")) == []


def test_a_container_that_grows_at_every_rung(tmp_path: Path) -> None:
    [found] = containers(tmp_path, *lengths(list(range(0, 500, 50)), limit_items=900, item_type="app.Session"))
    assert found.owner == ("module app", "MAP")
    assert (found.type, found.item_type, found.limit_items) == ("dict", "app.Session", 900)
    assert (found.first, found.last, found.every_rung, found.keeps_growing) == (0, 450, True, True)
    assert found.items_per_s.estimate == pytest.approx(50 / 3)


@pytest.mark.parametrize(
    ("items", "why"),
    [
        pytest.param([500] * 10, "flat", id="flat"),
        pytest.param([500, 501, 499, 502, 500, 501, 498, 502, 500, 501], "noise", id="requests-in-flight"),
        pytest.param([900, 800, 700, 600, 500, 400, 300, 200, 100, 0], "falls", id="drains"),
    ],
)
def test_a_container_that_does_not_grow_is_left_out(items: list[int], why: str, tmp_path: Path) -> None:
    assert containers(tmp_path, *lengths(items)) == [], why


def test_a_container_that_filled_up_does_not_keep_growing(tmp_path: Path) -> None:
    [found] = containers(tmp_path, *lengths([0, 300, 500, 700, 800, 850, 900, 920, 930, 935]))
    assert found.every_rung
    assert not found.keeps_growing


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(lengths([1, 2, 3, 4, 5]), id="seen-too-rarely"),
        pytest.param(lengths(list(range(9)), owner="module memray > x"), id="of-the-tracer"),
        pytest.param(lengths(list(range(9)), owner="module perfkit.probe > x"), id="of-the-probe"),
        pytest.param(lengths(list(range(8))) + lengths([5] * 10, "0x2"), id="gone-at-the-end"),
    ],
)
def test_containers_that_say_nothing_are_left_out(rows: list[Row], tmp_path: Path) -> None:
    assert containers(tmp_path, *rows) == []


def test_a_container_nobody_was_seen_to_own_is_kept(tmp_path: Path) -> None:
    [found] = containers(tmp_path, *lengths(list(range(0, 100, 10)), owner=None))
    assert found.owner == ()


class TestLoad:
    time_s = np.linspace(2, 60, 30)

    def wave(self) -> Load:
        """Return a load that rises and falls twice in a minute."""
        steps = np.linspace(0, 60, 60_001)
        sent = np.cumsum(100 * (1 + 0.8 * np.sin(steps / 60 * 4 * np.pi)) * 0.001)
        return Load.requests(np.interp(np.arange(1, int(sent[-1])), sent, steps))

    def test_what_follows_the_rate_is_explained(self) -> None:
        load = self.wave()
        open_now = np.searchsorted(load.sent_s, self.time_s) - np.searchsorted(load.sent_s, self.time_s - 2)
        assert load.explains(self.time_s, open_now.astype(float))

    def test_what_every_request_leaves_behind_is_not(self) -> None:
        load = self.wave()
        assert not load.explains(self.time_s, np.searchsorted(load.sent_s, self.time_s).astype(float))

    def test_a_steady_load_explains_nothing(self) -> None:
        assert not Load.requests(np.linspace(0, 60, 6000)).explains(self.time_s, self.time_s)


def test_everything_is_gathered(tmp_path: Path) -> None:
    evidence = gather(leaking(tmp_path / "p"), PID)
    assert (evidence.rungs, evidence.moments, evidence.traced) == (7, 30, True)
    assert evidence.since_s == SETTLE_S
    assert evidence.window_s == 60
    assert [each.site.function for each in evidence.sites if each.keeps_growing] == ["open_session"]
    assert [each.owner for each in evidence.containers] == [("module app.sessions", "SESSIONS")]
    assert evidence.limit is not None
    assert evidence.threads is not None
    assert not evidence.threads.keeps_growing


def test_an_empty_profile_is_empty_evidence(tmp_path: Path) -> None:
    evidence = gather(make_profile(tmp_path / "p"), PID)
    assert (evidence.rungs, evidence.readings, evidence.moments, evidence.window_s) == (0, 0, 0, 0)
    assert (evidence.sites, evidence.types, evidence.containers, evidence.limit) == ((), (), (), None)


def test_imports_at_the_start_are_warm_up(tmp_path: Path) -> None:
    rows = [
        {"at_ns": r * 3 * SECOND_NS, "rung": r, "type": "builtins.module", "objects": min(100 + 60 * r, 300)}
        for r in range(20)
    ]
    assert gather(make_profile(tmp_path / "p", census=rows), PID).since_s == 12
