"""How much of short connections is seen: `python benchmarks/socket_coverage.py [--connections N] [--out FILE]`.

A process opens and closes connections on loopback as fast as it can, and keeps eight open, in a network
namespace of its own where we may make one. The truth is what the process did; beside it stand what the recording
saw of births and deaths, what it says it saw, what it lost, and its CPU time. Each way of recording is tried:
with the kernel's word on destroyed sockets, by comparing readings alone, and from /proc.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.socket_recordings import obedient, watching

WAYS: dict[str, dict[str, Any]] = {
    "destroyed sockets and readings": {},
    "readings only": {"destroyed": False},
    "/proc only": {"netlink": False},
}
KEPT = 8


@contextmanager
def namespace() -> Iterator[tuple[str, ...]]:
    """Yield the command that starts a program in a network namespace of its own, empty where there is none."""
    name = f"perfkit-{os.getpid()}"
    made = (
        bool(shutil.which("ip"))
        and subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    )
    try:
        if made:
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield ("ip", "netns", "exec", name) if made else ()
    finally:
        if made:
            subprocess.run(["ip", "netns", "del", name], check=True)


def measure(way: dict[str, Any], connections: int, prefix: tuple[str, ...]) -> dict[str, Any]:
    """Return what one way of recording saw of so many connections."""
    with tempfile.TemporaryDirectory() as folder, obedient(*prefix) as server, obedient(*prefix) as client:
        port = server.ask("serve")
        client.ask("connect", port, KEPT)
        settings: dict[str, Any] = {"max_share": 0.01, "counters_every_s": 2.0, "owners_every_s": 10.0}
        with watching(client.pid, Path(folder), **settings, **way) as watched:
            began = time.monotonic()
            client.ask("churn", port, connections)
            seconds = time.monotonic() - began
            time.sleep(0.5)
        tables = watched.tables()
        events = [row for row in tables["socket_events"] if row["role"] == "upstream"]
        counted, first = tables["socket_counters"][-1], tables["socket_counters"][0]
        opened = sum(counted[name] - first[name] for name in ("active_opens", "passive_opens"))
        about = json.loads((Path(folder) / "meta.json").read_text())
        deaths = [row for row in events if row["event"] == "death"]
        return {
            "connections": connections,
            "per_s": connections / seconds,
            "births": sum(1 for row in events if row["event"] == "birth"),
            "deaths": len(deaths),
            "deaths_exact": sum(1 for row in deaths if row["at_ns"] == row["earliest_ns"]),
            "closers_known": sum(1 for row in deaths if row["closer"]),
            "true_share": sum(1 for row in events if row["event"] == "birth") / connections,
            "reported_share": min(1.0, (counted["seen_born"] - first["seen_born"]) / opened) if opened else None,
            "opened_by_the_kernels_count": opened,
            "lost": tables["recording_quality"][0]["lost"],
            "cpu_share": about["cost_ns"] / (about["ended_ns"] - about["began_ns"]),
            "note": tables["recording_quality"][0]["note"],
        }


def main() -> int:
    """Measure every way and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with namespace() as prefix:
        found = {name: measure(way, options.connections, prefix) for name, way in WAYS.items()}
    where = "in a namespace of its own" if prefix else "in a namespace that others share"
    print(f"{options.connections:,} connections {where}; what was seen, and what the recording says it saw\n")
    print(f"{'way':32}{'per s':>8}{'births':>9}{'deaths':>9}{'exact':>9}{'closer':>9}{'says':>8}{'lost':>7}{'CPU':>8}")
    for name, row in found.items():
        said = "unknown" if row["reported_share"] is None else f"{row['reported_share']:.1%}"
        cells = [
            f"{row[key] / row['connections']:.1%}" for key in ("births", "deaths", "deaths_exact", "closers_known")
        ]
        print(
            f"{name:32}{row['per_s']:>8,.0f}{cells[0]:>9}{cells[1]:>9}{cells[2]:>9}{cells[3]:>9}{said:>8}"
            f"{row['lost']:>7,}{row['cpu_share']:>8.1%}"
        )
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
