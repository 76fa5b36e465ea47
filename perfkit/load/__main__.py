"""`python -m perfkit.load`: run a load from the command line."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from perfkit.errors import PerfkitError, UsageError
from perfkit.load.options import LoadOptions, Route, split_target
from perfkit.load.run import run_load
from perfkit.load.schedule import ARRIVALS, Schedule
from perfkit.load.slo import Slo


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, and return the exit code: 0 ran, 2 usage, 3 the target cannot be reached."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        return run_load(_options(given), given.out)
    except PerfkitError as error:
        sys.stderr.write(f"{error}\n{error.hint}\n" if error.hint else f"{error}\n")
        return 2 if isinstance(error, UsageError) else 3


def _parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog="perfkit load",
        description="Open-loop HTTP/1.1 load: latency counts from the intended start of each request.",
    )
    parser.add_argument("url", nargs="?", help="target, as http://127.0.0.1:8080")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--rate", type=float, help="requests per second")
    shape.add_argument("--schedule", help="steps and ramps: '100/s for 10s, 100..300/s for 20s'")
    shape.add_argument("--slo", help="'1200/s, p95 200 ms, errors 0.5%%': its rate, and connections by Little's law")
    shape.add_argument("--options", type=Path, help="file with all options as JSON")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds, with --rate and --slo (default 10)")
    parser.add_argument("--arrivals", choices=ARRIVALS, default="poisson", help="default: poisson")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same schedule")
    parser.add_argument("--path", default="/", help="path; {session}, {session:N}, {n}, {n:N} are random parts")
    parser.add_argument("--method", default="GET", help="default: GET")
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE", help="may be repeated")
    parser.add_argument("--body-bytes", type=int, default=0, help="size of each request's body")
    parser.add_argument("--max-connections", type=int, help="default 64, or the in-flight number of --slo")
    parser.add_argument("--warm-connections", type=int, default=1, help="opened before the schedule begins (default 1)")
    parser.add_argument("--max-requests", type=int, default=1_000_000, help="default: a million")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds from the intended start (default 10)")
    parser.add_argument("--abort-ratio", type=float, default=0.0, help="share of requests the client gives up")
    parser.add_argument("--abort-after", type=float, default=0.005, help="seconds until it does (default 0.005)")
    parser.add_argument("--allow-remote", action="store_true", help="load another machine")
    parser.add_argument("-o", "--out", type=Path, help="folder for one row per request")
    return parser


def _options(given: argparse.Namespace) -> LoadOptions:
    """Return the options that the command line asks for."""
    if given.options is not None:
        options = LoadOptions.from_file(given.options)
        if given.url:
            host, port = split_target(given.url)
            options = replace(options, host=host, port=port, allow_remote=given.allow_remote)
        return options
    if not given.url:
        raise UsageError("no target given", hint="Give its address, as http://127.0.0.1:8080.")
    host, port = split_target(given.url)
    slo = Slo.parse(given.slo) if given.slo else None
    rate_per_s = slo.requests_per_s if slo else given.rate if given.rate is not None else 100.0
    text = given.schedule or f"{rate_per_s!r}/s for {given.duration!r}s"
    pairs = [header.partition(":") for header in given.header]
    headers = {name.strip(): value.strip() for name, _, value in pairs}
    return LoadOptions(
        host=host,
        port=port,
        schedule=Schedule.parse(text, given.arrivals, given.seed),
        routes=(Route("request", given.method, given.path, 1.0, headers, given.body_bytes),),
        max_connections=given.max_connections or (slo.in_flight if slo else 64),
        warm_connections=given.warm_connections,
        timeout_s=given.timeout,
        max_requests=given.max_requests,
        abort_ratio=given.abort_ratio,
        abort_after_s=given.abort_after,
        allow_remote=given.allow_remote,
    )


if __name__ == "__main__":
    sys.exit(main())
