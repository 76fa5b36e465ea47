"""The hooks of the reference proxy's pool, by each way of watching functions: who was lent what, and at which line."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.attach_targets import interpreter

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "targets" / "pools" / "proxy_pool.py"


def line_of(name: str) -> int:
    """Return the line of the program where one of its requests asks for a connection."""
    return next(n for n, text in enumerate(PROGRAM.read_text().splitlines(), 1) if text.endswith(f"# HERE: {name}"))


@pytest.mark.parametrize(("version", "way"), [("3.11", "Wrapping"), ("3.12", "Monitoring"), ("3.13", "Monitoring")])
def test_who_is_lent_a_connection_at_once_and_who_has_to_wait(version: str, way: str) -> None:
    done = subprocess.run(
        [interpreter(version), PROGRAM, ROOT], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["by"] == way
    assert said["error"] == ""
    events = said["events"]
    assert [each["event"] for each in events] == ["acquired", "released", "acquired", "released"]
    first, _back, second, _again = events
    assert first["frame"] == ["first", str(PROGRAM), line_of("first")]
    assert second["frame"] == ["second", str(PROGRAM), line_of("second")]
    assert first["waited"] == 0 < second["waited"]
    assert first["holder"] != second["holder"]
    assert len({each["slot"] for each in events}) == 1
