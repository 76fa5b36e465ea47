"""Run every benchmark of this folder, one after another, and keep what each measured.

    python benchmarks/run.py [NAME ...]

A benchmark is a file with a `main` that takes `--out FILE` for its numbers as JSON and prints a
table. Adding a file adds a benchmark. Run it on a quiet machine.
"""

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
OUT = HERE.parent / "out" / "bench"


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; return 1 when one failed."""
    known = sorted(path.stem for path in HERE.glob("*.py") if path != Path(__file__))
    if unknown := set(names) - set(known):
        print(f"no benchmark named {', '.join(sorted(unknown))}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in names or known:
        print(f"\n== {name}", flush=True)
        began = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.{name}", "--out", OUT / f"{name}.json"]
        done = subprocess.run(command, cwd=HERE.parent, check=False)
        if done.returncode:
            failed.append(name)
        print(f"-- {name}: {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
