"""What the bytecode says of a container: who puts in, who takes out, how far it may grow, on every version."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from perfkit.attach.rendezvous import probe_source
from tests.attach_targets import interpreter

_TARGETS = Path(__file__).parents[1] / "targets" / "containers"


@pytest.fixture(scope="module", params=["3.10", "3.11", "3.12", "3.13"])
def looked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is found about `patterns`, and what should be, in each version."""
    census, look = (tmp_path_factory.mktemp("probe") / name for name in ("census.py", "look.py"))
    census.write_bytes(probe_source("census"))
    look.write_bytes(probe_source("container_code"))
    command = [str(interpreter(request.param)), str(_TARGETS / "look.py"), str(census), str(look)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    assert found["note"] is None
    return found


def rows(looked: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [row for row in looked["rows"] if row["id"] == name]


def test_each_function_that_deals_with_a_container_is_named_with_its_role(looked: dict[str, Any]) -> None:
    found = {name: sorted({(row["role"], row["function"]) for row in rows(looked, name)}) for name in looked["cases"]}
    expected = {
        name: sorted((role, function) for role, functions in roles.items() for function in functions)
        for name, (roles, _limit, _ttl) in looked["cases"].items()
    }
    assert len(expected) >= 25
    assert found == expected


def test_limits_are_read_from_constants_globals_classes_and_objects(looked: dict[str, Any]) -> None:
    found = {
        name: [row["limit_items"] for row in rows(looked, name) if row["role"] == "bounds"] for name in looked["cases"]
    }
    expected = {name: limit for name, (_roles, limit, _ttl) in looked["cases"].items()}
    assert {name: max(filter(None, limits), default=None) for name, limits in found.items()} == expected


def test_times_to_live_are_read_too(looked: dict[str, Any]) -> None:
    found = {name: [row["ttl_s"] for row in rows(looked, name) if row["role"] == "expires"] for name in looked["cases"]}
    expected = {name: ttl for name, (_roles, _limit, ttl) in looked["cases"].items()}
    assert {name: max(filter(None, ttls), default=None) for name, ttls in found.items()} == expected


def test_lines_are_those_of_the_source(looked: dict[str, Any]) -> None:
    source = (_TARGETS / "patterns.py").read_text("utf-8").splitlines()
    own = [row for row in looked["rows"] if row["file"].endswith("patterns.py")]
    assert own
    for row in own:
        if source[row["line"] - 1].lstrip().startswith("@"):
            assert f"def {row['function'].rpartition('.')[2]}(" in source[row["line"]]
            continue
        above = source[: row["line"]]
        indent = len(above[-1]) - len(above[-1].lstrip())
        around = [each for each in above if len(each) - len(each.lstrip()) < indent and "def " in each]
        assert f"def {row['function'].rpartition('.')[2]}(" in around[-1], row


def test_nothing_of_the_target_is_run(looked: dict[str, Any]) -> None:
    assert looked["ran"] == []
