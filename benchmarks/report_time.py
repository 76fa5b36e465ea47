"""Time and size from a profile to a shareable report, start-up of Jupyter included.

    python benchmarks/report_time.py [PROFILE ...] [--runs 5] [--out FILE]

The peer is what one would do by hand on the same notebook: `papermill`, then `jupyter nbconvert`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NOTEBOOK = "leak_root_cause"


def timed(run: Callable[[], object]) -> float:
    """Return how long a call took, in seconds."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def quietly(*command: str | Path) -> None:
    """Run a command to its end."""
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})


def measure(profile: Path, runs: int) -> dict[str, Any]:
    """Return medians of seconds, their ratio pair by pair, and sizes in bytes."""
    ours, peers = [], []
    with tempfile.TemporaryDirectory() as folder:
        report, executed, page = (Path(folder, name) for name in ("ours.html", "run.ipynb", "peer.html"))

        def by_hand() -> None:
            notebook = ROOT / "notebooks" / f"{NOTEBOOK}.ipynb"
            quietly(sys.executable, "-m", "papermill", notebook, executed, "-p", "profile_dir", profile.resolve())
            quietly(sys.executable, "-m", "nbconvert", "--to", "html", executed, "--output", page)

        for _ in range(runs):
            ours.append(timed(lambda: quietly(sys.executable, "-m", "perfkit", "report", profile, "-o", report, "-q")))
            peers.append(timed(by_hand))
        return {
            "profile": profile.name,
            "seconds": statistics.median(ours),
            "peer_seconds": statistics.median(peers),
            "ratio": statistics.median(peer / our for our, peer in zip(ours, peers, strict=True)),
            "size_bytes": report.stat().st_size,
            "peer_size_bytes": page.stat().st_size,
        }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profiles", nargs="*", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    profiles = given.profiles or sorted(path for path in (ROOT / "profiles").iterdir() if path.is_dir())
    rows = [measure(profile, given.runs) for profile in profiles]
    print("| profile | perfkit report | papermill + nbconvert | times faster | size | size by hand |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['profile']} | {row['seconds']:.1f} s | {row['peer_seconds']:.1f} s | {row['ratio']:.1f} "
            f"| {row['size_bytes'] / 1e3:.0f} kB | {row['peer_size_bytes'] / 1e3:.0f} kB |"
        )
    if given.out:
        given.out.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
