"""Bytes per CPU sample and the time of the questions asked most, against a list of strings per sample.

    python benchmarks/cpu_store.py [--samples 10000000] [--out FILE]

Synthetic: 20 threads, 3,000 stacks of about 25 frames with a Zipf-like weight, each stack
lasting some ticks as they do in real recordings. The peer stores each sample's frames as
strings, which is what a sampling profiler's text formats hold.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from perfkit.analysis.stacks import flame_tree, self_and_total
from perfkit.profile import Manifest, Profile, ProfileWriter
from perfkit.symbols import Symbols
from perfkit.tables import CPU_SAMPLES

THREADS, STACKS, FRAMES = 20, 3_000, 1_500
PERIOD_NS = 10_000_000
PEER_SAMPLES = 500_000
"""The peer is measured on fewer samples and scaled: its query takes minutes on ten million."""


def stacks(random: np.random.Generator) -> list[list[int]]:
    """Return call stacks that share their roots, as those of a service do."""
    made: list[list[int]] = [[0, 1, 2]]
    while len(made) < STACKS:
        parent = made[random.integers(len(made))]
        depth = int(np.clip(random.normal(25, 7), 4, 60))
        kept = parent[: random.integers(1, len(parent) + 1)]
        made.append([*kept, *random.integers(3, FRAMES, max(1, depth - len(kept))).tolist()])
    return made


def samples(count: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Return samples: each thread stays in a stack for a geometric number of ticks, half of the threads wait."""
    ticks = count // THREADS
    popularity = 1 / np.arange(1, STACKS + 1) ** 1.1
    popularity /= popularity.sum()
    columns = np.empty((ticks, THREADS), dtype=np.int32)
    active = np.zeros((ticks, THREADS), dtype=bool)
    for thread in range(THREADS):
        mean_ticks = 3.0 if thread < THREADS // 2 else 200.0
        lengths = random.geometric(1 / mean_ticks, int(ticks / mean_ticks * 1.3) + 100)
        runs = np.repeat(random.choice(STACKS, len(lengths), p=popularity), lengths)
        columns[:, thread] = runs[:ticks] if len(runs) >= ticks else np.resize(runs, ticks)
        active[:, thread] = (thread < THREADS // 2) & (random.random(ticks) < 0.9)
    return {
        "tick_ns": np.repeat(np.arange(ticks, dtype=np.int64) * PERIOD_NS, THREADS),
        "thread_id": np.tile(np.arange(THREADS, dtype=np.int32), ticks),
        "stack_id": columns.ravel(),
        "weight_ns": np.full(ticks * THREADS, PERIOD_NS, dtype=np.int64),
        "active": active.ravel(),
    }


def profile(folder: Path, columns: dict[str, np.ndarray], made: list[list[int]]) -> tuple[Profile, Symbols]:
    """Write the samples as a profile."""
    symbols = Symbols()
    for frame in range(FRAMES):
        symbols.frame(f"function_{frame % 900}", f"/srv/app/module_{frame % 83}.py", frame % 400 + 1)
    numbers = np.array([symbols.stack(stack) for stack in made], dtype=np.int32)
    for thread in range(THREADS):
        symbols.thread(1, thread, name=f"worker-{thread}")
    table = CPU_SAMPLES.from_columns(columns | {"stack_id": numbers[columns["stack_id"]]})
    writer = ProfileWriter.create(folder)
    try:
        manifest = Manifest(name="synthetic", duration_ns=int(columns["tick_ns"][-1]) + PERIOD_NS)
        return writer.finish({"cpu_samples": table} | symbols.tables(), manifest), symbols
    finally:
        writer.close()


def peer(file: Path, profile_: Profile) -> int:
    """Write the first samples as lists of strings; return how many."""
    frames = profile_.table("frames").to_pylist()
    texts = [f"{frame['function']} ({frame['file']}:{frame['line']})" for frame in frames]
    lists = [[texts[frame] for frame in ids] for ids in profile_.table("stacks")["frame_ids"].to_pylist()]
    table = profile_.table("cpu_samples").slice(0, PEER_SAMPLES)
    stack_ids = table["stack_id"].to_pylist()
    strings = pa.array([lists[stack] for stack in stack_ids], pa.list_(pa.string()))
    pq.write_table(table.drop_columns(["stack_id"]).append_column("stack", strings), file, compression="zstd")
    return len(stack_ids)


def seconds(action: Callable[[], object], repeats: int = 5) -> float:
    """Return the median time of an action."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


INCLUSIVE_PEER = """
select frame, sum(weight_ns) as total_ns from (
    select weight_ns, unnest(list_distinct(stack)) as frame from peer
) group by frame order by total_ns desc
"""
INCLUSIVE = """
select f.function, f.file, f.line, sum(w.ns)::bigint as total_ns
from (select stack_id, sum(weight_ns) as ns from cpu_samples group by stack_id) w
     join stack_frames b using (stack_id) join frames f using (frame_id)
where b.is_first group by all order by total_ns desc
"""


def measure(count: int) -> dict[str, float]:
    """Return every number."""
    random = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = stacks(random)
        recorded, _ = profile(folder / "profile", samples(count, random), made)
        rows = recorded.manifest.rows["cpu_samples"]
        sizes = {file.stem: file.stat().st_size for file in (folder / "profile" / "tables").glob("*.parquet")}
        peer_rows = peer(folder / "peer.parquet", recorded)
        database = duckdb.connect()
        database.from_parquet(str(folder / "peer.parquet")).create_view("peer")
        recorded.sql("select 1")
        result = {
            "samples": rows,
            "bytes_per_sample": sum(sizes.values()) / rows,
            "bytes_per_sample_without_dictionaries": sizes["cpu_samples"] / rows,
            "peer_bytes_per_sample": (folder / "peer.parquet").stat().st_size / peer_rows,
            "inclusive_query_s": seconds(lambda: recorded.sql(INCLUSIVE)),
            "self_and_total_s": seconds(lambda: self_and_total(recorded)),
            "flame_tree_s": seconds(lambda: flame_tree(recorded)),
            "peer_inclusive_query_s": seconds(lambda: database.execute(INCLUSIVE_PEER).df(), 3) * rows / peer_rows,
        }
        database.close()
    result["bytes_ratio"] = result["peer_bytes_per_sample"] / result["bytes_per_sample"]
    result["inclusive_ratio"] = result["peer_inclusive_query_s"] / result["inclusive_query_s"]
    return result


LIMITS = {"bytes_per_sample": 3.0, "inclusive_query_s": 0.5, "self_and_total_s": 0.5, "flame_tree_s": 2.0}


def main() -> int:
    """Print the numbers; 1 when one is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments.samples)
    for name, value in result.items():
        limit = LIMITS.get(name)
        print(f"{name:40} {value:14,.3f}{'' if limit is None else f'   limit {limit:g}'}")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    return int(any(result[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
