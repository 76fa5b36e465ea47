"""How long a target is stopped to be entered, per state, method and version; and whether anything is left behind.

Run it with `python -m benchmarks.attach_cycles [--cycles 200] [--out FILE]` in the repository.
Attaches to and lets go of processes in every state that services are found in, on every
interpreter in ~/.pyenv/versions, and checks after each that the process looks as before.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from perfkit.attach.session import Session
from tests.attach_targets import eventually, gunicorn_alone, is_untouched, running

STATES = ("busy", "sleep", "lock", "read", "asyncio_idle", "uvloop_idle", "gunicorn", "threads", "load", "forked")
VERSIONS = ("3.10", "3.11", "3.12", "3.13")


def main() -> None:
    """Run the cycles and print one line per state and version."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cycles", type=int, default=200, help="attach/detach cycles in total")
    parser.add_argument("--out", type=Path, help="write the rows to this file too")
    arguments = parser.parse_args()
    places = [(state, python) for state in STATES for python in _interpreters(state)]
    each = -(-arguments.cycles // len(places))
    rows = []
    print(f"{'state':<14}{'python':<9}{'method':<28}{'stop median':>12}{'stop worst':>12}{'attach median':>15}  left")
    for state, (version, python) in places:
        row = _cycles(state, version, python, each)
        rows.append(row)
        print(
            f"{state:<14}{version:<9}{row['methods']:<28}{row['stop_median_ms']:>9.2f} ms"
            f"{row['stop_worst_ms']:>9.2f} ms{row['attach_median_ms']:>12.0f} ms  {row['left']}",
            flush=True,
        )
    total = sum(row["cycles"] for row in rows)
    worst = max(row["stop_worst_ms"] for row in rows)
    dirty = sum(row["left"] != "nothing" for row in rows)
    print(f"{total} cycles, worst stop {worst:.2f} ms, targets that were left changed or dead: {dirty}")
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    sys.exit(1 if dirty else 0)


def _interpreters(state: str) -> list[tuple[str, Path]]:
    """Return `(version, path)` of the interpreters that a state can be tried on."""
    if state == "uvloop_idle":
        return [(f"{sys.version_info[0]}.{sys.version_info[1]}", Path(sys.executable))]
    home = Path.home() / ".pyenv" / "versions"
    return [
        (version, folder / "bin" / "python") for version in VERSIONS for folder in sorted(home.glob(f"{version}.*"))
    ]


def _cycles(state: str, version: str, python: Path, count: int) -> dict[str, object]:
    """Return what a number of cycles on one target were like."""
    stops_ns, attach_s, methods = [], [], set()
    left = "nothing"
    try:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            more = [str(gunicorn_alone(Path(folder)))] if state == "gunicorn" else []
            target = stack.enter_context(running("states.py", state, *more, python=python))
            before = target.look()
            for cycle in range(count):
                began = time.perf_counter()
                with Session.open(target.target) as session:
                    session.start("echo")
                    attach_s.append(time.perf_counter() - began)
                    assert session.call("echo", cycle=cycle) == {"cycle": cycle}
                    stops_ns.append(session.stopped_ns)
                    methods.add(session.method)
                if not eventually(lambda: is_untouched(target, before)):
                    left = "something"
    except AssertionError as error:
        left = str(error)
    return {
        "state": state,
        "python": version,
        "cycles": len(stops_ns),
        "methods": ", ".join(sorted(methods)),
        "stop_median_ms": statistics.median(stops_ns) / 1e6,
        "stop_worst_ms": max(stops_ns) / 1e6,
        "attach_median_ms": statistics.median(attach_s) * 1e3,
        "left": left,
    }


if __name__ == "__main__":
    main()
