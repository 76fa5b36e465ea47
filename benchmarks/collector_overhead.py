"""What each collector costs the target: `python benchmarks/collector_overhead.py [--quick] [--out FILE]`.

One reference proxy, attached to once, serves all windows. A pair is two neighbouring windows, one
with a collector and one without, in alternating order; the table shows medians over the pairs.
"wrk" drives the proxy to saturation and gives the ratio of throughput, and that of the proxy's CPU time
per request, which the rest of the machine disturbs less; an open-loop load at a fixed rate gives
the p99 that users would see. The recorder (py-spy above all) and the load run on the same machine: what
they take from the load is part of the ratio of throughput. With `--own-core` the proxy has a core for itself,
and nginx as its upstream, wrk and the recorder share another that is not busy all the time: then the
ratio is what the target loses. With `--rate` that proxy gets so many requests per second from 32 connections
("h2load"), however fast it is: a closed loop speeds up and slows down with its target, in steps, and hides a few
per cent; at a fixed rate the CPU time per request is the cost, and one by it the throughput that a core has left.
This load goes on through all windows, and the upstream counts the requests, so that windows can be short and many:
neighbours on the machine change its speed by a fifth from second to second, and only many pairs average that out.
"""

import argparse
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import proxy_peers
from perfkit.attach.session import Session
from perfkit.attach.target import inspect
from perfkit.clock import Clock
from perfkit.collectors import Recording, collectors
from perfkit.lab import RunningLab, lab
from perfkit.load.results import decode as decode_load
from perfkit.scenarios import load as load_scenario

CANDIDATES = ("gc_pauses", "python_memory", "loop_lag", "asyncio_tasks", "process_stats", "pyspy_stacks")
ALWAYS_ON = ("cpu", "gc", "process")
RATE_PER_S = 400.0
CONNECTIONS = 32
SETTLE_S = 0.5
THROUGHPUT_AT_LEAST = 0.97
ADDED_P99_AT_MOST_MS = 10.0
_MANY = 200
"""From here on the binomial ranks are those of the normal distribution."""
Load = Callable[[str, int, float], dict[str, float]]
"""Asks a URL for so many seconds and says what that cost the process: requests per second, CPU time per request."""


def always_on_in(*groups: str) -> tuple[str, ...]:
    """Return the collectors of some groups that are there without being asked for."""
    return tuple(
        name for name, each in collectors().items() if each.group in groups and not getattr(each, "on_request", False)
    )


@contextmanager
def program(python: Path, text: str, *arguments: str) -> Iterator[tuple[int, Callable[[str], str]]]:
    """Yield the process id of a program that says "ready PID", and a function that returns its answer to a line."""
    process = subprocess.Popen(
        [str(python), "-c", text, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def ask(line: str) -> str:
        stdin.write(line + "\n")
        return stdout.readline()

    try:
        yield int(stdout.readline().split()[1]), ask
    finally:
        stdin.close()
        process.wait(30)
        stdout.close()


@contextmanager
def attached(pid: int) -> Iterator[Any]:
    """Yield a function that gives a context in which some collectors record the process."""
    target = inspect(pid)
    with Session.open(target) as session, tempfile.TemporaryDirectory() as folder:
        number = 0

        @contextmanager
        def recording(names: tuple[str, ...]) -> Iterator[None]:
            nonlocal number
            with ExitStack() as stack:
                for name in names:
                    raw = Path(folder) / str(number) / name
                    raw.mkdir(parents=True)
                    collector = collectors()[name]
                    options = dict(collector.options)
                    stack.enter_context(
                        collector.record(
                            Recording(target, raw, Clock.start(), lambda: session, lambda _text: None, options=options)
                        )
                    )
                number += 1
                yield

        yield recording


def cpu_ns(pid: int) -> int:
    """Return the CPU time of a process in nanoseconds.

    Source: CPUCLOCK_SCHED in https://github.com/torvalds/linux/blob/master/include/linux/posix-timers.h
    """
    return time.clock_gettime_ns((~pid << 3) | 2)


def saturate(url: str, pid: int, window_s: float) -> dict[str, float]:
    """Return requests per second, their p99, and the target's CPU time per request, of 32 busy connections."""
    before_ns = cpu_ns(pid)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{round(window_s)}s", "--latency", url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]
    requests = int(re.search(r"(\d+) requests in", text)[1])  # type: ignore[index]
    per_request_ns = (cpu_ns(pid) - before_ns) / requests
    per_s = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])  # type: ignore[index]
    return {"per_s": per_s, "p99_ms": float(number) * scale, "cpu_per_request_ns": per_request_ns}


@contextmanager
def at_rate(rate_per_s: float, url: str, served_url: str) -> Iterator[Load]:
    """Yield a load that keeps to a rate below saturation, all the time; a window of it has no p99.

    Args:
        rate_per_s: requests per second.
        url: what is asked for.
        served_url: where the upstream says how many requests it has answered.
    """

    def served() -> int:
        with urllib.request.urlopen(served_url, timeout=10) as answer:
            return int(answer.read().decode().splitlines()[2].split()[2])

    def window(_url: str, pid: int, window_s: float) -> dict[str, float]:
        before, before_ns, began = served(), cpu_ns(pid), time.monotonic()
        time.sleep(window_s)
        requests, used_ns, lasted_s = served() - before - 1, cpu_ns(pid) - before_ns, time.monotonic() - began
        if requests < 0.97 * rate_per_s * lasted_s:
            raise SystemExit(f"{requests / lasted_s:.0f} requests/s were answered of {rate_per_s:g}: lower the --rate")
        return {
            "per_s": requests / lasted_s,
            "cpu_per_request_ns": used_ns / requests,
            "busy": used_ns / lasted_s / 1e9,
        }

    command = ["h2load", "--h1", "-t1", f"-c{CONNECTIONS}", "-D86400", f"--rps={rate_per_s / CONNECTIONS:g}", url]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(2.0)
        yield window
    finally:
        process.terminate()
        process.wait()


def pairs(rounds: int, sets: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """Yield name, collectors (none: without) and pair of each window, in the order they run in."""
    for number in range(rounds):
        print(f"pair {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for name, chosen in sets.items():
            windows = [((), number), (chosen, number)]
            for which, pair in windows if number % 2 else reversed(windows):
                yield name, which, pair


@contextmanager
def on_its_own_core(folder: Path) -> Iterator[tuple[str, int, str]]:
    """Yield address and process id of a proxy that has a core for itself; this process and its children leave it.

    The third is the address at which its upstream says how many requests it has answered.

    Raises:
        SystemExit: there is one core only, or a server did not start.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("--own-core needs two cores")
    port, upstream_port = proxy_peers.free_port(), proxy_peers.free_port()
    with (
        proxy_peers.running(proxy_peers.nginx_upstream(folder, upstream_port), upstream_port, cores[1]),
        proxy_peers.running(proxy_peers.perfkit_proxy("stream")(folder, upstream_port, port), port, cores[0]) as pid,
    ):
        os.sched_setaffinity(0, cores[1:])
        try:
            yield f"http://127.0.0.1:{port}/1k", pid, f"http://127.0.0.1:{upstream_port}/served"
        finally:
            os.sched_setaffinity(0, cores)


def in_windows(
    load: Load, url: str, pid: int, recording: Any, sets: dict[str, Any], rounds: int, window_s: float, settle_s: float
) -> Any:
    """Return `{name: [(with, without), ...]}` of what a load says."""
    found: dict[str, dict[int, dict[bool, Any]]] = {name: {} for name in sets}
    load(url, pid, window_s)
    for name, chosen, pair in pairs(rounds, sets):
        with recording(chosen):
            time.sleep(settle_s if chosen else SETTLE_S)
            found[name].setdefault(pair, {})[bool(chosen)] = load(url, pid, window_s)
    return {name: [(each[True], each[False]) for each in by_pair.values()] for name, by_pair in found.items()}


def in_open_loop(
    running: RunningLab, recording: Any, sets: dict[str, Any], rounds: int, window_s: float, folder: Path
) -> Any:
    """Return `{name: [(with, without), ...]}` of the latencies of one load that runs through all windows."""
    clock = Clock.start()
    length_s = rounds * len(sets) * 2 * (window_s + 3.0)
    running.start_load(folder, length_s)
    time.sleep(2.0)
    windows = []
    for name, chosen, pair in pairs(rounds, sets):
        with recording(chosen):
            time.sleep(SETTLE_S)
            began_ns = clock.now_ns()
            time.sleep(window_s)
            windows.append((name, bool(chosen), pair, began_ns, clock.now_ns()))
    running.stop_load()
    requests = decode_load(folder, clock)["requests"]
    intended_ns = requests["intended_ns"].to_numpy()
    latency_ms = requests["latency_ns"].to_numpy() / 1e6
    found: dict[str, dict[int, dict[bool, Any]]] = {name: {} for name in sets}
    for name, is_on, pair, began_ns, ended_ns in windows:
        inside = latency_ms[(intended_ns >= began_ns) & (intended_ns < ended_ns)]
        p50, p99 = (float(np.quantile(inside, q)) for q in (0.5, 0.99))
        found[name].setdefault(pair, {})[is_on] = {"requests": len(inside), "p50_ms": p50, "p99_ms": p99}
    return {name: [(each[True], each[False]) for each in by_pair.values()] for name, by_pair in found.items()}


def median_and_interval(values: list[float]) -> str:
    """Return the median with the interval that has it inside in at least 95 of 100 runs, from ranks alone.

    Source: D. F. Bauer (1972), doi:10.1080/01621459.1972.10481279 (binomial ranks of the median).
    """
    ordered, n = sorted(values), len(values)
    if n > _MANY:
        rank = int(n / 2 - 0.98 * math.sqrt(n))
    else:
        tails = [sum(math.comb(n, k) for k in range(rank)) / 2**n for rank in range(1, n // 2 + 1)]
        rank = sum(tail <= 0.025 for tail in tails)
    text = f"{statistics.median(ordered):.3f}"
    return f"{text} ({ordered[rank - 1]:.3f}-{ordered[n - rank]:.3f})" if rank else f"{text} (too few pairs)"


def main() -> None:
    """Run all windows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about two minutes, for a first impression")
    parser.add_argument("--rounds", type=int, default=7, help="pairs per collector")
    parser.add_argument("--window", type=float, default=4.0, help="seconds per window, whole ones for wrk")
    parser.add_argument("--saturated", action="store_true", help="leave out the load at a fixed rate")
    parser.add_argument("--own-core", action="store_true", help="saturate a proxy that has a core for itself")
    parser.add_argument("--rate", type=float, help="requests per second for the proxy on its own core")
    parser.add_argument(
        "--settle", type=float, default=SETTLE_S, help="seconds from the start of collectors to a window"
    )
    parser.add_argument("--only", nargs="*", default=None, help="names of collectors, gc or always_on")
    parser.add_argument("--out", type=Path, help="write every window as JSON")
    given = parser.parse_args()
    tool, where = ("wrk", "https://github.com/wg/wrk") if given.rate is None else ("h2load", "https://nghttp2.org")
    if shutil.which(tool) is None:
        parser.error(f"{tool} is not installed: {where}")
    load: Load = saturate
    own_core = given.own_core or given.rate is not None
    rounds, window_s = (2, 2.0) if given.quick else (given.rounds, given.window)
    always_on = always_on_in(*ALWAYS_ON)
    sets: dict[str, tuple[str, ...]] = {name: (name,) for name in CANDIDATES}
    # What is in the target all the time, and with it those that look at it from outside.
    sets["gc"] = always_on_in("gc")
    sets["always_on"] = always_on
    if given.only:
        sets = {name: sets.get(name, (name,)) for name in given.only}
    plain = load_scenario("healthy")
    scenario = replace(
        plain,
        upstream={**plain.upstream, "latency_ms": 0, "jitter_ms": 0},
        load=replace(plain.load, rate_per_s=RATE_PER_S),
    )
    opened: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as text, ExitStack() as stack:
        folder = Path(text)
        if own_core:
            url, pid, served_url = stack.enter_context(on_its_own_core(folder))
            if given.rate is not None:
                load = stack.enter_context(at_rate(given.rate, url, served_url))
        else:
            running = stack.enter_context(lab(scenario, folder))
            url, pid = f"http://127.0.0.1:{running.proxy_port}/pages/1", running.proxy_pid
        recording = stack.enter_context(attached(pid))
        closed = in_windows(load, url, pid, recording, sets, rounds, window_s, given.settle)
        if not given.saturated and not own_core:
            opened = in_open_loop(running, recording, sets, rounds, window_s, folder / "rows")
    print("| collector | throughput with / without | CPU per request | p99 with, ms | without, ms | added, ms |")
    print("|---|---|---|---|---|---|")
    for name in sets:
        ratio = median_and_interval([on["per_s"] / off["per_s"] for on, off in closed[name]])
        cpu = median_and_interval([on["cpu_per_request_ns"] / off["cpu_per_request_ns"] for on, off in closed[name]])
        if not opened:
            if given.rate is not None:
                left = [off["cpu_per_request_ns"] / on["cpu_per_request_ns"] for on, off in closed[name]]
                ratio = f"{median_and_interval(left)} (by CPU time)"
            print(f"| {name} | {ratio} | {cpu} | | | |")
            continue
        p99_on, p99_off = (statistics.median(pair[side]["p99_ms"] for pair in opened[name]) for side in (0, 1))
        added = statistics.median(on["p99_ms"] - off["p99_ms"] for on, off in opened[name])
        print(f"| {name} | {ratio} | {cpu} | {p99_on:.2f} | {p99_off:.2f} | {added:+.2f} |")
    if given.rate is not None:
        busy = statistics.median(off["busy"] for found in closed.values() for _on, off in found)
        print(f"\n{given.rate:g} requests/s, of which the proxy is busy {busy:.0%} of its core.")
    print(
        f"\nalways_on: {', '.join(always_on)}. Held to: throughput >= {THROUGHPUT_AT_LEAST},"
        f" added p99 <= {ADDED_P99_AT_MOST_MS:g} ms. {rounds} pairs of {window_s:g} s; open loop at {RATE_PER_S:g}/s."
    )
    if given.out is not None:
        result = {"rounds": rounds, "window_s": window_s, "rate_per_s": RATE_PER_S, "always_on": always_on}
        text = json.dumps({**result, "saturated": closed, "open_loop": opened}, indent=2)
        given.out.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
