"""Decoding a census, from rows as the probe writes them."""

import json
from pathlib import Path
from typing import Any

from perfkit.clock import Clock
from perfkit.collectors import Raw
from perfkit.collectors.object_census import COLLECTOR
from perfkit.symbols import Symbols

_SECOND_NS = 1_000_000_000
_CLOCK = Clock(monotonic_ns=100 * _SECOND_NS, unix_ns=0)


def rung(number: int, *, containers: list[dict[str, Any]] = [], **more: Any) -> dict[str, Any]:  # noqa: B006
    return {
        "rung": number,
        "monotonic_ns": (100 + 5 * number) * _SECOND_NS,
        "types": [["app.Session", 10 * number, 480 * number]],
        "containers": containers,
        "forced": {"freed": 3, "took_ns": 4000},
        "enabled": True,
        "cost_ns": 1_000_000,
        "objects": 10 * number,
        **more,
    }


def container(lengths: list[int], owner: str | None = None) -> dict[str, Any]:
    return {
        "id": "0x7f.0",
        "type": "builtins.dict",
        "lengths": lengths,
        "item_type": "app.Session",
        "owner": owner,
        "limit": None,
    }


def decoded(folder: Path, rungs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    (folder / "census.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rungs), "utf-8")
    raw = Raw(folder, 7, _CLOCK, Symbols(), 60 * _SECOND_NS)
    return {name: table.to_pylist() for name, table in COLLECTOR.decode(raw).items()}


def test_a_container_noticed_late_brings_its_earlier_lengths(tmp_path: Path) -> None:
    rungs = [
        rung(0),
        rung(1),
        rung(2, containers=[container([40, 50, 60])]),
        rung(3, containers=[container([70], "module app > S")]),
    ]
    rows = decoded(tmp_path, rungs)["container_sizes"]
    assert [(row["rung"], row["at_ns"] // _SECOND_NS, row["items"]) for row in rows] == [
        (0, 0, 40),
        (1, 5, 50),
        (2, 10, 60),
        (3, 15, 70),
    ]
    assert {row["owner"] for row in rows} == {"module app > S"}


def test_types_of_one_name_are_one_type(tmp_path: Path) -> None:
    types = [["app.Model", 1, 1000], ["app.Model", 2, 2000], ["builtins.dict", 5, 320]]
    rows = decoded(tmp_path, [rung(0, types=types)])["object_census"]
    assert [(row["type"], row["objects"], row["size_bytes"]) for row in rows] == [
        ("app.Model", 3, 3000),
        ("builtins.dict", 5, 320),
    ]


def test_garbage_that_is_counted_is_said_to_be(tmp_path: Path) -> None:
    [quality] = decoded(tmp_path, [rung(0), rung(1, forced=None)])["recording_quality"]
    assert "include garbage" in quality["note"]
    assert quality["taken"] == 2


def test_a_collector_that_is_switched_off_is_said_to_be(tmp_path: Path) -> None:
    [quality] = decoded(tmp_path, [rung(0, forced=None, enabled=False)])["recording_quality"]
    assert "switched off" in quality["note"]


def test_rungs_that_were_moved_apart_are_said_to_be(tmp_path: Path) -> None:
    start = {"monotonic_ns": 100 * _SECOND_NS, "every_s": 5.0, "stopped_ns": 1}
    (tmp_path / "start.json").write_text(json.dumps(start), "utf-8")
    [quality] = decoded(tmp_path, [rung(0), rung(4)])["recording_quality"]
    assert (quality["taken"], quality["expected"]) == (2, 12)
    assert "Record for longer" in quality["note"]


def test_what_the_code_says_is_a_row_each(tmp_path: Path) -> None:
    said = {"id": "0x7f.0", "role": "bounds", "function": "Cache.put", "file": "/srv/shop/app/cache.py", "line": 7,
            "limit_items": 500, "ttl_s": None, "same_class": True, "has_run": False}  # fmt: skip
    code = {"code": [said], "looked_at": 1, "note": "not all of it was read", "cost_ns": 5}
    tables = decoded(tmp_path, [rung(0), rung(1), code])
    [row] = tables["container_code"]
    assert row == {"pid": 7, "container": "0x7f.0", **{key: said[key] for key in said if key != "id"}} | {
        "file": "app/cache.py"
    }
    [quality] = tables["recording_quality"]
    assert quality["taken"] == 2
    assert "Of the code, not all of it was read." in quality["note"]


def test_nothing_recorded_is_no_error(tmp_path: Path) -> None:
    tables = decoded(tmp_path, [])
    assert tables["object_census"] == []
    assert tables["recording_quality"][0]["taken"] == 0
