"""Decoding what py-spy left behind, from a small committed recording and from damaged copies of it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from perfkit.attach import pyspy
from perfkit.attach.errors import UnsupportedInterpreter
from perfkit.attach.target import Target
from perfkit.clock import Clock
from perfkit.collectors import Raw
from perfkit.collectors.pyspy_stacks import COLLECTOR
from perfkit.symbols import Symbols
from perfkit.tables import CPU_SAMPLES, RECORDING_QUALITY

RECORDED = Path(__file__).parents[2] / "data" / "pyspy" / "three_windows"
FACTS = json.loads((RECORDED / "facts.json").read_text())
PERIOD_NS = 20_000_000


class Decoded:
    """A decoded folder, with the names behind the numbers."""

    def __init__(self, folder: Path, until_ns: int = FACTS["until_ns"]) -> None:
        symbols = Symbols()
        clock = Clock(monotonic_ns=FACTS["clock_ns"], unix_ns=0)
        tables = COLLECTOR.decode(Raw(folder, FACTS["pid"], clock, symbols, until_ns))
        assert tables["cpu_samples"].schema == CPU_SAMPLES.schema
        assert tables["recording_quality"].schema == RECORDING_QUALITY.schema
        [self.quality] = tables["recording_quality"].to_pylist()
        dictionaries = symbols.tables()
        self.threads = dictionaries["threads"].to_pandas().set_index("name")
        frames = dictionaries["frames"].to_pylist()
        stacks = dictionaries["stacks"].to_pylist()
        self.samples: pd.DataFrame = tables["cpu_samples"].to_pandas()
        self.samples["stack"] = [
            tuple(frames[frame]["function"] for frame in stacks[stack]["frame_ids"])
            for stack in self.samples["stack_id"]
        ]
        self.files = {frame["file"] for frame in frames}

    def of(self, thread: str) -> pd.DataFrame:
        """Return the samples of one thread."""
        return self.samples[self.samples["thread_id"] == self.threads.loc[thread, "thread_id"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the recording, to be damaged."""
    return Path(shutil.copytree(RECORDED, tmp_path / "raw"))


def change(file: Path, **facts: Any) -> None:
    """Change facts of a sidecar; None removes one."""
    changed = json.loads(file.read_text()) | facts
    file.write_text(json.dumps({name: value for name, value in changed.items() if value is not None}))


def test_every_thread_has_one_sample_per_tick_while_it_lives() -> None:
    decoded = Decoded(RECORDED)
    for thread in ("MainThread", 'side };{ "x"'):
        ticks = decoded.of(thread)["tick_ns"].to_numpy()
        assert (np.diff(ticks) == PERIOD_NS).all(), thread
        assert ticks[0] < 100_000_000
        assert ticks[-1] > FACTS["until_ns"] - 100_000_000
    assert (decoded.samples["tick_ns"] % PERIOD_NS == 0).all()
    assert (decoded.samples["weight_ns"] == PERIOD_NS).all()
    assert decoded.samples["tick_ns"].is_monotonic_increasing


def test_a_thread_that_ended_does_not_last_until_the_window_ends() -> None:
    decoded = Decoded(RECORDED)
    [brief] = [samples for _, samples in decoded.samples.groupby("thread_id") if "brief" in samples["stack"].iloc[0]]
    assert 20_000_000 <= brief["weight_ns"].sum() <= 600_000_000


def test_hostile_names_come_through_as_they_are() -> None:
    decoded = Decoded(RECORDED)
    assert any("evil\u2028</script><img src=x onerror=alert(1)>" in stack for stack in decoded.samples["stack"])
    assert 'app/we;ird "file" (1).py' in decoded.files


def test_recursion_stays_on_the_stack() -> None:
    stacks = Decoded(RECORDED).of("MainThread")["stack"]
    assert ("<module>", *["recurse"] * 4, "work") in set(stacks)


def test_the_gil_is_known_only_where_a_snapshot_saw_it() -> None:
    samples = Decoded(RECORDED).samples
    snapshots = len((RECORDED / "dumps.ndjson").read_text().splitlines())
    assert 0 < samples["has_gil"].notna().sum() <= snapshots * 3


def test_quality_counts_ticks() -> None:
    quality = Decoded(RECORDED).quality
    assert quality["expected"] == pytest.approx(FACTS["until_ns"] / PERIOD_NS, abs=5)
    assert quality["taken"] + quality["lost"] == quality["expected"]
    assert quality["lost"] == 0
    assert quality["stopped_ns"] is None
    assert quality["cost_ns"] is None


def test_decoding_twice_gives_the_same() -> None:
    pd.testing.assert_frame_equal(Decoded(RECORDED).samples, Decoded(RECORDED).samples)


def test_nothing_lies_behind_the_end_of_the_recording() -> None:
    decoded = Decoded(RECORDED, until_ns=700_000_000)
    assert decoded.samples["tick_ns"].max() < 700_000_000
    assert decoded.quality["until_ns"] <= 700_000_000
    assert decoded.quality["lost"] == 0


def test_a_window_that_was_never_written_is_lost_time(folder: Path) -> None:
    (folder / "window-001.json").unlink()
    change(folder / "window-001.meta.json", said=None, exit_code=None, ended_ns=None)
    decoded = Decoded(folder)
    assert decoded.quality["lost"] == pytest.approx(0.9 * 50, abs=8)
    assert "window 1 is lost: py-spy did not finish its file" in decoded.quality["note"]
    assert (np.diff(decoded.of("MainThread")["tick_ns"]) > 500_000_000).sum() == 1


def test_a_window_that_was_cut_keeps_what_is_whole(folder: Path) -> None:
    text = (folder / "window-000.json").read_text()
    (folder / "window-000.json").write_text(text[: len(text) // 2])
    decoded = Decoded(folder)
    assert "window 0 is cut short" in decoded.quality["note"]
    assert 0 < decoded.quality["lost"] < 50
    assert decoded.of("MainThread")["tick_ns"].iloc[0] < 100_000_000


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("{}", id="not-a-list"),
        pytest.param("[1, 2]", id="not-events"),
        pytest.param('[{"ph": "B"}]', id="events-without-fields"),
        pytest.param("[]", id="no-events"),
        pytest.param("\x00\x01", id="binary"),
    ],
)
def test_a_damaged_window_costs_only_itself(folder: Path, text: str) -> None:
    (folder / "window-001.json").write_text(text)
    decoded = Decoded(folder)
    assert "window 1 is " in decoded.quality["note"]
    assert decoded.quality["lost"] > 30
    assert len(decoded.of("MainThread")) > 50


def test_a_folder_with_nothing_in_it_is_an_empty_recording(tmp_path: Path) -> None:
    decoded = Decoded(tmp_path)
    assert decoded.samples.empty
    assert decoded.quality["taken"] == 0
    assert decoded.quality["lost"] == decoded.quality["expected"] > 0


def test_without_cpu_times_activity_is_unknown_but_for_known_waits(folder: Path) -> None:
    (folder / "threads.csv").unlink()
    decoded = Decoded(folder)
    assert decoded.of("MainThread")["active"].isna().all()
    side = decoded.of('side };{ "x"')
    waits = side["stack"].map(lambda stack: stack[-1].endswith("wait"))
    assert (side["active"][waits] == False).all()  # noqa: E712
    assert side["active"][~waits].isna().all()


def test_lines_that_were_being_written_are_left_out(folder: Path) -> None:
    for name in ("threads.csv", "dumps.ndjson"):
        text = (folder / name).read_text()
        (folder / name).write_text(text[:-9])
    assert len(Decoded(folder).samples) == len(Decoded(RECORDED).samples)


def test_errors_of_py_spy_are_lost_samples(folder: Path) -> None:
    change(folder / "window-000.meta.json", said="py-spy> Wrote chrome trace to 'x'. Samples: 90 Errors: 7\nmore")
    quality = Decoded(folder).quality
    assert quality["lost"] == 7
    assert "py-spy failed to read 7 samples" in quality["note"]


def target(**facts: Any) -> Target:
    """A target that need not exist."""
    plain = {
        "pid": 1,
        "parent": 0,
        "started_ticks": 0,
        "program": "app",
        "executable": Path("/"),
        "libpython": Path("/"),
    }
    return Target(**(plain | facts))


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        pytest.param({"python": (3, 13, 0), "free_threaded": True}, "without the GIL", id="free-threaded"),
        pytest.param({"python": (3, 17, 1)}, "up to 3.15", id="too-new"),
    ],
)
def test_interpreters_that_py_spy_cannot_read_are_refused(facts: dict[str, Any], says: str) -> None:
    problem = COLLECTOR.problem(target(**facts))
    assert isinstance(problem, UnsupportedInterpreter)
    assert says in str(problem)
    assert "--collect" in problem.hint


def test_a_missing_py_spy_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyspy, "binary", lambda: None)
    problem = COLLECTOR.problem(target(python=(3, 12, 1)))
    assert isinstance(problem, pyspy.PySpyMissing)
    assert "pip install py-spy" in problem.hint


@pytest.mark.parametrize(
    ("python", "cautioned"),
    [pytest.param((3, 14, 4), False, id="before"), pytest.param((3, 14, 5), True, id="since")],
)
def test_patch_releases_that_slow_py_spy_down_are_known(python: tuple[int, int, int], cautioned: bool) -> None:
    assert (pyspy.caution(target(python=python)) is not None) == cautioned
