"""Which recordings are refused, which numbers are then not judged, and what is only told."""

from pathlib import Path
from typing import Any

import pytest

from perfkit.analysis.comparability import Bearing, Difference, differences
from tests.builders import MAIN, Row, cpu_rows, healthy, make_profile, request_rows

TARGET = {"pid": 4242, "parent": 1, "python": "3.11.7", "program": "python3.11"}
HOST = {"system": "Linux", "machine": "x86_64", "cores": 2, "memory_bytes": 8 << 30}


def found(tmp_path: Path, **head: Any) -> dict[str, Difference]:
    """Return what differs between a healthy recording and one that has `head` instead."""
    base = healthy(tmp_path / "base", seconds=20)
    return {each.what: each for each in differences(base, healthy(tmp_path / "head", **({"seconds": 20} | head)))}


def test_the_same_way_of_recording_has_no_differences(tmp_path: Path) -> None:
    assert found(tmp_path) == {}


@pytest.mark.parametrize(
    ("what", "manifest", "bearing"),
    [
        pytest.param("Python", {"targets": (TARGET | {"python": "3.12.1"},)}, Bearing.REFUSED, id="minor-version"),
        pytest.param("Python", {"targets": (TARGET | {"python": "3.11.9"},)}, Bearing.NOTED, id="patch-release"),
        pytest.param(
            "free-threaded build", {"targets": (TARGET | {"free_threaded": True},)}, Bearing.REFUSED, id="no-gil"
        ),
        pytest.param("program", {"targets": (TARGET | {"program": "gunicorn"},)}, Bearing.NOTED, id="other-starter"),
        pytest.param("host cores", {"host": HOST | {"cores": 64}}, Bearing.NOT_JUDGED, id="other-machine"),
        pytest.param("host kernel", {"host": HOST | {"kernel": "6.9"}}, Bearing.NOTED, id="other-kernel"),
        pytest.param("memray_heap", {"collectors": {"memray_heap": {}}}, Bearing.NOT_JUDGED, id="tracer-in-one-only"),
        pytest.param("loop_lag", {"collectors": {"loop_lag": {}}}, Bearing.NOTED, id="cheap-collector-in-one-only"),
        pytest.param("HEAD lacks: cpu", {"missing": ("cpu",)}, Bearing.NOTED, id="something-is-missing"),
    ],
)
def test_manifest(tmp_path: Path, what: str, manifest: dict[str, Any], bearing: Bearing) -> None:
    assert found(tmp_path, manifest=manifest)[what].bearing is bearing


def test_too_short_is_refused_and_much_longer_is_told(tmp_path: Path) -> None:
    assert found(tmp_path / "short", seconds=4)["length"].bearing is Bearing.REFUSED
    assert found(tmp_path / "long", seconds=80)["length"].bearing is Bearing.NOTED


def test_another_load_is_not_judged_by_its_times(tmp_path: Path) -> None:
    load = found(tmp_path, requests=request_rows(20, per_s=40))["load"]
    assert load.bearing is Bearing.NOT_JUDGED
    assert "latency" in load.families
    assert "cpu" not in load.families, "that is compared per request"
    assert not found(tmp_path / "close", requests=request_rows(20, per_s=21))


def test_another_program_is_refused_by_its_code_not_by_its_name(tmp_path: Path) -> None:
    """`python app.py` and `python other.py` have one name, gunicorn and uvicorn run the same service."""

    def elsewhere(row: Row) -> Row:
        frames = [(f"other_{name}", str(file).replace("/srv/app", "/srv/shop"), line) for name, file, line in MAIN]
        return dict(row) | {"stack": tuple(frames)}

    base = make_profile(tmp_path / "base", cpu=cpu_rows(20))
    head = make_profile(tmp_path / "head", cpu=map(elsewhere, cpu_rows(20)))
    [refusal] = differences(base, head)
    assert (refusal.what, refusal.bearing) == ("program", Bearing.REFUSED)


def test_code_of_the_recording_itself_does_not_make_two_programs_alike(tmp_path: Path) -> None:
    """memray is put into every target: a small program has hardly any functions beside it."""
    ours = ("<module>", "/opt/lib/site-packages/memray/__init__.py", 1)

    def elsewhere(row: Row) -> Row:
        return dict(row) | {"stack": (ours, ("shop", "/srv/shop/main.py", 1))}

    def beside(row: Row) -> Row:
        return dict(row) | {"stack": (ours, ("app", "/srv/app/main.py", 1))}

    base = make_profile(tmp_path / "base", cpu=map(beside, cpu_rows(20)))
    head = make_profile(tmp_path / "head", cpu=map(elsewhere, cpu_rows(20)))
    [refusal] = differences(base, head)
    assert (refusal.what, refusal.bearing) == ("program", Bearing.REFUSED)


def test_nothing_in_common_is_refused(tmp_path: Path) -> None:
    base = make_profile(tmp_path / "base", requests=request_rows(20))
    head = make_profile(tmp_path / "head", cpu=cpu_rows(20))
    assert [each.what for each in differences(base, head) if each.bearing is Bearing.REFUSED] == ["data"]


def test_scenarios_are_compared_setting_by_setting(tmp_path: Path) -> None:
    base = healthy(tmp_path / "base", seconds=20, manifest={"scenario": {"name": "a", "proxy": {"faults": {}}}})
    scenario = {"name": "b", "proxy": {"faults": {"sessions": True}}}
    head = healthy(tmp_path / "head", seconds=20, manifest={"scenario": scenario})
    assert [str(each) for each in differences(base, head)] == ["proxy.faults.sessions: -, then true"]


def test_settings_of_the_target_are_told(tmp_path: Path) -> None:
    def thresholds(value: str) -> list[Row]:
        return [{"at_ns": 0, "name": "gc.thresholds", "value": value}]

    base = healthy(tmp_path / "base", seconds=20, settings=thresholds("[700, 10, 10]"))
    head = healthy(tmp_path / "head", seconds=20, settings=thresholds("[50000, 20, 20]"))
    assert [str(each) for each in differences(base, head)] == ["gc.thresholds: [700, 10, 10], then [50000, 20, 20]"]
