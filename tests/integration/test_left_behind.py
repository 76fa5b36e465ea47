"""What watching leaves in a target for its collector to find: a few modules' worth, however long it went on."""

import ast
from pathlib import Path

import pytest

from perfkit.recorder import Settings, Silent
from perfkit.recordings import record_pid
from tests.attach_targets import Running, every_version, interpreter, running

pytestmark = [pytest.mark.attach, pytest.mark.timeout(120)]

WATCHED = ("python_threads", "gc", "object_census", "asyncio_tasks", "loop_lag", "python_memory", "pool_events")


def garbage(target: Running) -> dict[str, int]:
    """Return what has become garbage in the target since it was asked last, by type."""
    assert target.process.stdin is not None
    assert target.process.stdout is not None
    target.process.stdin.write("look\n")
    target.process.stdin.flush()
    return dict(ast.literal_eval(target.process.stdout.readline()))


@every_version
def test_no_reading_leaves_garbage_behind(version: str, tmp_path: Path) -> None:
    """A frame that refers to itself keeps the frames of the target's threads alive until a full collection."""
    with running("rests.py", python=interpreter(version)) as target:
        assert garbage(target) == {}
        found = []
        for seconds in (3.0, 8.0):
            record_pid(target.target.pid, Settings(tmp_path / str(seconds), seconds, WATCHED), Silent())
            found.append(garbage(target))
    for each in found:
        assert "frame" not in each
        assert "Thread" not in each
    short, long = (sum(each.values()) for each in found)
    assert 0 < long < short + 100, found
