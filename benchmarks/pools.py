"""What is said about the pools of real libraries: every planted defect with its line, and nothing about healthy ones.

    python benchmarks/pools.py [--out FILE] [--at-once N] [--keep FOLDER] [WORDS OF CASES ...]

Programs and ground truth are those of `tests/pool_corpus.py`; each is recorded by its process id alone.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.pool_corpus import CASES, Case, running, servers  # noqa: E402

SECONDS = 16


@dataclass(frozen=True)
class Answer:
    """What was said about one program, and whether it is true."""

    case: str
    truth: str
    right: bool
    said: str


def judge(case: Case, addresses: dict[str, str], folder: Path) -> Answer:
    """Return the answer about one program."""
    where = folder / str(case).replace(":", "-")
    shutil.rmtree(where, ignore_errors=True)
    perfkit = [sys.executable, "-m", "perfkit"]
    record = [
        *perfkit,
        "record",
        "--duration",
        f"{SECONDS}s",
        "--collect",
        "pools,sockets",
        "-q",
        "-o",
        str(where),
        "--pid",
    ]
    with running(case, addresses[case.server]) as pid:
        done = subprocess.run([*record, str(pid)], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        return Answer(str(case), case.rule or "healthy", right=False, said=f"NOT RECORDED: {done.stderr.strip()}")
    answer = subprocess.run(
        [*perfkit, "check", str(where), "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    right, said = compared(case, json.loads(answer.stdout)["findings"])
    return Answer(str(case), case.rule or "healthy", right, said)


def compared(case: Case, findings: list[dict[str, Any]]) -> tuple[bool, str]:
    """Return whether the findings are what is true of a case, and what they say."""
    failed = [each for each in findings if each["verdict"] == "fail"]
    said = "; ".join(each["title"] for each in failed) or "nothing"
    others = {each["rule"] for each in failed} - {case.rule, *case.allowed}
    if others:
        return False, f"FALSE ALARM of {', '.join(sorted(others))}: {said}"
    if case.rule is None:
        return True, said
    mine = [each for each in failed if each["rule"] == case.rule]
    if not mine:
        doubts = [e["title"] for e in findings if e["verdict"] == "undecided" and e["rule"] == case.rule]
        return False, f"MISSED, {'; '.join(doubts) or 'not even a doubt'}"
    lines = {each["site"]["line"] if each["site"] else None for each in mine}
    if case.line is not None and lines != {case.line}:
        return False, f"WRONG LINE {lines} instead of {case.line}: {said}"
    return True, said


def main() -> int:
    """Judge the chosen cases; return 1 when an answer is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--at-once", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    chosen = [case for case in CASES if not options.words or any(word in str(case) for word in options.words)]
    answers = []
    with (
        servers({case.server for case in chosen}) as addresses,
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(options.at_once) as threads,
    ):
        for answer in threads.map(partial(judge, addresses=addresses, folder=options.keep or Path(folder)), chosen):
            answers.append(answer)
            print(
                f"{'ok   ' if answer.right else 'WRONG'} {answer.case:28} {answer.truth:22} {answer.said}", flush=True
            )
    positive = [answer for answer in answers if answer.truth != "healthy"]
    negative = [answer for answer in answers if answer.truth == "healthy"]
    print(f"defects named with their line: {sum(answer.right for answer in positive)} of {len(positive)}")
    print(f"healthy programs without an alarm: {sum(answer.right for answer in negative)} of {len(negative)}")
    if options.out:
        options.out.write_text(json.dumps([asdict(answer) for answer in answers], indent=1), "utf-8")
    return int(not all(answer.right for answer in answers))


if __name__ == "__main__":
    sys.exit(main())
