"""How much of its time a busy process loses to what records it.

    python benchmarks/time_taken.py [--rounds N] [--out FILE]

A program that never waits has one core, and so has every thread the probe starts in it; py-spy and the recorder have
another. Of each window the program says for which share of it its main thread did not run, because something had
stopped it, used its core or held the GIL. The speed of the machine does not enter, so this is known to a
ten-thousandth where throughput differs by a tenth from second to second. Not in it: what the callbacks of the
collector use in the main thread itself (`gc_hooks`), and caches that are colder for a while.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

from benchmarks.collector_overhead import ALWAYS_ON, CANDIDATES, always_on_in, attached, program

AT_MOST = 0.01
SETTLE_S = 1.5
PROGRAM = """
import json, os, sys, time

os.sched_setaffinity(0, {int(sys.argv[1])})
document = json.dumps([{"id": n, "price": {"net": n}} for n in range(60)])
print("ready", os.getpid(), flush=True)
for line in sys.stdin:
    began, used = time.monotonic(), time.thread_time()
    while time.monotonic() - began < float(line):
        json.loads(document)
    print(1 - (time.thread_time() - used) / (time.monotonic() - began), flush=True)
"""


def main() -> int:
    """Measure and print the table; return 1 when the always-on set takes more than is promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of windows per collector")
    parser.add_argument("--window", type=float, default=3.0, help="seconds per window")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        parser.error("it takes two cores")
    always_on = always_on_in(*ALWAYS_ON)
    sets = {name: (name,) for name in CANDIDATES} | {"always_on": always_on}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sets}
    with program(Path(sys.executable), PROGRAM, str(cores[0])) as (pid, ask):
        os.sched_setaffinity(0, cores[1:])
        with attached(pid) as recording:
            for number in range(given.rounds):
                print(f"pair {number + 1} of {given.rounds}", file=sys.stderr, flush=True)
                for name, chosen in sets.items():
                    shares = []
                    for which in (chosen, ()):
                        with recording(which):
                            time.sleep(SETTLE_S if which else 0.2)
                            shares.append(float(ask(str(given.window))))
                    taken[name].append((shares[0], shares[1]))
        os.sched_setaffinity(0, cores)
    print("| collector | time lost with, most | without, most | added, median |")
    print("|---|---|---|---|")
    rows = {}
    for name, pairs in taken.items():
        rows[name] = statistics.median(on - off for on, off in pairs)
        most = [max(each) for each in zip(*pairs, strict=True)]
        print(f"| {name} | {most[0]:.2%} | {most[1]:.2%} | {rows[name]:.2%} |")
    print(f"\nalways_on: {', '.join(always_on)}. Held to: {AT_MOST:.0%} of the time.")
    if given.out:
        given.out.write_text(json.dumps({"window_s": given.window, "taken": taken}, indent=1) + "\n", "utf-8")
    return int(rows["always_on"] > AT_MOST)


if __name__ == "__main__":
    sys.exit(main())
