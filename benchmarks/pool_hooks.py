"""What watching connection pools costs: per acquisition and return, and in the reference proxy's throughput.

    python benchmarks/pool_hooks.py [--out FILE] [--rounds N]

Per pair: SQLAlchemy over SQLite, in a process that is attached to and let go again, several times. The proxy:
saturated by four clients, with and without the collector in turn; its CPU time per request is the proxy's own.
"""

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from perfkit.attach.session import Session  # noqa: E402
from perfkit.attach.target import inspect  # noqa: E402
from perfkit.clock import Clock  # noqa: E402
from perfkit.collectors import Recording  # noqa: E402
from perfkit.collectors.pool_events import COLLECTOR  # noqa: E402
from tests.proxy_processes import proxy, upstream  # noqa: E402

_PROGRAM = """
import sys, time, sqlalchemy, sqlalchemy.pool
engine = sqlalchemy.create_engine('sqlite://', poolclass=sqlalchemy.pool.QueuePool)
def request():
    engine.raw_connection().close()
def handler():
    request()
print('ready', flush=True)
for line in sys.stdin:
    began = time.thread_time()
    for _ in range(5000):
        handler()
    print((time.thread_time() - began) / 5000, flush=True)
"""
_REQUESTS = 4000


def attached(pid: int, folder: Path, session: Session) -> Any:
    """Return the collector's context on a process."""
    target = inspect(pid)
    folder.mkdir()
    return COLLECTOR.record(Recording(target, folder, Clock.start(), lambda: session, print))


def per_pair_us(rounds: int, folder: Path) -> dict[str, float]:
    """Return the CPU time of an acquisition and a return without and with the collector, in microseconds."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()

    def measure() -> float:
        process.stdin.write("go\n")  # type: ignore[union-attr]
        return float(process.stdout.readline()) * 1e6  # type: ignore[union-attr]

    measure()
    without, with_it = [], []
    with Session.open(inspect(process.pid)) as session:
        for number in range(rounds):
            without.append(measure())
            with attached(process.pid, folder / f"pair-{number}", session):
                with_it.append(measure())
    process.stdin.close()
    process.wait(10)
    added = statistics.median(b - a for a, b in zip(without, with_it, strict=True))
    return {"without_us": statistics.median(without), "with_us": statistics.median(with_it), "added_us": added}


def proxy_ratios(rounds: int, folder: Path) -> dict[str, float]:
    """Return throughput and CPU per request of the proxy with the collector, divided by those without."""
    throughput, cpu = [], []
    with upstream() as server, proxy(folder, server.port) as target, Session.open(inspect(target.pid)) as session:
        loaded(target.port, target.pid)
        for number in range(rounds):
            base = loaded(target.port, target.pid)
            with attached(target.pid, folder / f"proxy-{number}", session):
                watched = loaded(target.port, target.pid)
            throughput.append(watched[0] / base[0])
            cpu.append(watched[1] / base[1])
    return {"throughput_ratio": statistics.median(throughput), "cpu_per_request_ratio": statistics.median(cpu)}


def loaded(port: int, pid: int) -> tuple[float, float]:
    """Return requests per second and CPU seconds of a process per request, of some connections that never pause."""

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(_REQUESTS // 4):
            connection.request("GET", "/")
            connection.getresponse().read()
        connection.close()

    before, began = cpu_s(pid), time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _REQUESTS / (time.perf_counter() - began), (cpu_s(pid) - before) / _REQUESTS


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process, in seconds."""
    return sum(map(int, Path(f"/proc/{pid}/schedstat").read_text().split()[:1])) / 1e9


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pair = per_pair_us(options.rounds, Path(folder))
        ratios = proxy_ratios(options.rounds, Path(folder))
    print(f"acquire + release (SQLAlchemy): {pair['without_us']:.1f} us alone, +{pair['added_us']:.1f} us watched")
    print(f"proxy, saturated, watched / not: throughput {ratios['throughput_ratio']:.3f}, "
          f"CPU per request {ratios['cpu_per_request_ratio']:.3f}")  # fmt: skip
    if options.out:
        options.out.write_text(json.dumps({**pair, **ratios}, indent=1), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
