"""`python -m perfkit.proxy --config FILE`: the reference proxy as a process, without the rest of perfkit."""

import argparse
import sys

from perfkit.proxy.config import BadConfig
from perfkit.proxy.serve import run_proxy


def main(arguments: list[str] | None = None) -> int:
    """Run the proxy; return 0 after a clean end, 2 if the configuration cannot be used, 3 if an address cannot."""
    parser = argparse.ArgumentParser(prog="python -m perfkit.proxy", description="Run perfkit's reference proxy.")
    parser.add_argument("--config", required=True, help="TOML file")
    chosen = parser.parse_args(arguments)
    try:
        return run_proxy(chosen.config)
    except BadConfig as error:
        sys.stderr.write(f"perfkit proxy: {error}\n{error.hint}\n" if error.hint else f"perfkit proxy: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"perfkit proxy: {error}\n")
        return 3


if __name__ == "__main__":
    sys.exit(main())
