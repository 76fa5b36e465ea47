"""A snapshot of this very interpreter, written and read again; files that were cut off; room for a copy."""

import gc
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from perfkit.attach.cgroup import MemoryCgroup, MemoryReading
from perfkit.clock import Clock
from perfkit.collectors import Raw, object_graph
from perfkit.collectors.object_graph import COLLECTOR
from perfkit.collectors.object_sites import match
from perfkit.probe.graph_parts.frames import Doubt
from perfkit.probe.graph_parts.walk import walk_heap
from perfkit.raw.graph_file import read_graph
from perfkit.symbols import Symbols
from perfkit.tables import HEAP_REFERENCES

PID = 7


class Kept:
    def __init__(self) -> None:
        self.name_of_it = ["item"]
        self.by_key = {"setting": 1.5, "a key with a secret": 2.5}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> tuple[Kept, Path]:
    """Return an object of ours, and the file of a snapshot that it is in."""
    kept = Kept()
    file = tmp_path_factory.mktemp("raw") / "graph-0.bin"
    with file.open("wb") as opened:
        for _slice in walk_heap(opened.write, 10**8, in_copy=False):
            pass
    return kept, file


def labels(references: pa.Table, holder: object) -> dict[int, str | None]:
    """Return the labels of what an object refers to, by identity."""
    rows = references.filter(pa.compute.equal(references["from_id"], id(holder)))
    return dict(zip(rows["to_id"].to_pylist(), rows["label"].to_pylist(), strict=True))


def test_an_object_is_told_with_its_type_size_and_references(snapshot: tuple[Kept, Path]) -> None:
    kept, file = snapshot
    graph = read_graph(file, PID, rung=3)
    assert graph.complete
    [row] = graph.objects.filter(pa.compute.equal(graph.objects["object_id"], id(kept))).to_pylist()
    assert row["type"] == f"{__name__}.Kept"
    assert (row["pid"], row["rung"]) == (PID, 3)
    itself = sys.getsizeof(kept)
    assert itself <= row["size_bytes"] <= itself + 48, "with what two attributes take beside it"
    found = labels(graph.references, kept)
    attributes = found if id(kept.name_of_it) in found else labels(graph.references, vars(kept))
    assert attributes[id(kept.name_of_it)] == ".name_of_it"


def test_keys_of_data_are_told_only_where_they_look_like_names(snapshot: tuple[Kept, Path]) -> None:
    kept, file = snapshot
    references = read_graph(file, PID, rung=0).references
    found = labels(references, kept.by_key)
    assert found[id(kept.by_key["setting"])] == "['setting']"
    assert found[id(kept.by_key["a key with a secret"])] is None
    assert not any("with a secret" in text for text in pa.compute.unique(references["label"]).to_pylist() if text)
    assert b"a key with a secret" not in file.read_bytes()


def test_reference_counts_add_up(snapshot: tuple[Kept, Path]) -> None:
    """Of most types no reference is missed: else everything would seem to be held by C code."""
    graph = read_graph(snapshot[1], PID, rung=0)
    objects, references = graph.objects.to_pandas(), graph.references.to_pandas()
    seen = references["to_id"].value_counts()
    functions = objects[(objects["type"] == "builtins.function") & objects["refcount"].notna()]
    missing = functions["refcount"] - functions["object_id"].map(seen).fillna(0)
    assert (missing == 0).mean() > 0.95


class Liars(Doubt):
    """Holds frame objects of some generators for lies, all others for true."""

    def __init__(self, *liars: object) -> None:
        self.liars = liars

    def stands_for(self, frame: object, generator: object) -> bool:
        return generator not in self.liars

    def keeps_its_own(self, frame: object) -> bool:
        return False


def generate() -> Iterator[None]:
    held = Kept()
    yield
    held.name_of_it.clear()


def test_of_a_frame_that_lies_nothing_is_asked(tmp_path: Path) -> None:
    honest, liar = generate(), generate()
    for each in (honest, liar):
        next(each)
    file = tmp_path / "graph-0.bin"
    with file.open("wb") as opened:
        for _slice in walk_heap(opened.write, 10**8, in_copy=False, doubt=Liars(liar)):
            pass
    graph = read_graph(file, PID, rung=0)
    assert graph.complete
    assert "held" in labels(graph.references, honest).values()
    assert "held" not in labels(graph.references, liar).values()


def test_a_running_frame_that_lies_hides_those_that_called_it(tmp_path: Path) -> None:
    file = tmp_path / "graph-0.bin"

    def names(*liars: object) -> list[str]:
        with file.open("wb") as opened:
            for _slice in walk_heap(opened.write, 10**8, in_copy=False, doubt=Liars(*liars)):
                pass
        return [str(row["name"]) for row in read_graph(file, PID, rung=0).objects.to_pylist() if row["root"] == "frame"]

    def run() -> Iterator[list[str]]:
        yield names()
        yield names(running)

    running = run()
    seen, hidden = running
    # By its last part only: up to 3.10 code does not know the class or function that it is in.
    called = [sum("running_frame_that_lies" in each for each in found) for found in (seen, hidden)]
    assert called[0] > called[1]


def test_frame_objects_of_our_own_tell_the_truth_and_say_whether_they_keep_their_variables() -> None:
    doubt = Doubt()
    generators = [generate() for _ in range(3)]
    frames = [next(each) or each.gi_frame for each in generators]
    are_readable = sys.version_info >= (3, 11)
    assert [doubt.stands_for(f, g) for f, g in zip(frames, generators, strict=True)] == [are_readable] * 3
    assert not doubt.stands_for(frames[0], generators[1])
    assert not doubt.keeps_its_own(frames[0])
    generators.clear()
    assert doubt.keeps_its_own(frames[0]) == are_readable


def test_the_probe_leaves_the_collector_as_it_was(snapshot: tuple[Kept, Path]) -> None:
    assert gc.isenabled()


@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
def test_a_file_that_was_cut_off_is_left_out_and_said_so(
    snapshot: tuple[Kept, Path], part: float, tmp_path: Path
) -> None:
    content = snapshot[1].read_bytes()
    (tmp_path / "graph-0.bin").write_bytes(content[: int(len(content) * part)])
    tables = COLLECTOR.decode(Raw(tmp_path, PID, Clock(0, 0), Symbols(), until_ns=1))
    [quality] = tables["recording_quality"].to_pylist()
    assert tables["heap_objects"].num_rows == tables["heap_references"].num_rows == 0
    assert (quality["taken"], quality["lost"]) == (0, 1)
    assert "cut off" in quality["note"]


def test_a_target_that_ended_too_early_has_no_snapshot(tmp_path: Path) -> None:
    (tmp_path / "start.json").write_text(json.dumps({"monotonic_ns": 5, "stopped_ns": 2}), "utf-8")
    [quality] = COLLECTOR.decode(Raw(tmp_path, PID, Clock(0, 0), Symbols(), until_ns=9))[
        "recording_quality"
    ].to_pylist()
    assert (quality["taken"], quality["lost"], quality["stopped_ns"]) == (0, 1, 2)
    assert "ended" in quality["note"]


@pytest.mark.parametrize(
    ("limit_gib", "fits"),
    [
        pytest.param(None, True, id="no-limit"),
        pytest.param(64, True, id="a-wide-limit"),
        pytest.param(1.1, False, id="a-limit-that-the-copy-would-break"),
    ],
)
def test_a_copy_is_made_only_where_the_cgroup_has_room(
    limit_gib: float | None, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = MemoryReading(1 << 30, 0, None if limit_gib is None else int(limit_gib * 2**30))

    class Cgroup:
        def read(self) -> MemoryReading:
            return reading

    monkeypatch.setattr(object_graph, "memory_cgroup", lambda pid: Cgroup())
    ourselves: Any = SimpleNamespace(pid="self")
    assert object_graph.has_room(ourselves) == fits


@pytest.mark.parametrize(
    ("quota", "share"),
    [
        pytest.param("max 100000", 1.0, id="no-quota"),
        pytest.param("50000 100000", 0.125, id="half-a-cpu"),
        pytest.param("1600000 100000", 1.0, id="more-than-it-can-use"),
    ],
)
def test_a_copy_takes_a_quarter_of_the_cpu_quota_at_most(
    quota: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "cpu.max").write_text(quota + "\n", "ascii")
    (tmp_path / "service" / "cpu.max").write_text("max 100000\n", "ascii")
    cgroup = MemoryCgroup(tmp_path / "service", tmp_path, 2)
    monkeypatch.setattr(object_graph, "memory_cgroup", lambda pid: cgroup)
    ourselves: Any = SimpleNamespace(pid=1)
    assert object_graph.copy_share(ourselves) == share


def test_a_type_is_joined_at_the_offset_that_fits_most_of_its_objects() -> None:
    import numpy as np

    ids = np.array([132, 232, 332, 1000, 2000])
    types = np.array([0, 0, 0, 1, 1])
    addresses, stacks = np.array([100, 200, 316, 1000, 2000]), np.array([1, 2, 3, 4, 5])
    assert match(ids, types, addresses, stacks).tolist() == [1, 2, 0, 4, 5]


def test_a_table_that_is_in_order_is_not_sorted_again() -> None:
    rows = [
        {"pid": pid, "rung": 0, "from_id": number, "to_id": place}
        for place, (pid, number) in enumerate([(1, 9), (1, 9), (2, 3), (1, 4)])
    ]
    in_order = HEAP_REFERENCES.from_rows(rows[:3])
    assert HEAP_REFERENCES.sorted(in_order) is in_order
    assert HEAP_REFERENCES.from_rows(rows)["to_id"].to_pylist() == [3, 0, 1, 2]
