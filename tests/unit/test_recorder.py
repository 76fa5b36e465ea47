"""The recorder, with collectors that implement the real protocol and real target processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from perfkit import decode, recorder
from perfkit.attach.target import Target
from perfkit.collectors import Raw, Recording
from perfkit.decode import open_profile
from perfkit.errors import CannotRecord, NotAProfile, StillRecording, UnknownName
from perfkit.profile import Profile
from perfkit.recorder import Settings, Silent
from perfkit.recordings import record_pid
from perfkit.tables import RECORDING_QUALITY


class Beats:
    """A collector that counts its own starts and stops in its raw folder."""

    group = "process"
    writes = ()
    options: Mapping[str, Any] = {"breaks": False}
    on_request = False

    def __init__(self, name: str, group: str = "process", problem: Exception | None = None) -> None:
        self.name = name
        self.group = group
        self._problem = problem

    def problem(self, target: Target) -> Exception | None:
        return self._problem

    @contextmanager
    def record(self, recording: Recording) -> Iterator[None]:
        if recording.options["breaks"]:
            raise CannotRecord("it broke", hint="Mend it.")
        (recording.raw / "started").write_text(str(recording.clock.now_ns()))
        yield
        (recording.raw / "stopped").write_text(str(recording.clock.now_ns()))

    def decode(self, raw: Raw) -> dict[str, pa.Table]:
        if (raw.folder / "damaged").exists():
            raise ValueError("cut in the middle")
        began = int((raw.folder / "started").read_text())
        row = {
            "collector": self.name, "pid": raw.pid, "from_ns": began, "until_ns": raw.until_ns,
            "taken": 1, "lost": 0,
        }  # fmt: skip
        return {"recording_quality": RECORDING_QUALITY.from_rows([row])}


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the recorder know only the given collectors."""

    def only(*collectors: Beats) -> None:
        known = {collector.name: collector for collector in collectors}
        monkeypatch.setattr(recorder, "collectors", lambda: known)
        monkeypatch.setattr(decode, "collectors", lambda: known)

    return only


@pytest.fixture
def target() -> Iterator[subprocess.Popen[str]]:
    """A Python process that says when it is ready and ends when its input is closed."""
    code = "import sys; print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


def quality(profile: Profile) -> list[str]:
    """Return the collectors that left a quality row."""
    return sorted(profile.frame("recording_quality").collector)


def test_a_recording_becomes_a_read_only_profile(tmp_path: Path, use: Any, target: subprocess.Popen[str]) -> None:
    use(Beats("beats"), Beats("other", group="cpu"))
    profile = record_pid(target.pid, Settings(tmp_path / "p", duration_s=0.5))
    assert profile.manifest.complete
    assert profile.manifest.missing == ()
    assert profile.pids == [target.pid]
    assert 0.5 <= profile.duration_s < 2.0
    assert quality(profile) == ["beats", "other"]
    assert sorted(path.name for path in profile.path.iterdir()) == ["manifest.json", "tables"]


def test_only_what_was_asked_for_is_recorded(tmp_path: Path, use: Any, target: subprocess.Popen[str]) -> None:
    use(Beats("beats"), Beats("other", group="cpu"))
    profile = record_pid(target.pid, Settings(tmp_path / "p", duration_s=0.2, collect=("cpu",)))
    assert quality(profile) == ["other"]


def test_a_misspelt_collector_is_refused_before_anything_is_touched(
    tmp_path: Path, use: Any, target: subprocess.Popen[str]
) -> None:
    use(Beats("beats"))
    with pytest.raises(UnknownName, match="Did you mean 'beats'"):
        record_pid(target.pid, Settings(tmp_path / "p", collect=("beat",)))
    assert not (tmp_path / "p").exists()


def test_a_collector_that_cannot_work_is_left_out_and_said(
    tmp_path: Path, use: Any, target: subprocess.Popen[str]
) -> None:
    use(Beats("cpu", group="cpu"), Beats("heap", group="heap", problem=CannotRecord("no gdb", hint="Install gdb.")))
    profile = record_pid(target.pid, Settings(tmp_path / "p", duration_s=0.2))
    assert profile.manifest.missing == ("heap was left out: no gdb. Install gdb.",)
    assert not profile.manifest.complete


def test_a_collector_asked_for_by_name_that_cannot_work_is_an_error(
    tmp_path: Path, use: Any, target: subprocess.Popen[str]
) -> None:
    use(Beats("cpu", group="cpu"), Beats("heap", group="heap", problem=CannotRecord("no gdb", hint="Install gdb.")))
    with pytest.raises(CannotRecord, match="no gdb"):
        record_pid(target.pid, Settings(tmp_path / "p", collect=("heap",)))
    assert not (tmp_path / "p").exists()


def test_a_collector_that_breaks_at_the_start_does_not_cost_the_others_theirs(
    tmp_path: Path, use: Any, target: subprocess.Popen[str]
) -> None:
    use(Beats("beats"), Beats("other", group="cpu"))
    settings = Settings(tmp_path / "p", duration_s=0.2, options={"beats": {"breaks": True}})
    profile = record_pid(target.pid, settings)
    assert profile.manifest.missing == ("beats could not start: it broke. Mend it.",)
    assert quality(profile) == ["other"]


def test_when_nothing_can_start_the_folder_is_gone_again(
    tmp_path: Path, use: Any, target: subprocess.Popen[str]
) -> None:
    use(Beats("beats"))
    with pytest.raises(CannotRecord, match="no collector could be started") as error:
        record_pid(target.pid, Settings(tmp_path / "p", duration_s=0.2, options={"beats": {"breaks": True}}))
    assert "Mend it." in error.value.hint
    assert not (tmp_path / "p").exists()


def test_a_target_that_ends_ends_the_recording(tmp_path: Path, use: Any, target: subprocess.Popen[str]) -> None:
    class EndsTheTarget(Beats):
        @contextmanager
        def record(self, recording: Recording) -> Iterator[None]:
            with super().record(recording):
                assert target.stdin is not None
                target.stdin.close()
                yield

    use(EndsTheTarget("beats"))
    profile = record_pid(target.pid, Settings(tmp_path / "p", duration_s=30.0))
    assert profile.duration_s < 10
    [sentence] = profile.manifest.missing
    assert f"process {target.pid} ended" in sentence
    assert f"process {target.pid} ended" in set(profile.frame("events").name)


def test_damaged_data_of_one_collector_is_said_and_its_raw_data_kept(
    tmp_path: Path, use: Any, target: subprocess.Popen[str]
) -> None:
    class Damaged(Beats):
        @contextmanager
        def record(self, recording: Recording) -> Iterator[None]:
            with super().record(recording):
                (recording.raw / "damaged").touch()
                yield

    use(Damaged("beats"), Beats("other", group="cpu"))
    profile = record_pid(target.pid, Settings(tmp_path / "p", duration_s=0.2))
    assert quality(profile) == ["other"]
    assert profile.manifest.missing == ("what beats recorded could not be read: ValueError: cut in the middle",)
    assert (profile.path / "raw" / "beats").exists()


def test_interrupted_recordings_are_finished_on_the_next_open(
    tmp_path: Path, use: Any, target: subprocess.Popen[str]
) -> None:
    use(Beats("beats"))

    class Killed(BaseException):
        """Stands for the recorder's sudden end."""

    class Kills(recorder.Recorder):
        def finish(self) -> Profile:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perfkit.recordings.Recorder", Kills)
        with pytest.raises(Killed):
            record_pid(target.pid, Settings(tmp_path / "p", duration_s=0.5))
    assert not (tmp_path / "p" / "manifest.json").exists()

    profile = open_profile(tmp_path / "p")
    assert not profile.manifest.complete
    assert "the recorder was killed" in profile.manifest.missing[0]
    assert quality(profile) == ["beats"]
    assert open_profile(tmp_path / "p").manifest == profile.manifest


def test_a_folder_in_use_is_refused(tmp_path: Path, use: Any, target: subprocess.Popen[str]) -> None:
    class RecordsTwice(Beats):
        @contextmanager
        def record(self, recording: Recording) -> Iterator[None]:
            with super().record(recording), pytest.raises(StillRecording) as error:
                record_pid(target.pid, Settings(tmp_path / "p", duration_s=0.2))
            assert error.value.pid == os.getpid()
            yield

    use(RecordsTwice("beats"))
    assert record_pid(target.pid, Settings(tmp_path / "p", duration_s=0.2)).manifest.complete


def test_a_folder_without_a_profile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAProfile):
        open_profile(tmp_path)


def test_interrupting_keeps_what_was_recorded(tmp_path: Path, use: Any, target: subprocess.Popen[str]) -> None:
    class Interrupts(Beats):
        @contextmanager
        def record(self, recording: Recording) -> Iterator[None]:
            with super().record(recording):
                os.kill(os.getpid(), signal.SIGINT)
                yield

    said: list[str] = []

    class Listening(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    use(Interrupts("beats"))
    profile = record_pid(target.pid, Settings(tmp_path / "p", duration_s=30.0), Listening())
    assert "what was recorded is kept" in " ".join(said)
    assert profile.duration_s < 5
    assert quality(profile) == ["beats"]
    assert json.loads((profile.path / "manifest.json").read_text())["rows"] == {"events": 2, "recording_quality": 1}


def test_a_collector_on_request_runs_only_when_it_is_named(
    tmp_path: Path, use: Any, target: subprocess.Popen[str]
) -> None:
    costly = Beats("graph", group="objects")
    costly.on_request = True
    use(Beats("census", group="objects"), costly)
    assert quality(record_pid(target.pid, Settings(tmp_path / "a", duration_s=0.2))) == ["census"]
    assert quality(record_pid(target.pid, Settings(tmp_path / "b", 0.2, ("objects",)))) == ["census"]
    assert quality(record_pid(target.pid, Settings(tmp_path / "c", 0.2, ("objects", "graph")))) == ["census", "graph"]
