"""An experiment on a real process: it tries what it says, and everything is back afterwards, however it ended."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from perfkit.decode import open_profile
from perfkit.profile import Profile
from perfkit.rules.gc_tuning import RULE
from tests.attach_targets import Running, eventually, interpreter, running
from tests.collecting import ask

pytestmark = [pytest.mark.attach, pytest.mark.timeout(150)]
SERVICES = "../gc/services"
QUICK = ("--window", "0.5s", "--washout", "0.2s", "--blocks", "2", "-q")
TRY = ("--thresholds", "5000", "--freeze")
BEFORE = ("thresholds", "enabled", "frozen", "callbacks")


def looked_at(target: Running) -> dict[str, Any]:
    """Return the settings as the program itself sees them."""
    seen = ask(target, "look")
    return {name: seen[name] for name in BEFORE}


@contextmanager
def experimenting(target: Running, output: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Yield a running `perfkit experiment gc`."""
    command = [sys.executable, "-m", "perfkit", "experiment", "gc", "--pid", str(target.target.pid), "-o", str(output)]
    process = subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_until_changed(target: Running, before: dict[str, Any]) -> None:
    """Return once the experiment has a setting of its own in the process."""
    assert eventually(lambda: looked_at(target)["thresholds"] != before["thresholds"], within_s=90)


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_settings_are_tried_and_back_at_the_end(version: str, tmp_path: Path) -> None:
    with running(f"{SERVICES}/above_knee.py", python=interpreter(version)) as target:
        before = looked_at(target)
        with experimenting(target, tmp_path / "e", *QUICK, *TRY) as process:
            _output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert looked_at(target) == before
    profile = Profile(tmp_path / "e")
    windows = profile.table("experiment_windows").to_pylist()
    tried = {row["setting"]: json.loads(row["read_back"]) for row in windows}
    assert len(windows) == 2 * 2 + 2 * 4
    assert tried["as it is now"]["thresholds"] == before["thresholds"]
    assert tried["gc.set_threshold(5000)"]["thresholds"] == [5000, *before["thresholds"][1:]]
    assert tried["gc.freeze()"]["frozen_objects"] > 1000
    assert tried["gc.freeze(); gc.set_threshold(5000)"]["frozen"]
    [finding] = RULE.check(profile)
    assert finding.evidence["experiment"]["restored"] is True


def test_what_the_process_froze_itself_stays_frozen(tmp_path: Path) -> None:
    with running(f"{SERVICES}/above_knee.py", python=interpreter("3.12")) as target:
        before = looked_at(target)
        assert before["frozen"], "this version freezes some objects when it starts"
        with experimenting(target, tmp_path / "e", *QUICK, *TRY) as process:
            _output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert looked_at(target) == before
    profile = Profile(tmp_path / "e")
    tried = {row["setting"] for row in profile.table("experiment_windows").to_pylist()}
    assert tried == {"as it is now", "as it is now, again", "gc.set_threshold(5000)"}
    notes = {row["collector"]: row["note"] for row in profile.table("recording_quality").to_pylist()}
    assert "Freezing was not tried" in notes["gc_experiment"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "recorder-killed"])
def test_settings_are_back_when_it_is_cut_off(how: signal.Signals, tmp_path: Path) -> None:
    with running(f"{SERVICES}/above_knee.py", python=interpreter("3.11")) as target:
        before = looked_at(target)
        with experimenting(target, tmp_path / "e", *QUICK, "--thresholds", "5000", "--blocks", "8") as process:
            wait_until_changed(target, before)
            process.send_signal(how)
            process.communicate(timeout=60)
            assert eventually(lambda: looked_at(target) == before, within_s=10)
    profile = open_profile(tmp_path / "e")
    if how is signal.SIGKILL:
        assert not profile.manifest.complete
    assert RULE.check(profile)[0].verdict != "fail"


@contextmanager
def answering() -> Iterator[str]:
    """Yield the address of an upstream that answers."""
    process = subprocess.Popen(
        [sys.executable, "-m", "perfkit.proxy.upstream", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}/"
    finally:
        process.terminate()
        process.communicate()


def load_of(experiment: "subprocess.Popen[str]") -> int | None:
    """Return the process id of the load that an experiment started."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == experiment.pid and b"perfkit.load" in (entry / "cmdline").read_bytes():
                return int(entry.name)
    return None


def test_settings_are_back_when_the_load_dies(tmp_path: Path) -> None:
    with answering() as url, running(f"{SERVICES}/above_knee.py", python=interpreter("3.11")) as target:
        before = looked_at(target)
        arguments = (*QUICK, "--thresholds", "5000", "--blocks", "8", "--load", url, "--rate", "20")
        with experimenting(target, tmp_path / "e", *arguments) as process:
            wait_until_changed(target, before)
            load = load_of(process)
            assert load is not None
            os.kill(load, signal.SIGKILL)
            assert eventually(lambda: looked_at(target)["thresholds"] == before["thresholds"], within_s=10)
            time.sleep(1.5)  # it must stay so: nothing is tried any more
            assert looked_at(target)["thresholds"] == before["thresholds"]
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        assert looked_at(target) == before
    [finding] = RULE.check(open_profile(tmp_path / "e"))
    assert "the load ended" in finding.title


def test_a_process_without_any_need_is_left_as_it_is(tmp_path: Path) -> None:
    with running(f"{SERVICES}/quiet.py", python=interpreter("3.11")) as target:
        before = looked_at(target)
        with experimenting(target, tmp_path / "e", *QUICK) as process:
            __output, errors = process.communicate(timeout=120)
        assert process.returncode == 3
        assert "No change needed" in errors
        assert looked_at(target) == before
    assert not (tmp_path / "e").exists()


def test_memory_that_passes_its_limit_ends_it_at_once(tmp_path: Path) -> None:
    from perfkit.attach.session import Session

    with (
        running(f"{SERVICES}/quiet.py", python=interpreter("3.12")) as target,
        Session.open(target.target) as session,
    ):
        before = looked_at(target)
        session.start("gc_settings", stream=tmp_path / "rows", max_rss_bytes=1 << 20, every_s=0.05)
        session.call("gc_settings", thresholds=[9000, 9, 9])
        assert eventually(lambda: looked_at(target)["thresholds"] == before["thresholds"])
        told = session.call("gc_settings", thresholds=[9000, 9, 9])
        assert "resident memory" in told["ended"]
        assert told["thresholds"] == before["thresholds"], "nothing is tried any more"
        session.stop("gc_settings")


def test_what_the_program_sets_itself_is_respected(tmp_path: Path) -> None:
    from perfkit.attach.session import Session

    with running("../gc/garbage.py", python=interpreter("3.11")) as target, Session.open(target.target) as session:
        session.start("gc_settings", stream=tmp_path / "rows")
        session.call("gc_settings", thresholds=[9000, 9, 9])
        ask(target, "change", "on", 1234, 5, 6)
        told = session.call("gc_settings", thresholds=[8000, 8, 8])
        assert "itself" in told["ended"]
        assert session.stop("gc_settings")["thresholds"] == [1234, 5, 6]
