"""Programs of the corpus as processes: started, recorded as a user would, ended, whatever happens."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.leaks.corpus import Program

PERFKIT = (sys.executable, "-m", "perfkit")
PEERS = ("objgraph", "tracemalloc")
WARM_UP_S = 4.0


@dataclass(frozen=True)
class Run:
    """One program under one load on one interpreter; everything about it is kept in its folder."""

    program: Program
    shape: str
    seed: int
    python: str
    folder: Path
    options: tuple[str, ...] = ()

    @property
    def profile(self) -> Path:
        """The recording."""
        return self.folder / "profile"

    @property
    def truth(self) -> Path:
        """What the program says that it leaked."""
        return self.folder / "truth.jsonl"


def interpreter(version: str) -> str:
    """Return an interpreter by its version or path; the one that runs this, without its packages, for "".

    Raises:
        SystemExit: there is none.
    """
    if not version:
        return str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}")
    if Path(version).is_file():
        return version
    for folder in sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*")):
        if (folder / "bin" / "python").exists():
            return str(folder / "bin" / "python")
    if found := shutil.which(f"python{version}"):
        return found
    raise SystemExit(f"no Python {version} here")


@contextmanager
def started(run: Run, python: str, *options: str) -> Iterator[int]:
    """Yield the process id to look at when the program is ready; end the program afterwards."""
    command = [python, str(run.program.path), "--shape", run.shape, "--seed", str(run.seed), *run.options, *options]
    with (run.folder / "program.log").open("a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        try:
            words = process.stdout.readline().split()
            if words[:1] != ["ready"]:
                raise RuntimeError(f"{run.program.name} did not start, see {log.name}")
            yield int(words[1])
            if process.poll() is not None:
                raise RuntimeError(f"{run.program.name} ended with {process.returncode}, see {log.name}")
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def record(run: Run, duration: str) -> float:
    """Record the program like a user would; return how long that took, with decoding, seconds."""
    shutil.rmtree(run.folder, ignore_errors=True)
    run.folder.mkdir(parents=True)
    with started(run, run.python, "--truth", str(run.truth)) as pid:
        time.sleep(WARM_UP_S)
        command = [*PERFKIT, "record", "--pid", str(pid), "--duration", duration, "-o", str(run.profile), "-q"]
        began = time.monotonic()
        with (run.folder / "record.log").open("w") as log:
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
        return time.monotonic() - began


def check(run: Run) -> str:
    """Return the findings of a kept recording as JSON, and keep them."""
    command = [*PERFKIT, "check", str(run.profile), "--rule", "memory_growth", "--json"]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr or done.stdout)
    (run.folder / "findings.json").write_text(done.stdout, "utf-8")
    return done.stdout


def ask_peers(run: Run, window_s: float = 20.0) -> None:
    """Run the program again, with each of the other tools inside of it; keep what they say."""
    after_s = WARM_UP_S
    for peer in PEERS:
        out = run.folder / f"{peer}.json"
        options = ("--peer", peer, "--peer-after-s", str(after_s), "--peer-window-s", str(window_s))
        with started(run, sys.executable, *options, "--peer-out", str(out)) as _:
            until = time.monotonic() + after_s + window_s + 60
            while not out.exists() and time.monotonic() < until:
                time.sleep(0.2)
