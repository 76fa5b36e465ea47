"""Comparing real recordings of the reference proxy that differ in one fault."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from perfkit.cli import main
from perfkit.profile import Profile
from perfkit.recorder import Settings
from perfkit.recordings import record_scenario

pytestmark = [pytest.mark.attach, pytest.mark.recording, pytest.mark.slow, pytest.mark.timeout(240)]
LENGTH_S = 20.0
"""Less than the rule needs after its warm-up would prove nothing."""


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Profile]:
    """Return a recording of a healthy proxy and of one that keeps every session."""
    folder = tmp_path_factory.mktemp("profiles")
    return {
        name: record_scenario(name, Settings(output=folder / name, duration_s=LENGTH_S))
        for name in ("healthy", "heap_leak_sessions")
    }


def compared(base: Path, head: Path) -> tuple[int, dict[str, Any]]:
    """Return exit code and answer of the command line."""
    result = CliRunner().invoke(main, ["compare", str(base), str(head), "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout)


def test_the_fault_is_told_as_a_regression(profiles: dict[str, Profile]) -> None:
    code, answer = compared(profiles["healthy"].path, profiles["heap_leak_sessions"].path)
    assert (code, answer["verdict"]) == (1, "regression")
    [fault] = [each for each in answer["differences"] if each["what"].startswith("proxy.")]
    assert (fault["what"], fault["head"]) == ("proxy.faults", '{"sessions": true}')
    [growth] = answer["growth"]
    assert growth["outcome"] == "worse"
    assert growth["head"]["site"]["function"] == "remember"
    assert growth["head"]["type"] == "perfkit.proxy.faults.Session"
    assert answer["heap"]["line_paces"][0]["name"] == "remember"


def test_taking_it_out_is_told_as_fixed(profiles: dict[str, Profile]) -> None:
    code, answer = compared(profiles["heap_leak_sessions"].path, profiles["healthy"].path)
    assert answer["title"].startswith("Better: the growth is gone"), answer["title"]
    assert (code, answer["verdict"]) == (0, "improvement")
    [growth] = answer["growth"]
    assert growth["outcome"] == "fixed"
    assert growth["watched_s"] > 12
    assert growth["smallest_seen"] < 0.2 * growth["base_rate"][0]
