"""What waits for the collector in a real process: found on every version, on or off, and left alone."""

from pathlib import Path
from typing import Any

import pytest

from perfkit.attach.session import Session
from perfkit.collectors.cyclic_garbage import COLLECTOR
from tests.attach_targets import Running, eventually, every_version, interpreter, running
from tests.collecting import GARBAGE, ask, collecting

pytestmark = [pytest.mark.attach, pytest.mark.timeout(120)]

OFTEN = {"every_s": 0.05, "max_share": 1.0}


def settled(target: Running) -> dict[str, Any]:
    """Return what a look could change in the process; modules of the standard library may come with a session."""
    seen: dict[str, Any] = ask(target, "look")
    return {name: seen[name] for name in ("threads", "descriptors", "gc_callbacks", "gc", "handlers")}


def has_nothing_more(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether nothing has changed but that descriptors and threads of getting in may have gone."""
    kept = {name: (before[name], after[name]) for name in before if name not in ("threads", "descriptors")}
    return (
        all(then == now for then, now in kept.values())
        and after["threads"] <= before["threads"]
        and len(after["descriptors"]) <= len(before["descriptors"])
    )


@every_version
def test_garbage_is_found_while_the_collector_is_off(version: str, tmp_path: Path) -> None:
    with running(GARBAGE, python=interpreter(version)) as target:
        ask(target, "tidy_up")
        ask(target, "change", "off")
        ask(target, "make", 300)
        with Session.open(target.target) as session:
            # What got the probe in may still be on its way out.
            assert eventually(lambda: settled(target) == settled(target))
            before = settled(target)
            with collecting(COLLECTOR, target, tmp_path, session, newest=100_000, **OFTEN) as collected:
                assert eventually(lambda: any(row["type"] for row in collected.rows("garbage")), within_s=20)
            assert eventually(lambda: has_nothing_more(before, settled(target))), (before, settled(target))
        freed = ask(target, "counted")
    found = [row for row in collected.rows("garbage") if row["type"] == "__main__.Node"]
    assert found[0]["objects"] == 300
    assert found[0]["size_bytes"] >= 300 * 32
    assert found[0]["generation"] == 0
    assert collected.quality["taken"] >= 1
    assert collected.quality["cost_ns"] > 0
    assert freed["collections"], "the program still answers"
    [limit] = [row for row in collected.rows("settings") if row["name"] == "process.descriptor_limit"]
    assert int(limit["value"]) > 0


def test_what_is_in_use_is_not_called_garbage(tmp_path: Path) -> None:
    with (
        running("../gc/in_use.py", python=interpreter("3.12")) as target,
        Session.open(target.target) as session,
        collecting(COLLECTOR, target, tmp_path, session, newest=100_000, **OFTEN) as collected,
    ):
        assert eventually(lambda: len(collected.rows("garbage")) >= 10, within_s=6)
    own = [row for row in collected.rows("garbage") if row["type"] and row["type"].startswith("__main__")]
    assert own == []
