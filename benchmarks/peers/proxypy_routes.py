"""Routes of proxy.py's reverse proxy: everything to the port in PERFKIT_UPSTREAM_PORT."""

import os

from proxy.http.server import ReverseProxyBasePlugin


class Everything(ReverseProxyBasePlugin):
    """Sends every path to one upstream."""

    def routes(self) -> list:
        """Return the routes: a pattern and its upstreams."""
        port = os.environ["PERFKIT_UPSTREAM_PORT"]
        return [(rf"/{size}$", [f"http://127.0.0.1:{port}/{size}".encode()]) for size in ("1k", "4k")]
