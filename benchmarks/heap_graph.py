"""What a heap graph costs: `python benchmarks/heap_graph.py [--objects N] [--out FILE]`.

For a real process of N objects: the longest stop of the process (and the longest gap between two
ticks of its main thread), the time until the snapshot is written, and the time to tables. From
tables to roots, dominators, retained sizes and paths: the same process, and heaps made up of random
references and of one long list that is linked both ways. Each is measured in a process of its own,
for its peak memory. Held to: 10 s and 1.5 GiB for a million objects, a stop of at most 50 ms.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HEAP = Path(__file__).parents[1] / "tests" / "targets" / "heap" / "large.py"
PID = 1


def snapshot(objects: int, mode: str, file: Path) -> dict[str, Any]:
    """Return what a snapshot cost a process of its own, and write it."""
    from perfkit.attach.session import Session
    from perfkit.attach.target import inspect

    process = subprocess.Popen(
        [sys.executable, str(HEAP), str(objects)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        with Session.open(inspect(process.pid)) as session:
            session.start("object_graph")
            gaps = []
            for part in ("before", "during"):
                if part == "during":
                    session.call("object_graph", take=0, file=str(file), fork=mode == "copy", max_seconds=600)
                    while (status := session.call("object_graph"))["busy"]:
                        time.sleep(0.1)
                else:
                    time.sleep(1.0)
                process.stdin.write("gap\n")
                process.stdin.flush()
                gaps.append(float(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait()
    row = status["rungs"][0]
    return {
        "what": f"snapshot by {mode}",
        "stopped_ms": row.get("stopped_ns", row.get("longest_hold_ns", 0)) / 1e6,
        "longest_gap_ms": gaps[1],
        "usual_gap_ms": gaps[0],
        "seconds": row["took_ns"] / 1e9,
        "file_mib": file.stat().st_size / 2**20,
    }


def random_heap(objects: int) -> tuple[Any, Any]:
    """Return the tables of a heap in which everything is referred to three times, mostly from nearby."""
    rng = np.random.default_rng(1)
    numbers = np.arange(1, objects)
    tree = (numbers * rng.random(objects - 1) ** 0.2).astype(np.int64)
    source = rng.integers(0, objects, 2 * objects)
    target = np.clip(source + rng.integers(-1000, 1000, 2 * objects), 0, objects - 1)
    return _tables(objects, np.r_[tree, source], np.r_[numbers, target])


def linked_list(objects: int) -> tuple[Any, Any]:
    """Return the tables of a list that is linked both ways, each link with a value: as deep as a heap can be."""
    links = np.arange(0, objects // 2)
    values = np.arange(objects // 2, 2 * (objects // 2))
    return _tables(2 * (objects // 2), np.r_[links[:-1], links[1:], links], np.r_[links[1:], links[:-1], values])


def _tables(objects: int, source: Any, target: Any) -> tuple[Any, Any]:
    """Return heap_objects and heap_references of a graph whose object 0 is a module."""
    import pyarrow as pa

    from perfkit.tables import HEAP_OBJECTS, HEAP_REFERENCES

    order = np.argsort(source, kind="stable")
    texts = pa.array([f"app.Type{number}" for number in range(100)] + ["module", "app", ".value"])
    is_root = np.where(np.arange(objects) == 0, 0, -1)
    heap = {
        "pid": np.full(objects, PID, np.int32),
        "rung": np.zeros(objects, np.int32),
        "object_id": np.arange(objects) * 16,
        "type": texts.take(pa.array(np.arange(objects) % 100)),
        "size_bytes": np.full(objects, 64),
        "refcount": np.bincount(target, minlength=objects),
        "root": texts.take(pa.array(np.where(is_root == 0, 100, 0), mask=is_root < 0)),
        "name": texts.take(pa.array(np.where(is_root == 0, 101, 0), mask=is_root < 0)),
    }
    references = {
        "pid": np.full(len(source), PID, np.int32),
        "rung": np.zeros(len(source), np.int32),
        "from_id": source[order] * 16,
        "to_id": target[order] * 16,
        "label": texts.take(pa.array(np.full(len(source), 102))),
    }
    return HEAP_OBJECTS.from_columns(heap), HEAP_REFERENCES.from_columns(references)


def analyse(what: str, objects: int, file: Path) -> dict[str, Any]:
    """Return what the way from tables to dominators, retained sizes and paths costs; runs in its own process."""
    from perfkit.analysis.heap_graph import HeapGraph, largest
    from perfkit.analysis.retainers import by_path
    from perfkit.raw.graph_file import read_graph

    began = time.perf_counter()
    if what == "a real process":
        graph_file = read_graph(file, PID, 0)
        heap, references = graph_file.objects, graph_file.references
    else:
        heap, references = {"random": random_heap, "linked both ways": linked_list}[what](objects)
    decoded = time.perf_counter()
    graph = HeapGraph.from_tables(heap, references)
    assert graph.retained_bytes[-1] == graph.size_bytes.sum()
    assert len(largest(graph))
    assert len(by_path(graph))
    return {
        "what": f"analysis of {what}",
        "objects": len(graph),
        "references": len(graph.targets),
        "tables_s": decoded - began,
        "seconds": time.perf_counter() - decoded,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main() -> None:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--analyse", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    given = parser.parse_args()
    if given.analyse:
        print(json.dumps(analyse(given.analyse, given.objects, given.file)))
        return
    results: list[dict[str, Any]] = []

    def tell(row: dict[str, Any]) -> None:
        numbers = (f"{name} {value:,.2f}" for name, value in row.items() if name != "what")
        print(f"{row['what']:32}", "  ".join(numbers), flush=True)
        results.append(row)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph-0.bin"
        for mode in ("slices", "copy"):
            tell(snapshot(given.objects, mode, file))
        for what in ("a real process", "random", "linked both ways"):
            command = [sys.executable, __file__, "--analyse", what, "--objects", str(given.objects)]
            done = subprocess.run([*command, "--file", str(file)], capture_output=True, text=True, check=True)
            tell(json.loads(done.stdout))
    if given.out:
        given.out.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
