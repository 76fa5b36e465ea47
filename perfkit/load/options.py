"""The only place that says what a load is: where, when, what, and within which bounds."""

import json
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from perfkit.errors import UnknownName, UsageError
from perfkit.load.schedule import Schedule, Segment

METHODS = ("DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT")


class NotLoopback(UsageError):
    """The load would leave this machine."""

    hint = "Load only what you run yourself; if that is a remote machine, say so with --allow-remote."

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} is not an address of this machine's loopback interface")
        self.host = host


@dataclass(frozen=True, slots=True)
class Route:
    """One kind of request of the mix.

    Path and header values may hold random parts, drawn anew for each request: `{session}` a
    new session id, `{session:N}` one of N session ids, `{n}` the number of the request,
    `{n:N}` a number below N. `weight` is its share among all routes' weights. The body is
    `body_bytes` of noise that compresses badly and differs between requests.
    """

    name: str = "root"
    method: str = "GET"
    path: str = "/"
    weight: float = 1.0
    headers: dict[str, str] = field(default_factory=dict)
    body_bytes: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UnknownName("method", self.method, list(METHODS))
        if not self.path.startswith("/"):
            raise UsageError(f"the path {self.path!r} of route {self.name!r} does not start with a slash")
        if self.weight < 0 or not 0 <= self.body_bytes <= 1 << 30:
            raise UsageError(f"route {self.name!r} has a negative weight or an impossible body size")


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Everything about one run of the load generator.

    It ends with the schedule or after `max_requests`, whichever is first. At most
    `max_connections` are open, `warm_connections` of them before it begins; a request that finds
    none free waits, and its latency counts from its intended start all the same. `abort_ratio` of
    the requests are given up by the client `abort_after_s` after they were sent, by closing the
    connection. A request is late by the generator's own fault when it was dealt with more than
    `late_after_s` after it was due.
    """

    host: str
    port: int
    schedule: Schedule
    routes: tuple[Route, ...] = (Route(),)
    max_connections: int = 64
    warm_connections: int = 1
    timeout_s: float = 10.0
    max_requests: int = 1_000_000
    abort_ratio: float = 0.0
    abort_after_s: float = 0.005
    late_after_s: float = 0.005
    allow_remote: bool = False

    def __post_init__(self) -> None:
        if not self.allow_remote and not _is_loopback(self.host):
            raise NotLoopback(self.host)
        if not self.routes or sum(route.weight for route in self.routes) <= 0:
            raise UsageError("the load has no route with a weight above zero")
        if len({route.name for route in self.routes}) < len(self.routes):
            raise UsageError("two routes of the load have the same name")
        if self.max_connections < 1 or self.max_requests < 1 or not self.timeout_s > 0:
            raise UsageError("max_connections, max_requests and timeout_s must be above zero")
        if not 1 <= self.warm_connections <= self.max_connections:
            raise UsageError(f"warm_connections is between 1 and max_connections, not {self.warm_connections}")
        if not 0 <= self.abort_ratio <= 1:
            raise UsageError(f"abort_ratio is a share between 0 and 1, not {self.abort_ratio:g}")

    @property
    def authority(self) -> str:
        """Host and port as a URL and the Host header write them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def to_json(self) -> str:
        """Return the options as JSON, which `from_json` reads."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "LoadOptions":
        """Return the options written by `to_json`.

        Raises:
            UsageError: it is not such a text, or the options do not fit together.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            plan = raw.pop("schedule")
            segments = tuple(Segment(**segment) for segment in plan.pop("segments"))
            routes = tuple(Route(**route) for route in raw.pop("routes", [{}]))
            return cls(schedule=Schedule(segments, **plan), routes=routes, **raw)
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise UsageError(f"cannot read the load's options: {error}") from error

    @classmethod
    def from_file(cls, file: Path) -> "LoadOptions":
        """Return the options stored in a file."""
        return cls.from_json(file.read_text("utf-8"))


def split_target(url: str) -> tuple[str, int]:
    """Return host and port of an `http://host:port` address.

    Raises:
        UsageError: it is another kind of address.

    >>> split_target("http://127.0.0.1:8080")
    ('127.0.0.1', 8080)
    """
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        port = parts.port or 80
    except ValueError as error:
        raise UsageError(f"cannot read the address {url!r}: {error}") from error
    if parts.scheme != "http" or not parts.hostname:
        raise UsageError(f"cannot load {url!r}", hint="Give the address as http://127.0.0.1:8080; there is no TLS.")
    return parts.hostname, port


def _is_loopback(host: str) -> bool:
    """Whether a host is this machine's loopback, judged without asking a resolver."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
