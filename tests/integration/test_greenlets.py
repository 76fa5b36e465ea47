"""Programs whose threads are greenlets of one: the probe must not become another, which would hold up all of them."""

import sys
from pathlib import Path

import pytest

from perfkit.recorder import Settings, Silent
from perfkit.recordings import record_pid
from tests.attach_targets import running

pytestmark = [pytest.mark.attach, pytest.mark.timeout(90)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("own", [(), ("probe",)], ids=["attached", "lets-recorders-in-itself"])
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_a_loop_of_greenlets_goes_on_while_it_is_recorded(library: str, own: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("gevent")
    with running("greenlets.py", library, *own, python=Path(sys.executable)) as target:
        target.look()
        watched = ("python_threads", "gc", "object_census", "python_memory")
        profile = record_pid(target.target.pid, Settings(tmp_path / "x", 4.0, watched), Silent())
        assert target.look()["stood_still_ms"] < 1000
    assert profile.manifest.complete, profile.manifest.missing
    for table in ("python_threads", "gc_pauses", "object_census"):
        assert profile.table(table).num_rows > 0, table
