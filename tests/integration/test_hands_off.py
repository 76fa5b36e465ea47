"""The code of a target is read, never run: its lazy objects stay as lazy as they were, whatever is recorded."""

from pathlib import Path

import pytest

from perfkit.recorder import Settings, Silent
from perfkit.recordings import record_pid
from tests.attach_targets import every_version, interpreter, running

pytestmark = [pytest.mark.attach, pytest.mark.slow, pytest.mark.timeout(120)]


@every_version
def test_no_method_of_any_object_is_called(version: str, tmp_path: Path) -> None:
    """Frameworks have objects that load, connect or raise when they are asked anything, even their `__class__`."""
    with running("hands_off.py", python=interpreter(version)) as target:
        assert target.look() == {}
        profile = record_pid(target.target.pid, Settings(tmp_path / "x", 8.0), Silent())
        ran = target.look()
    assert ran == {}
    quality = profile.frame("recording_quality").set_index("collector")
    assert quality.taken["object_census"] >= 2, quality.note["object_census"]
    assert quality.taken["object_graph"] == 2, quality.note["object_graph"]
    assert quality.taken["cyclic_garbage"] > 0
    followed = profile.sql("select distinct owner from container_sizes where owner like '%HOLDER%'")
    assert len(followed) > 0, "what grows is found all the same"
