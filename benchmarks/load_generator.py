"""How punctual the load generator is, and what it costs: `python benchmarks/load_generator.py [--out FILE]`.

A trivial server answers at once, so that lateness and latency are the generator's own (and the machine's).
Each rate runs in interleaved rounds; the table shows medians over the rounds, the JSON every round.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

RATES_PER_S = (500, 2000, 10000)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + b"x" * 1024


class Trivial(asyncio.Protocol):
    """Answers every request the same."""

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer; a GET of the generator is one piece."""
        self._transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def serve() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Trivial, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def measure(port: int, rate_per_s: int, duration_s: float, arrivals: str) -> dict[str, Any]:
    """Return the summary of one run."""
    command = [sys.executable, "-m", "perfkit.load", f"http://127.0.0.1:{port}", "--rate", str(rate_per_s)]
    command += ["--duration", str(duration_s), "--arrivals", arrivals]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


def main() -> None:
    """Run all rates and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--duration", type=float, default=3.0, help="seconds per run")
    parser.add_argument("--arrivals", default="poisson")
    parser.add_argument("--out", type=Path, help="write every round as JSON")
    given = parser.parse_args()
    if given.serve:
        import uvloop

        uvloop.run(serve())
        return
    rounds: dict[int, list[dict[str, Any]]] = {rate: [] for rate in RATES_PER_S}
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        for number in range(given.rounds):
            for rate_per_s, runs in rounds.items():
                runs.append({"round": number, **measure(port, rate_per_s, given.duration, given.arrivals)})
        server.communicate()
    print("| requests/s | own lateness p50, ms | p99, ms | latency p50, ms | p99, ms | cores |")
    print("|---|---|---|---|---|---|")
    for rate_per_s, runs in rounds.items():
        cells = [
            statistics.median(run[group][name] for run in runs)
            for group in ("own_lateness_ms", "latency_ms")
            for name in ("p50", "p99")
        ]
        cores = statistics.median(run["cpu_cores"] for run in runs)
        print(f"| {rate_per_s} | " + " | ".join(f"{cell:.3f}" for cell in cells) + f" | {cores:.2f} |")
    if given.out is not None:
        given.out.write_text(json.dumps(rounds, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
