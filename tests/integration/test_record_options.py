"""What `perfkit record` may cost the target, and what it may fetch for it."""

import sys
from pathlib import Path
from typing import Any

import pytest

import perfkit
from perfkit.attach import memray_builds
from perfkit.attach.target import Target
from perfkit.errors import UsageError
from perfkit.profile import Profile
from perfkit.recorder import Settings, Silent
from perfkit.recordings import record_pid
from tests.attach_targets import interpreter, running, same_version

pytestmark = [pytest.mark.attach, pytest.mark.timeout(120)]


class Listener(Silent):
    """Progress that remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Keep the line."""
        self.said.append(text)


def cost_s(profile: Profile) -> float:
    """Return what all collectors say they cost the target."""
    quality = profile.frame("recording_quality")
    return float(quality["cost_ns"].fillna(0).sum()) / 1e9


@pytest.mark.quiet
def test_a_recording_keeps_to_its_budget_and_says_what_it_cost(tmp_path: Path) -> None:
    progress = Listener()
    with running("shop.py", "200000", python=same_version()) as target:
        collect = ("object_census", "python_threads", "gc")
        free = record_pid(target.target.pid, Settings(tmp_path / "free", 12.0, collect), progress)
        held = record_pid(target.target.pid, Settings(tmp_path / "held", 12.0, collect, budget=0.01), progress)
    assert cost_s(free) / free.duration_s > 0.02, "else the budget would not be tried"
    assert cost_s(held) < cost_s(free) / 2
    [summary] = [text for text in progress.said if text.startswith("Recording cost")]
    assert "the budget was 1.0%" in summary
    assert summary in held.frame("events")["name"].to_list()


def test_without_a_budget_nothing_is_slowed_down(tmp_path: Path) -> None:
    progress = Listener()
    with running("shop.py", python=same_version()) as target:
        record_pid(target.target.pid, Settings(tmp_path / "p", 3.0, ("object_census",)), progress)
    assert not any("budget" in text or "further apart" in text for text in progress.said)


@pytest.mark.parametrize("is_there", [True, False], ids=["fetched", "not-to-be-had"])
def test_memray_for_another_interpreter_is_fetched_when_that_is_allowed(
    is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked: list[Target] = []

    def fetch(target: Target) -> Path:
        asked.append(target)
        if not is_there:
            raise memray_builds.FetchFailed("pip has no memray for Python 3.12")
        # Not a memray: what matters is that it is looked for again after it was fetched.
        (memray_builds._folder(target) / "memray").mkdir(parents=True)
        (memray_builds._folder(target) / "memray" / "__init__.py").write_text("raise ImportError('a stand-in')")
        return memray_builds._folder(target)

    monkeypatch.setattr(memray_builds, "fetch", fetch)
    progress = Listener()
    version = "3.12" if sys.version_info[:2] != (3, 12) else "3.11"
    with running("alone.py", python=interpreter(version)) as target:
        profile = record_pid(target.target.pid, Settings(tmp_path / "p", 1.0, fetch=True), progress)
        assert [each.pid for each in asked] == [target.target.pid]
    said = " ".join(progress.said)
    assert ("a stand-in" in said) == is_there
    assert ("pip has no memray" in said) == (not is_there)
    assert (f"perfkit doctor --pid {asked[0].pid} --fix" in said) == (not is_there)
    assert profile.frame("object_census").shape[0] > 0, "the rest is recorded all the same"


def test_a_notebook_records_a_process_by_its_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running("shop.py", python=same_version()) as target:
        profile = perfkit.record(
            target.target.pid,
            2,
            output=tmp_path / "p",
            collect=["gc", "object_census"],
            options={"object_census": {"rungs": 3}},
        )
        assert target.process.poll() is None
    assert profile.pids == [target.target.pid]
    assert 1.9 <= profile.duration_s <= 10
    assert {"gc_pauses", "object_census"} <= profile.manifest.collectors.keys()
    assert profile.manifest.collectors["object_census"]["rungs"] == 3
    assert "pyspy_stacks" not in profile.manifest.collectors
    shown = capsys.readouterr()
    assert "recording for 2 s" in shown.err
    assert shown.out == ""


def test_a_notebook_records_a_command_until_it_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = "import time; time.sleep(1.5); print('was here', flush=True)"
    profile = perfkit.record([sys.executable, "-c", script], output=tmp_path / "p", collect="gc", quiet=True)
    assert profile.manifest.complete, profile.manifest.missing
    assert 1 <= profile.duration_s <= 10
    assert "recording" not in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [{}, {"target": 1, "scenario": "healthy"}, {"target": 1, "duration": "soon"}])
def test_a_recording_of_nothing_is_refused_in_words(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        perfkit.record(**wrong)
