"""`python -m perfkit.proxy`, also `perfkit proxy`: the reference proxy as a process, without the rest of perfkit."""

import argparse
import sys

from perfkit.proxy.config import BadConfig, Config
from perfkit.proxy.serve import run_proxy


def main(arguments: list[str] | None = None) -> int:
    """Run the proxy; return 0 after a clean end, 2 if the configuration cannot be used, 3 if an address cannot."""
    given = _parser().parse_args(arguments)
    try:
        return run_proxy(given.config or _config(given))
    except BadConfig as error:
        sys.stderr.write(f"perfkit proxy: {error}\n{error.hint}\n" if error.hint else f"perfkit proxy: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"perfkit proxy: {error}\n")
        return 3


def _parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog="perfkit proxy",
        description="Run the reference reverse proxy. Prints one line of JSON when it is ready; SIGTERM drains it.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", metavar="FILE", help="everything from a TOML file, read again on SIGHUP")
    source.add_argument("--upstream", metavar="HOST:PORT", help="pass everything on to one server")
    parser.add_argument("--port", type=int, default=0, help="with --upstream: port to listen on (default: any)")
    parser.add_argument("--control-port", type=int, default=0, help="with --upstream: port of the control endpoint")
    parser.add_argument("--forwarding", default="stream", help="with --upstream: stream (default) or buffered")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME", help="with --upstream: plant a fault")
    return parser


def _config(given: argparse.Namespace) -> Config:
    """Return the configuration that the command line asks for.

    Raises:
        BadConfig: it says something the proxy cannot do.
    """
    return Config.from_mapping(
        {
            "proxy": {"port": given.port, "control_port": given.control_port, "forwarding": given.forwarding},
            "upstreams": {"app": {"address": given.upstream}},
            "faults": dict.fromkeys(given.fault, True),
        }
    )


if __name__ == "__main__":
    sys.exit(main())
