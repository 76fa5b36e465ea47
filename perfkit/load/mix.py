"""The only place that makes the requests: which route is next, and its bytes on the wire."""

import random
import re
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

from perfkit.errors import UnknownName, UsageError
from perfkit.load.options import Route

_PLACEHOLDER = re.compile(r"\{([a-z_]+)(?::(\d+))?\}")
_UNSAFE = re.compile(r"[\x00-\x20\x7f]")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = {"content-length", "transfer-encoding", "traceparent"}
_NOISE_BYTES = 1 << 16


class Rendered(NamedTuple):
    """One request, ready to be sent."""

    route: int
    trace: int
    payload: bytes
    body_bytes: int


class Mix:
    """Draws requests from weighted routes; the same seed gives the same requests, but for their trace ids.

    Each request carries a W3C `traceparent` with a trace id that no other recording has.

    Source: https://www.w3.org/TR/trace-context/#traceparent-header
    """

    def __init__(self, routes: Sequence[Route], host: str, seed: int = 0) -> None:
        self._random = random.Random(f"mix {seed}")  # noqa: S311 - repeatable, not secret
        self._traces = random.Random()  # noqa: S311 - unique, not secret
        self._noise = self._random.randbytes(_NOISE_BYTES)
        self._numbers = list(range(len(routes)))
        self._weights = list(accumulate(route.weight for route in routes))
        self._templates = [self._compile(route, host) for route in routes]
        self._count = 0

    def draw(self) -> Rendered:
        """Return the next request."""
        number = self._random.choices(self._numbers, cum_weights=self._weights)[0] if len(self._numbers) > 1 else 0
        head, values, body_bytes = self._templates[number]
        trace = self._traces.getrandbits(128) or 1  # all zeros is not a valid trace id
        parent = b"00-%032x-%016x-01" % (trace, (trace & 0xFFFFFFFFFFFFFFFF) or 1)
        drawn = {name: value() for name, value in values.items()}
        payload = head % {b"traceparent": parent, **drawn}
        self._count += 1
        if body_bytes:
            payload += self._body(body_bytes)
        return Rendered(number, trace, payload, body_bytes)

    def _body(self, size: int) -> bytes:
        """Return `size` bytes of noise, from another place each time."""
        start = self._random.randrange(_NOISE_BYTES)
        noise = self._noise[start : start + size]
        if len(noise) < size:
            noise = (noise + self._noise * (1 + size // _NOISE_BYTES))[:size]
        return noise

    def _compile(self, route: Route, host: str) -> tuple[bytes, dict[bytes, Callable[[], bytes]], int]:
        """Return the head as a template, what to put in, and the size of the body."""
        values: dict[bytes, Callable[[], bytes]] = {}

        def template(text: str) -> bytes:
            literals = _PLACEHOLDER.split(text)
            # split() gives literal, name, bound, literal, name, bound, ..., literal
            parts = [_escaped(literals[0])]
            for name, bound, literal in zip(literals[1::3], literals[2::3], literals[3::3], strict=True):
                key = f"{name}:{bound}".encode() if bound else name.encode()
                values[key] = self._value(name, int(bound) if bound else None)
                parts += (b"%%(%b)b" % key, _escaped(literal))
            return b"".join(parts)

        if _UNSAFE.search(route.path):
            raise UsageError(f"the path {route.path!r} of route {route.name!r} has a blank or control character")
        given = {name.lower() for name in route.headers}
        if wrong := [name for name in route.headers if not _TOKEN.fullmatch(name) or name.lower() in _OURS]:
            raise UsageError(f"route {route.name!r} cannot set the header {wrong[0]!r}")
        if any("\r" in value or "\n" in value for value in route.headers.values()):
            raise UsageError(f"a header of route {route.name!r} has a line break")
        defaults = {"Host": host, "Accept": "*/*"}
        if route.body_bytes or route.method in {"PATCH", "POST", "PUT"}:
            defaults |= {"Content-Type": "application/octet-stream", "Content-Length": str(route.body_bytes)}
        headers = {name: value for name, value in defaults.items() if name.lower() not in given} | route.headers
        lines = [route.method.encode() + b" " + template(route.path) + b" HTTP/1.1"]
        lines += [_escaped(name) + b": " + template(value) for name, value in headers.items()]
        return b"\r\n".join([*lines, b"traceparent: %(traceparent)b", b"", b""]), values, route.body_bytes

    def _value(self, name: str, bound: int | None) -> Callable[[], bytes]:
        """Return what draws the value of a placeholder."""
        draw = self._random
        if name == "session" and bound:
            return lambda: b"%032x" % draw.randrange(bound)
        if name == "session":
            return lambda: b"%032x" % draw.getrandbits(128)
        if name == "n" and bound:
            return lambda: b"%d" % draw.randrange(bound)
        if name == "n":
            return lambda: b"%d" % self._count
        raise UnknownName("placeholder", name, ["session", "session:N", "n", "n:N"])


def _escaped(text: str) -> bytes:
    """Return text that stands for itself in a template."""
    return text.encode("latin-1").replace(b"%", b"%%")
