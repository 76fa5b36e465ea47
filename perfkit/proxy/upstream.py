"""The lab's upstream: a server whose latency, size, errors and keep-alive can be set, also per request.

`GET /?latency_ms=20&size_bytes=4096` overrides the settings for one request; `GET /echo` returns
the request as JSON; `PATCH /settings` changes the settings; `GET /settings` returns them and
what was served. Start it with `python -m perfkit.proxy.upstream`.
"""

import argparse
import asyncio
import json
import random
import sys
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, cast
from urllib.parse import parse_qsl

from perfkit.errors import UnknownName, UsageError
from perfkit.proxy.chunked import BadChunk, ChunkedReader, chunk
from perfkit.proxy.refusals import Refused, answer
from perfkit.proxy.request import HeadLimits, Request, read_request

_LIMITS = HeadLimits(target_bytes=65_536, head_bytes=131_072, fields=1_000)
_PIECE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Settings:
    """How the upstream behaves.

    Args:
        latency_ms: time before each answer.
        jitter_ms: up to this much more, uniformly random.
        size_bytes: size of the content.
        error_ratio: share of requests answered 500, in [0, 1].
        abort_ratio: share of requests answered by closing the connection, in [0, 1].
        keep_alive: keep connections open between requests.
        requests_per_connection: close a connection after this many requests; 0: never.
        idle_ms: close a connection idle for this long; 0: never.
        framing: `length`, `chunked`, or `close` (the content ends with the connection).
        trailer: send a trailer field after chunked content.
        status: status of the answers.
        piece_delay_ms: time between pieces of the content, to make it drip.
    """

    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    size_bytes: int = 1024
    error_ratio: float = 0.0
    abort_ratio: float = 0.0
    keep_alive: bool = True
    requests_per_connection: int = 0
    idle_ms: float = 0.0
    framing: str = "length"
    trailer: bool = False
    status: int = 200
    piece_delay_ms: float = 0.0

    def changed(self, changes: dict[str, Any]) -> "Settings":
        """Return the settings with some of them changed, from JSON values or the words of a query.

        Raises:
            UnknownName: there is no such setting.
            UsageError: a value does not fit.
        """
        kinds = {f.name: f.type for f in fields(self)}
        values: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in kinds:
                raise UnknownName("setting", name, list(kinds))
            try:
                values[name] = _truth(value) if kinds[name] is bool else cast("Any", kinds[name])(value)
            except (TypeError, ValueError):
                raise UsageError(f"{name} cannot be {value!r}") from None
        chosen = replace(self, **values)
        if chosen.framing not in ("length", "chunked", "close"):
            raise UsageError("framing is length, chunked or close")
        return chosen


def _settings_in(query: str) -> dict[str, str]:
    """Return the settings in a query; a page's own parameters are none of ours."""
    return {name: value for name, value in parse_qsl(query) if name in _SETTINGS}


def _truth(value: Any) -> bool:
    """Return a JSON or query value as a truth value."""
    if isinstance(value, bool):
        return value
    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[str(value).lower()]


_SETTINGS = frozenset(f.name for f in fields(Settings))


class UpstreamServer:
    """What the connections of one upstream share."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings) -> None:
        self.loop = loop
        self.settings = settings
        self.connections = 0
        self.connections_total = 0
        self.requests_total = 0
        self.content = random.Random(0).randbytes(_PIECE_BYTES)  # noqa: S311 - filler

    def to_dict(self) -> dict[str, Any]:
        """Return settings and counters in JSON form."""
        return {
            **asdict(self.settings),
            "connections": self.connections,
            "connections_total": self.connections_total,
            "requests_total": self.requests_total,
        }


class UpstreamConnection(asyncio.Protocol):
    """One connection to the upstream; answers its requests in order."""

    def __init__(self, server: UpstreamServer) -> None:
        self._server = server
        self._transport: asyncio.Transport
        self._held = b""
        self._request: Request | None = None
        self._body = bytearray()
        self._reader: ChunkedReader | None = None
        self._left = 0
        self._answering = False
        self._served = 0
        self._timer: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections += 1
        self._server.connections_total += 1
        self._wait_idle()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the connection."""
        self._server.connections -= 1
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """Hold the content back."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Send on."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Read the next bytes."""
        if self._answering:
            self._held += data
            return
        try:
            self._read(self._held + data if self._held else data)
        except (Refused, BadChunk) as error:
            self._transport.write(answer(400, str(error).encode(), close=True, head_only=False))
            self._transport.close()

    def _read(self, data: bytes) -> None:
        """Read a request, whole or in part, and answer it when it is whole."""
        self._held = b""
        if self._request is None:
            parsed = read_request(data, _LIMITS)
            if parsed is None:
                self._held = data
                return
            request, end = parsed
            data = data[end:]
            self._request = request
            self._body.clear()
            self._left = request.length
            self._reader = ChunkedReader() if request.chunked else None
            if request.expects_continue and request.has_body:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = self._request
        if self._reader is not None:
            self._body += self._reader.feed(data)
            if not self._reader.done:
                return
            data = self._reader.rest
        else:
            self._body += data[: self._left]
            rest = data[self._left :]
            self._left -= len(data) - len(rest)
            if self._left:
                return
            data = rest
        self._held = data
        self._request = None
        self._answering = True
        self._plan(request)

    def _plan(self, request: Request) -> None:
        """Decide how to answer, and answer now or after the latency."""
        server = self._server
        server.requests_total += 1
        self._served += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        path, _, query = request.target.decode("latin-1").partition("?")
        try:
            settings = server.settings.changed(_settings_in(query)) if query else server.settings
            if path == "/settings":
                if request.method == b"PATCH":
                    server.settings = server.settings.changed(json.loads(self._body or b"{}"))
                self._send_json(request, server.to_dict(), settings)
                return
        except (UsageError, ValueError) as error:
            self._send(request, replace(server.settings, status=400), f"{error}\n".encode(), "text/plain")
            return
        delay_ms = settings.latency_ms + settings.jitter_ms * random.random()  # noqa: S311 - not a secret
        if delay_ms > 0:
            self._timer = server.loop.call_later(delay_ms / 1000, self._respond, request, path, settings)
        else:
            self._respond(request, path, settings)

    def _respond(self, request: Request, path: str, settings: Settings) -> None:
        """Answer a request."""
        chance = random.random()  # noqa: S311 - not a secret
        if chance < settings.abort_ratio:
            self._transport.abort()
            return
        if chance < settings.abort_ratio + settings.error_ratio:
            settings = replace(settings, status=500)
        if path == "/echo":
            self._send_json(
                request,
                {
                    "method": request.method.decode(),
                    "target": request.target.decode("latin-1"),
                    "headers": [
                        [name.lower(), value.strip()]
                        for line in request.received.decode("latin-1").split("\r\n")[1:]
                        for name, _, value in [line.partition(":")]
                    ],
                    "body": bytes(self._body).decode("latin-1"),
                    "served": self._served,
                },
                settings,
            )
            return
        if settings.piece_delay_ms or settings.size_bytes > _PIECE_BYTES:
            self._task = self._server.loop.create_task(self._send_pieces(request, settings))
            return
        self._send(request, settings, self._server.content[: settings.size_bytes], "application/octet-stream")

    def _send_json(self, request: Request, value: Any, settings: Settings) -> None:
        """Answer with JSON."""
        self._send(request, settings, json.dumps(value).encode() + b"\n", "application/json")

    def _head(self, request: Request, settings: Settings, size_bytes: int, content_type: str) -> bytes:
        """Return the head of an answer."""
        limit = settings.requests_per_connection
        self._close = (
            not settings.keep_alive
            or not request.keep_alive
            or settings.framing == "close"
            or (limit > 0 and self._served >= limit)
        )
        framing = b"\r\nContent-Length: %d" % size_bytes
        if settings.status in (204, 304):
            framing = b""
        elif settings.framing == "chunked":
            framing = b"\r\nTransfer-Encoding: chunked"
        elif settings.framing == "close":
            framing = b""
        return b"HTTP/1.1 %d Answer\r\nContent-Type: %b%b%b\r\n\r\n" % (
            settings.status,
            content_type.encode(),
            framing,
            b"\r\nConnection: close" if self._close else b"",
        )

    def _send(self, request: Request, settings: Settings, content: bytes, content_type: str) -> None:
        """Send a whole answer."""
        head = self._head(request, settings, len(content), content_type)
        if request.method == b"HEAD" or settings.status in (204, 304):
            content = b""
        elif settings.framing == "chunked":
            content = chunk(content) + self._end(settings)
        self._transport.write(head + content)
        self._done()

    async def _send_pieces(self, request: Request, settings: Settings) -> None:
        """Send a long or dripping answer, as fast as it is taken."""
        left = settings.size_bytes
        self._transport.write(self._head(request, settings, left, "application/octet-stream"))
        size_bytes = min(_PIECE_BYTES, max(1, left // 8)) if settings.piece_delay_ms else _PIECE_BYTES
        if request.method != b"HEAD" and settings.status not in (204, 304):
            while left > 0:
                piece = self._server.content[: min(left, size_bytes)]
                left -= len(piece)
                self._transport.write(chunk(piece) if settings.framing == "chunked" else piece)
                await self._writable.wait()
                if settings.piece_delay_ms:
                    await asyncio.sleep(settings.piece_delay_ms / 1000)
            if settings.framing == "chunked":
                self._transport.write(self._end(settings))
        self._task = None
        self._done()

    def _end(self, settings: Settings) -> bytes:
        """Return the end of chunked content."""
        return b"0\r\nX-Checksum: 42\r\n\r\n" if settings.trailer else b"0\r\n\r\n"

    def _done(self) -> None:
        """Go on to the next request, or close."""
        self._answering = False
        if self._close:
            self._transport.close()
            return
        self._wait_idle()
        if self._held:
            held, self._held = self._held, b""
            self._server.loop.call_soon(self.data_received, held)

    def _wait_idle(self) -> None:
        """Close the connection if nothing comes for a while."""
        idle_ms = self._server.settings.idle_ms
        if idle_ms > 0:
            self._timer = self._server.loop.call_later(idle_ms / 1000, self._transport.close)


async def start_upstream(
    loop: asyncio.AbstractEventLoop, settings: Settings, host: str = "127.0.0.1", port: int = 0
) -> asyncio.Server:
    """Return a listening upstream.

    Raises:
        OSError: the address is taken or not ours.
    """
    server = UpstreamServer(loop, settings)
    return await loop.create_server(lambda: UpstreamConnection(server), host, port, backlog=1024)


def main(arguments: list[str] | None = None) -> int:
    """Run the upstream as a process; return its exit code."""
    from perfkit.proxy.serve import run_upstream

    parser = argparse.ArgumentParser(
        prog="perfkit upstream",
        description="Run the lab's upstream. Prints one line of JSON when it is ready; a query overrides settings.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    for setting in fields(Settings):
        kind: Any = _truth if setting.type is bool else setting.type
        parser.add_argument(
            f"--{setting.name.replace('_', '-')}", type=kind, default=setting.default, help=f"default {setting.default}"
        )
    try:
        return run_upstream(**vars(parser.parse_args(arguments)))
    except OSError as error:
        sys.stderr.write(f"perfkit upstream: {error}\n")
        return 3


if __name__ == "__main__":
    sys.exit(main())
