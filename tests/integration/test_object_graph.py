"""Snapshots of real processes: what holds what is found, and nobody notices that they were taken."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from perfkit.analysis.heap_graph import HeapGraph
from perfkit.analysis.heap_growth import heap_growth
from perfkit.analysis.retainers import newcomers, retainer
from perfkit.attach.session import Session
from perfkit.attach.target import children, inspect
from perfkit.clock import Clock
from perfkit.collectors import Raw, Recording
from perfkit.collectors.object_graph import COLLECTOR
from perfkit.symbols import Symbols
from tests.attach_targets import Running, eventually, every_version, interpreter, running, same_version

pytestmark = pytest.mark.attach

HEAP = Path(__file__).parents[1] / "targets" / "heap"
PID = 7

HELD = {
    "InModule": ("module __main__", "SERVICE", ".sessions", "['by_user']", "list item", "InModule"),
    "InSlots": ("module __main__", "SERVICE", ".slotted", ".payload", "list item", "InSlots"),
    "InClosure": ("module __main__", "closure", "lines", "list item", "InClosure"),
    "InGenerator": ("module __main__", "generator", "kept", "list item", "InGenerator"),
    "InTask": ("task worker", "waiting", "list item", "InTask"),
    "InThread": ("frame __main__.threaded", "in_thread", "list item", "InThread"),
    "InNativeCode": ("native code, builtins.list", "list item", "InNativeCode"),
    "InGarbage": ("garbage, builtins.list", "list item", "InGarbage"),
}


@contextmanager
def recorded(target: Running, folder: Path, **options: Any) -> Iterator[None]:
    """Record a process with the collector while the context is open; one snapshot at its end, unless more are asked."""
    options = {"rungs": 1, **options}
    with Session.open(target.target) as session:
        recording = Recording(
            target=target.target, raw=folder, clock=Clock.start(), session=lambda: session, say=print, options=options
        )
        with COLLECTOR.record(recording):
            yield


def graphs(folder: Path) -> tuple[list[HeapGraph], dict[str, Any]]:
    """Return the snapshots of a recording and its row of recording_quality."""
    tables = COLLECTOR.decode(Raw(folder, PID, Clock(0, 0), Symbols(), until_ns=1))
    objects, references = tables["heap_objects"].to_pandas(), tables["heap_references"]
    found = []
    for rung in sorted(objects["rung"].unique().tolist()):
        of_rung = [
            table.filter([value == rung for value in table["rung"].to_pylist()])
            for table in (tables["heap_objects"], references)
        ]
        found.append(HeapGraph.from_tables(*of_rung))
    return found, tables["recording_quality"].to_pylist()[0]


def steps_to_held(graph: HeapGraph) -> dict[str, Any]:
    """Return how each class of `HELD` is held."""
    answers = {name: retainer(graph, graph.of_type(f"__main__.{name}")) for name in HELD}
    return {name: None if answer is None else answer.steps for name, answer in answers.items()}


def names_of_ours(graph: HeapGraph) -> set[str]:
    """Return types and names of what bears the probe's name and is not told apart from the target's."""
    names = [graph.names[number] if number >= 0 else "" for number in graph.name_of.tolist()]
    types = [graph.types[number] for number in graph.type_of.tolist()]
    both = zip(names, types, graph.is_ours.tolist(), strict=True)
    return {name or kind for name, kind, ours in both if "perfkit probe" in (name + kind) and not ours}


def ask(target: Running, line: str = "look") -> dict[str, Any]:
    """Return what the program says is in it."""
    assert target.process.stdin is not None
    assert target.process.stdout is not None
    target.process.stdin.write(line + "\n")
    target.process.stdin.flush()
    answer: dict[str, Any] = json.loads(target.process.stdout.readline())
    return answer


@every_version
@pytest.mark.parametrize("copy", ["auto", "never"])
def test_every_way_of_holding_an_object_is_told_and_the_target_is_as_before(
    version: str, copy: str, tmp_path: Path
) -> None:
    with running(str(HEAP / "ground_truth.py"), python=interpreter(version)) as target:
        before = ask(target)
        with recorded(target, tmp_path, copy=copy):
            pass
        assert eventually(lambda: ask(target) == before), (before, ask(target))
    [graph], quality = graphs(tmp_path)
    assert steps_to_held(graph) == HELD
    if copy == "auto":  # in slices there are objects that were gone when what held them was looked at
        assert names_of_ours(graph) == set()
    assert quality["taken"] == 1
    assert ("slices" in (quality["note"] or "")) == (copy == "never")


@every_version
@pytest.mark.parametrize("copy", ["auto", "never"])
def test_frames_whose_variables_were_freed_are_not_asked_for_them(version: str, copy: str, tmp_path: Path) -> None:
    """The frame of a generator that was closed tells of objects that are gone; who touches them, dies."""
    with running(str(HEAP / "closed_generators.py"), python=interpreter(version)) as target:
        for attempt in range(2):
            folder = tmp_path / str(attempt)
            folder.mkdir()
            with recorded(target, folder, copy=copy):
                pass
            [graph], quality = graphs(folder)
            assert target.process.poll() is None
            assert ("slices" in (quality["note"] or "")) == (copy == "never"), quality
            assert len(graph.of_type("builtins.frame")) >= 250


@every_version
@pytest.mark.parametrize("copy", ["auto", "never"])
def test_the_size_of_an_instance_is_what_it_takes_with_its_attributes(version: str, copy: str, tmp_path: Path) -> None:
    with running(str(HEAP / "attributes.py"), python=interpreter(version)) as target:
        truth = ask(target)
        with recorded(target, tmp_path, copy=copy):
            pass
    [graph], _quality = graphs(tmp_path)
    for name, bytes_each in truth.items():
        found = graph.of_type(f"__main__.{name}")
        assert len(found) == 5000
        # Up to 3.10 the attributes are in a dictionary of their own.
        spaces = [child for child in range(len(graph)) if int(graph.parent[child]) in set(found[:50].tolist())]
        sizes = int(graph.size_bytes[found[:50]].sum()) + int(
            sum(graph.size_bytes[each] for each in spaces if graph.type(each) == "builtins.dict")
        )
        assert sizes / 50 == pytest.approx(bytes_each, rel=0.06), name
    assert 100_000 <= graph.size_bytes[graph.of_type("_io.StringIO")].max() <= 101_000


@every_version
def test_the_thread_local_of_another_thread_is_seen(version: str, tmp_path: Path) -> None:
    with running(str(HEAP / "ground_truth.py"), python=interpreter(version)) as target, recorded(target, tmp_path):
        pass
    [graph], _quality = graphs(tmp_path)
    found = retainer(graph, graph.of_type("__main__.InThreadLocal"))
    assert found is not None
    assert found.type == "builtins.list"
    assert found.steps[:2] == ("module __main__", "local")
    assert found.share == 1.0


@every_version
def test_a_leak_that_began_before_the_attach_is_named(version: str, tmp_path: Path) -> None:
    """Nothing traced the allocation of the first 300, and 3000 objects of the same type are innocent."""
    with (
        running(str(HEAP / "ground_truth.py"), python=interpreter(version)) as target,
        recorded(target, tmp_path, rungs=2),
    ):
        ask(target, "leak 200")
    (before, after), _quality = graphs(tmp_path)
    grown = heap_growth(before, after, least_bytes=1000)
    [pile] = [pile for pile in grown.piles if pile.steps[0] == "module __main__"]
    assert (pile.steps, pile.type) == (("module __main__", "LEAK"), "builtins.dict")
    newest = newcomers(before, after, "__main__.Node")
    assert len(newest) == 200
    found = retainer(after, newest)
    assert found is not None
    assert (found.steps, found.owner) == (("module __main__", "LEAK", "dict value", "Node"), "__main__.LEAK")


def test_what_is_ours_is_told_apart_in_a_program_that_imports_the_probe(tmp_path: Path) -> None:
    code = "import perfkit.probe, time; perfkit.probe.start(); print('ready', flush=True); time.sleep(60)"
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with recorded(Running(process, inspect(process.pid)), tmp_path):
            pass
    finally:
        process.terminate()
        process.communicate()
    [graph], _quality = graphs(tmp_path)
    assert names_of_ours(graph) == set()


def test_a_copy_is_not_left_behind_when_the_recorder_goes(tmp_path: Path) -> None:
    with running(str(HEAP / "ground_truth.py"), python=same_version()) as target:
        before = ask(target)
        session = Session.open(target.target)
        session.start("object_graph")
        session.call("object_graph", take=0, file=str(tmp_path / "graph-0.bin"))
        session.close()
        assert eventually(lambda: ask(target) == before)
        assert os.listdir(f"/proc/{target.target.pid}/task")


@every_version
def test_a_copy_works_while_threads_fight_for_the_interpreter(version: str, tmp_path: Path) -> None:
    """A lock that was held by a thread that the copy does not have would make it wait for ever."""
    with (
        running(str(HEAP / "crowded.py"), python=interpreter(version)) as target,
        Session.open(target.target) as session,
    ):
        session.start("object_graph")
        for rung in range(3):
            session.call("object_graph", take=rung, file=str(tmp_path / f"graph-{rung}.bin"), max_seconds=40)
            assert eventually(lambda: not session.call("object_graph")["busy"], within_s=45)
        rows = session.stop("object_graph")["rungs"]
        assert [row.get("mode") for row in rows] == ["copy"] * 3, rows
        assert max(row["stopped_ns"] for row in rows) < 50_000_000


def copies_of(pid: int) -> list[int]:
    """Return the copies of a process that are at work."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for file in children for word in file.read_text("ascii").split()]


def is_gone(pid: int) -> bool:
    """Whether a process has ended, and somebody waited for it."""
    return not Path(f"/proc/{pid}").exists()


@contextmanager
def copying(folder: Path) -> Iterator[tuple[Running, Session, int]]:
    """Yield a process with a large heap, a session, and the copy that is being walked."""
    with running(str(HEAP / "large.py"), "1000000", python=same_version()) as target:
        session = Session.open(target.target)
        try:
            session.start("object_graph")
            session.call("object_graph", take=0, file=str(folder / "graph-0.bin"))
            assert eventually(lambda: bool(copies_of(target.target.pid)))
            yield target, session, copies_of(target.target.pid)[0]
        finally:
            session.close()


def test_the_copy_goes_when_the_recorder_goes(tmp_path: Path) -> None:
    with copying(tmp_path) as (target, session, copy):
        session.close()
        assert eventually(lambda: is_gone(copy))
        assert target.process.poll() is None


def test_the_copy_goes_when_the_target_goes(tmp_path: Path) -> None:
    with copying(tmp_path) as (target, _session, copy):
        target.process.terminate()
        assert eventually(lambda: is_gone(copy) or Path(f"/proc/{copy}/stat").read_text("ascii").split()[2] == "Z")


def test_the_copy_is_not_taken_for_a_worker_of_the_target(tmp_path: Path) -> None:
    with copying(tmp_path) as (target, session, copy):
        assert eventually(lambda: Path(f"/proc/{copy}/comm").read_text("ascii").strip() == "perfkit-graph")
        assert children(target.target.pid) == []
        session.call("object_graph", give_up_copy="the test is over")


def test_living_objects_are_joined_with_the_line_that_allocated_them(tmp_path: Path) -> None:
    """Of instances, which the interpreter never takes from a free list, all are found."""
    from perfkit.collectors.memray_heap import COLLECTOR as MEMRAY
    from perfkit.collectors.object_sites import COLLECTOR as SITES

    if problem := MEMRAY.problem(inspect(os.getpid())):
        pytest.skip(str(problem))
    folders = {each.name: tmp_path / each.name / str(PID) for each in (MEMRAY, COLLECTOR, SITES)}
    for folder in folders.values():
        folder.mkdir(parents=True)
    with (
        running(str(HEAP / "ground_truth.py"), python=same_version()) as target,
        Session.open(target.target) as session,
    ):

        def recording(name: str) -> Recording:
            return Recording(target.target, folders[name], Clock.start(), lambda: session, print)

        with COLLECTOR.record(recording("object_graph")), MEMRAY.record(recording("memray_heap")):
            ask(target, "leak 100")
    symbols = Symbols()
    objects = COLLECTOR.decode(Raw(folders["object_graph"], PID, Clock(0, 0), symbols, 1))["heap_objects"].to_pandas()
    sites = SITES.decode(Raw(folders["object_sites"], PID, Clock(0, 0), symbols, 1))["object_sites"].to_pandas()
    nodes = objects[objects["type"] == "__main__.Node"].merge(sites, on="object_id")
    assert len(nodes) == 100
    tables = symbols.tables()
    stack = tables["stacks"].to_pylist()[int(nodes["stack_id"].mode()[0])]
    assert tables["frames"].to_pylist()[stack["leaf_frame_id"]]["function"] == "answer"


@every_version
def test_a_snapshot_after_memray_is_taken_in_a_copy_too(version: str, tmp_path: Path) -> None:
    """In 3.13 memray may leave a frame behind that refers to memory which is gone; the others are told as ever."""
    from perfkit.collectors.memray_heap import COLLECTOR as MEMRAY
    from perfkit.collectors.object_census import COLLECTOR as CENSUS

    folders = {each.name: tmp_path / each.name for each in (MEMRAY, COLLECTOR, CENSUS)}
    for folder in folders.values():
        folder.mkdir()
    with running(str(HEAP / "ground_truth.py"), python=interpreter(version)) as target:
        if problem := MEMRAY.problem(target.target):
            pytest.skip(str(problem))
        with Session.open(target.target) as session:

            def recording(name: str) -> Recording:
                options = {"rungs": 1} if name == "object_graph" else {}
                return Recording(target.target, folders[name], Clock.start(), lambda: session, print, options=options)

            # The generators that wait while the heap is looked at are made while memray is at work.
            with (
                COLLECTOR.record(recording("object_graph")),
                MEMRAY.record(recording("memray_heap")),
                CENSUS.record(recording("object_census")),
            ):
                for number in range(20):
                    ask(target, f"leak {number}")
                    time.sleep(0.1)
        assert target.process.poll() is None
        assert ask(target)
    [graph], quality = graphs(folders["object_graph"])
    assert "slices" not in str(quality["note"])
    assert steps_to_held(graph) == HELD


def test_a_copy_that_must_not_use_much_of_a_cpu_rests(tmp_path: Path) -> None:
    """Resting is not hanging: it takes longer, and is done by the copy all the same."""
    took_ns = []
    with running(str(HEAP / "large.py"), "300000", python=same_version()) as target:
        for share in (1.0, 0.2):
            with Session.open(target.target) as session:
                session.start("object_graph")
                session.call("object_graph", take=0, file=str(tmp_path / "graph.bin"), copy_share=share)
                assert eventually(lambda: not session.call("object_graph")["busy"], within_s=20)
                [row] = session.stop("object_graph")["rungs"]
                assert row["mode"] == "copy"
                took_ns.append(row["took_ns"])
    assert took_ns[1] > 2 * took_ns[0]
