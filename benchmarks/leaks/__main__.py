"""Record each program of tests/targets/leaks by PID, check, compare with the truth: `make bench-leaks`.

    python -m benchmarks.leaks [--only NAME ...] [--duration 60s] [--shapes steady diurnal bursty] [--seeds 1 2]
    python -m benchmarks.leaks --rescore --jobs 2        judge the kept recordings again, without recording

Recordings, truths and findings are kept under out/leaks/NAME-SHAPE-SEED/. Run it on a quiet machine.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from benchmarks.leaks import table
from benchmarks.leaks.corpus import programs
from benchmarks.leaks.running import Run, ask_peers, check, interpreter, record
from benchmarks.leaks.score import Score, memray_leaks, score

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Print the table, write the numbers; return 1 when a program could not be judged."""
    options = _options()
    asked = [] if options.objects is None else ["--objects", str(options.objects)]
    if options.mib_per_min is not None:
        asked += ["--mib-per-min", str(options.mib_per_min)]
    runs = [
        Run(
            program,
            shape,
            seed,
            interpreter(version),
            options.keep / _folder(program.name, shape, seed, version),
            tuple(asked),
        )
        for program in programs(options.only)
        for shape in options.shapes
        for seed in options.seeds
        for version in options.interpreters
    ]
    if options.rescore:
        runs = [run for run in runs if (run.profile / "manifest.json").exists()]

    def judge(run: Run) -> Score:
        seconds = None if options.rescore else record(run, options.duration)
        findings = json.loads(check(run))
        if not (run.folder / "memray.json").exists():
            memray_leaks(run)
        if run.program.positive and (options.peers or (options.peers is None and not options.rescore)):
            ask_peers(run)
        return score(run, findings, seconds)

    print(table.header(), flush=True)
    scores, failed = [], []
    with ThreadPoolExecutor(options.jobs) as pool:
        for done in as_completed([pool.submit(_caught(judge), run) for run in runs]):
            name, result, problem = done.result()
            if result is None:
                failed.append(name)
                print(f"{name:<{table.WIDTH}}could not be judged: {problem}", flush=True)
            else:
                scores.append(result)
                print(table.row(result), flush=True)
    scores.sort(key=lambda each: (not each.positive, each.name, each.shape, each.seed))
    numbers = {**table.summary(scores), "load_per_core": round(os.getloadavg()[2] / (os.cpu_count() or 1), 2)}
    print(table.footer(numbers))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [each.to_dict() for each in scores]
    options.out.write_text(json.dumps({**numbers, "failed": failed, "scores": rows}, indent=2) + "\n", "utf-8")
    return bool(failed)


def _folder(name: str, shape: str, seed: int, version: str) -> str:
    """Return the name of a run's folder."""
    return "-".join([name, shape, str(seed), *([Path(version).name] if version else [])])


def _caught(judge: Callable[[Run], Score]) -> Callable[[Run], tuple[str, Score | None, str]]:
    """Return the function that gives the problem back instead of ending the whole benchmark."""

    def safely(run: Run) -> tuple[str, Score | None, str]:
        try:
            return run.program.name, judge(run), ""
        except Exception as problem:  # noqa: BLE001 - one broken program must not cost the others their hour
            return run.program.name, None, f"{type(problem).__name__}: {problem}"

    return safely


def _options() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leaks", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these programs only")
    parser.add_argument("--duration", default="60s", help="length of each recording")
    parser.add_argument("--jobs", type=int, default=1, help="programs at a time")
    parser.add_argument("--shapes", nargs="+", default=["steady"], choices=("steady", "diurnal", "bursty"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--mib-per-min", type=float, help="speed of the leaks (each program's own: mostly 6)")
    parser.add_argument("--objects", type=int, help="size of the static heap (each program's own: mostly 200,000)")
    parser.add_argument("--interpreters", nargs="+", default=[""], metavar="VERSION", help="such as 3.10, or paths")
    parser.add_argument(
        "--peers",
        action=argparse.BooleanOptionalAction,
        help="ask objgraph and tracemalloc in a run of their own (when recording: yes, when judging again: no)",
    )
    parser.add_argument("--rescore", action="store_true", help="judge the kept recordings again")
    parser.add_argument("--keep", type=Path, default=ROOT / "out" / "leaks", help="folder for recordings")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench" / "leaks.json", help="file for the numbers")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
