"""Time from a memray capture to tables, against memray's own pass over the same file.

    python benchmarks/memray_decode.py [--allocations 2000000] [--runs 5] [--out FILE]

Memray's own pass opens the file and consumes `get_temporal_allocation_records`, the data that the
tables are made of. Both run in turn, in one process, over one file.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import memray

from perfkit.clock import Clock
from perfkit.collectors import Raw, collectors
from perfkit.symbols import Symbols

PROGRAM = """
import sys, memray
def shallow(n): return [bytes(n % 700 + 520) for n in range(n)]
def deep(n, depth): return deep(n, depth - 1) if depth else shallow(n)
kept = []
with memray.Tracker(destination=memray.FileDestination(sys.argv[1]), trace_python_allocators=True):
    for turn in range(int(sys.argv[2]) // 2000):
        for depth in range(20): deep(100, depth)
        if turn % 10 == 0: kept.append(shallow(20))
"""


def seconds(run: Callable[[], object]) -> float:
    """Return how long a call took."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--allocations", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        capture = folder / "heap.bin"
        subprocess.run([sys.executable, "-c", PROGRAM, capture, str(given.allocations)], check=True)

        def ours() -> None:
            clock = Clock.start()
            collectors()["memray_heap"].decode(Raw(folder, 1, clock, Symbols(), clock.now_ns()))

        def memrays() -> None:
            with memray.FileReader(capture) as reader:
                for record in reader.get_temporal_allocation_records(merge_threads=True):
                    record.stack_trace()

        pairs = [(seconds(ours), seconds(memrays)) for _ in range(given.runs)]
        with memray.FileReader(capture) as reader:
            records = reader.metadata.total_allocations
        result = {
            "records": records,
            "capture_bytes": capture.stat().st_size,
            "seconds": statistics.median(our for our, _ in pairs),
            "memray_seconds": statistics.median(their for _, their in pairs),
            "ratio": statistics.median(our / their for our, their in pairs),
        }
    print("| records | capture | to tables | memray's own pass | ratio |")
    print("|---|---|---|---|---|")
    print(
        f"| {records:,} | {result['capture_bytes'] / 1e6:.0f} MB | {result['seconds']:.2f} s "
        f"| {result['memray_seconds']:.2f} s | {result['ratio']:.2f} |"
    )
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
