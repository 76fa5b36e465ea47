"""Recorders of the probe are switched on and off while others run, and never make the target wait."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from perfkit.attach.memray_builds import build_for
from perfkit.attach.session import Session
from tests.attach_targets import Running, eventually, running, same_version
from tests.collecting import LOOPS, ask

pytestmark = pytest.mark.attach

RECORDERS: dict[str, dict[str, Any]] = {
    "census": {"every_s": 0.1},
    "gc_events": {"counts_per_s": 50.0, "drains_per_s": 20.0},
    "ledger": {"every_s": 0.05},
    "loop_lag": {"asks_per_s": 50.0, "sends_per_s": 20.0},
    "tasks": {"every_s": 0.05},
    "threads": {"every_s": 0.05},
}


def rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows that were written whole."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]


def stay_within(target: Running, seconds: float) -> None:
    """Fail if the target takes longer to answer."""
    began = time.monotonic()
    ask(target, "look")
    assert time.monotonic() - began < seconds


@pytest.mark.parametrize("name", RECORDERS)
def test_a_recorder_is_switched_on_and_off_while_the_others_run(name: str, tmp_path: Path) -> None:
    with running(LOOPS, "asyncio", python=same_version()) as target, Session.open(target.target) as session:
        others = {other: tmp_path / other for other in RECORDERS if other != name}
        for other, file in others.items():
            session.start(other, stream=file, **RECORDERS[other])
        for number in range(3):
            file = tmp_path / f"{name}-{number}"
            session.start(name, stream=file, **RECORDERS[name])
            assert eventually(lambda file=file: len(rows(file)) >= 2, within_s=10)
            assert session.stop(name)["dropped"] == 0
            count = len(rows(file))
            seen = {other: len(rows(each)) for other, each in others.items()}
            assert eventually(
                lambda seen=seen: all(len(rows(each)) > seen[other] for other, each in others.items()), within_s=10
            ), "the others go on"
            assert len(rows(file)) == count, "it is silent when it is off"
        assert session.costs().keys() == others.keys()
        for other in others:
            session.stop(other)
        assert session.failures == {}


def test_memray_is_switched_on_and_off_and_on_again(tmp_path: Path) -> None:
    with running(LOOPS, "asyncio", python=same_version()) as target, Session.open(target.target) as session:
        session.start("tasks", stream=tmp_path / "tasks", every_s=0.05)
        for number in range(3):
            file = tmp_path / f"heap-{number}.bin"
            session.start("memray_capture", file=str(file), memray_folder=str(build_for(target.target)))
            assert session.stop("memray_capture")["ended"] == "asked to"
            assert file.stat().st_size > 0
        assert session.stop("tasks")["dropped"] == 0


def test_a_recorder_that_takes_nothing_never_makes_the_target_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = threading.Event()
    take = Session._take

    def slowly(self: Session, data: bytes) -> None:
        if b'"stream"' in data[:20]:
            may_go_on.wait(30)
        take(self, data)

    with running(LOOPS, "asyncio", python=same_version()) as target, Session.open(target.target) as session:
        monkeypatch.setattr(Session, "_take", slowly)
        resident = Path(f"/proc/{target.target.pid}/statm")
        before = int(resident.read_text().split()[1])
        session.start("echo", stream=tmp_path / "rows", rows=100_000, payload="x" * 10_000)
        for _ in range(20):
            stay_within(target, 2.0)
            time.sleep(0.05)
        grown_bytes = (int(resident.read_text().split()[1]) - before) * 4096
        assert grown_bytes < 32 << 20, "what waits is bounded"
        may_go_on.set()
        ended = session.stop("echo")
        assert 0 < ended["dropped"] < ended["emitted"]
        assert len(rows(tmp_path / "rows")) + ended["dropped"] == ended["emitted"], "every row is kept or counted"
