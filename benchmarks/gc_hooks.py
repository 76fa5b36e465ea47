"""What recording the garbage collector costs the target: its callbacks by pairs, the probe's thread by the kernel.

    python benchmarks/gc_hooks.py [--seconds S] [--versions 3.11,3.13] [--out FILE]

A program is attached to by its process id, with the whole group "gc". It does units of work of a millisecond or
two, each once with the two callbacks in `gc.callbacks` and once without, in random order, and compares the CPU time:
a machine whose speed changes by a tenth within a second changes little within a millisecond, so that a
thousandth can be told. What the callbacks do not see, the probe's own thread, is counted by the kernel, as a share of
one core over the same time. Four kinds of work: short documents that are parsed and written, in which the collector
has nothing to do, long ones, in which it runs some hundred times a second, and two that make it run as often as a
program can.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.collector_overhead import always_on_in, attached, median_and_interval, program
from benchmarks.gc_tuning import interpreter

AT_MOST = 1.01
PROGRAM = """
import gc, json, os, random, sys, time

def document(rows):
    return json.dumps([{"id": n, "tags": [str(n)], "price": {"net": n, "gross": n * 1.2}} for n in range(rows)])

short, long = document(60), document(700)
at_a_time = gc.get_threshold()[0] * 13 // 10

def handle(text):
    json.dumps([{**row, "seen": True} for row in json.loads(text)])

def short_documents():
    for _ in range(5):
        handle(short)

def long_documents():
    handle(long)

def passing():
    for page in range(5):
        max([[page, number] for number in range(at_a_time)])

def cycles():
    for number in range(500):
        one, other = {"number": number}, {}
        one["other"], other["one"] = other, one

print("ready", os.getpid(), flush=True)
for line in sys.stdin:
    name, seconds = line.split()
    work, hooks, choose = globals()[name], list(gc.callbacks), random.Random(1)
    taken = {True: [], False: []}
    collections = sum(each["collections"] for each in gc.get_stats())
    until = time.monotonic() + float(seconds)
    while time.monotonic() < until:
        first = choose.random() < 0.5
        for is_on in (first, not first):
            gc.callbacks[:] = hooks if is_on else []
            began = time.thread_time_ns()
            work()
            taken[is_on].append(time.thread_time_ns() - began)
    gc.callbacks[:] = hooks
    collections = sum(each["collections"] for each in gc.get_stats()) - collections
    found = {"hooks": len(hooks), "on": taken[True], "off": taken[False], "collections": collections}
    print(json.dumps(found), flush=True)
"""
WORK = ("short_documents", "long_documents", "passing", "cycles")


def threads_cpu_ns(pid: int) -> dict[int, int]:
    """Return the CPU time of each thread but the main one, in nanoseconds.

    Source: schedstat in https://docs.kernel.org/scheduler/sched-stats.html
    """
    return {
        int(task.name): int((task / "schedstat").read_text().split()[0])
        for task in Path(f"/proc/{pid}/task").iterdir()
        if int(task.name) != pid
    }


def measured(python: Path, seconds: float) -> dict[str, dict[str, Any]]:
    """Return per kind of work what the target measured, with the CPU time of the probe's thread."""
    names, found = always_on_in("gc"), dict[str, dict[str, Any]]()
    with program(python, PROGRAM) as (pid, ask), attached(pid) as recording, recording(names):
        time.sleep(1.0)
        for name in WORK:
            before, began = threads_cpu_ns(pid), time.monotonic()
            answer = json.loads(ask(f"{name} {seconds}"))
            lasted_s = time.monotonic() - began
            assert answer["hooks"] == 2, f"{answer['hooks']} callbacks are in the target"
            used_ns = sum(now - before.get(task, 0) for task, now in threads_cpu_ns(pid).items())
            found[name] = {**answer, "seconds": lasted_s, "thread_ratio": used_ns / 1e9 / lasted_s}
    return found


def main() -> int:
    """Measure and print the table; return 1 when a median is above what is promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="per kind of work")
    parser.add_argument("--versions", default="3.11,3.13")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = []
    titles = ("work", "Python", "pairs", "collections/s", "CPU with / without", "each, µs", "thread", "both")
    print("|" + "|".join(titles) + "|")
    print("|---|---|---|---|---|---|---|---|")
    for version in given.versions.split(","):
        python = interpreter(version)
        if python is None:
            print(f"no Python {version} here", file=sys.stderr)
            continue
        for name, each in measured(python, given.seconds).items():
            ratios = [on / off for on, off in zip(each["on"], each["off"], strict=True)]
            both = statistics.median(ratios) + each["thread_ratio"]
            per_s = each["collections"] / each["seconds"]
            added_ns = statistics.median(on - off for on, off in zip(each["on"], each["off"], strict=True))
            each_us = added_ns * 2 * len(ratios) / max(each["collections"], 1) / 1e3
            row = {
                "work": name,
                "python": version,
                "pairs": len(ratios),
                "collections_per_s": per_s,
                "callbacks": median_and_interval(ratios),
                "per_collection_us": each_us if each["collections"] else None,
                "thread_ratio": each["thread_ratio"],
                "both": both,
            }
            rows.append(row)
            cells = (name, version, f"{len(ratios):,}", f"{per_s:,.0f}", row["callbacks"])
            more = (f"{each_us:.1f}" if each["collections"] else "", f"{each['thread_ratio']:.2%}", f"{both:.4f}")
            print("|" + "|".join((*cells, *more)) + "|", flush=True)
    print(f"\nHeld to, where the collector has little to do: both <= {AT_MOST}")
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    return int(any(row["both"] > AT_MOST for row in rows if row["work"] == WORK[0]))


if __name__ == "__main__":
    sys.exit(main())
