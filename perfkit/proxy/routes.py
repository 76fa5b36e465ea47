"""The only place that decides which upstream a request goes to."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from perfkit.proxy import grammar
from perfkit.proxy.request import Request


@dataclass(frozen=True)
class Route:
    """Sends requests that match to an upstream; the first route that matches wins.

    Args:
        upstream: name of the upstream.
        host: exact host, `*.domain` for its subdomains, or empty for any.
        prefix: path prefix, compared by whole segments: `/api` matches `/api/x`, never `/apix`.
        headers: fields that must be present with exactly this value.
        name: what the route is called in statistics.
    """

    upstream: str
    host: str = ""
    prefix: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    name: str = ""


class Routes:
    """The routes of a configuration, prepared for matching.

    >>> request = Request(b"GET", b"/api/users?page=2", 1, b"")
    >>> Routes([Route("app", prefix="/apis"), Route("api", prefix="/api")]).match(request).upstream
    'api'
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [_Matcher(route) for route in routes]
        # The usual configuration: one route that takes everything.
        first = routes[0] if routes else None
        self._only = first if first is not None and first == Route(first.upstream, name=first.name) else None

    def match(self, request: Request) -> Route | None:
        """Return the first route for the request, or None."""
        if self._only is not None:
            return self._only
        path = request.path
        host = request.host.lower().partition(b":")[0] if request.host[:1] != b"[" else request.host.lower()
        for matcher in self._routes:
            if matcher.matches(path, host, request.received):
                return matcher.route
        return None


class _Matcher:
    """One route as bytes and patterns."""

    __slots__ = ("_headers", "_host", "_prefix", "_prefix_slash", "_suffix", "route")

    def __init__(self, route: Route) -> None:
        self.route = route
        host = route.host.lower().encode()
        self._suffix = host[1:] if host.startswith(b"*.") else b""
        self._host = b"" if self._suffix else host
        self._prefix = route.prefix.rstrip("/").encode()
        self._prefix_slash = self._prefix + b"/"
        self._headers: list[tuple[re.Pattern[bytes], bytes]] = [
            (grammar.field_named(name), value.encode("latin-1")) for name, value in route.headers.items()
        ]

    def matches(self, path: bytes, host: bytes, fields: bytes) -> bool:
        """Whether a request with this path, host and fields belongs to the route."""
        if self._host and host != self._host:
            return False
        if self._suffix and not host.endswith(self._suffix):
            return False
        if self._prefix and path != self._prefix and not path.startswith(self._prefix_slash):
            return False
        return all(
            any(found.rstrip(b" \t") == value for _, found in pattern.findall(fields))
            for pattern, value in self._headers
        )
