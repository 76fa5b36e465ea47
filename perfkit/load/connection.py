"""The only place that speaks HTTP/1.1 to the target: one connection, one request at a time."""

import asyncio
import time
from typing import Protocol, cast

import httptools

from perfkit.load.rows import OK, PROTOCOL, RESET, Request

_MAX_HEAD_BYTES = 1 << 18


class Owner(Protocol):
    """Who is told what becomes of a connection and its request."""

    def opened(self, connection: "Connection") -> None:
        """Take a connection that was just established."""

    def finished(self, connection: "Connection", request: Request, *, usable: bool) -> None:
        """Take back a request that ended, and whether the connection may carry another one."""

    def lost(self, connection: "Connection") -> None:
        """Forget a connection that is closed; it carries no request any more."""


class Connection(asyncio.Protocol):
    """A client's connection with keep-alive."""

    __slots__ = ("_head", "_in_body", "_owner", "_parser", "_transport", "request", "served")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._in_body = False
        self._head = b""
        self.request: Request | None = None
        self.served = 0

    # What the generator asks for

    def send(self, request: Request) -> None:
        """Put a request on the wire."""
        assert self.request is None
        assert self._transport is not None
        self.request = request
        request.connection = self
        request.reused = 1 if self.served else 0
        request.start_ns = time.monotonic_ns()
        payload = request.payload
        if request.abort and request.sent_bytes:
            payload = payload[: len(payload) - request.sent_bytes // 2]  # a client that goes away in mid-upload
        self._transport.write(payload)
        request.payload = b""

    def give_up(self, error: int) -> None:
        """End the request in flight with an error and close the connection."""
        if self._transport is not None:
            self._transport.abort()
        self._end(error, usable=False)

    def is_closing(self) -> bool:
        """Whether it cannot carry another request."""
        return self._transport is None or self._transport.is_closing()

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the pool."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit from asyncio's
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls the methods below."""
        if self._parser is None:
            return
        if not self._in_body:
            self._head += data
            if len(self._head) > _MAX_HEAD_BYTES:
                self.give_up(PROTOCOL)
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise  # a defect of ours, not of the server: it must not pass for a protocol error
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.give_up(PROTOCOL)
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        """End the request if one is left: an answer without a length ends here, any other was cut."""
        if self.request is not None:
            complete = error is None and self._in_body and not _has_length(self._head)
            self._end(OK if complete else RESET, usable=False)
        self._transport = None
        self._parser = None  # parser and connection refer to each other
        self._owner.lost(self)

    # httptools callbacks

    def on_headers_complete(self) -> None:
        """Take the status."""
        assert self._parser is not None
        self._in_body = True
        if self.request is not None:
            self.request.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Count the bytes of the answer."""
        if self.request is not None:
            self.request.received_bytes += len(body)

    def on_message_complete(self) -> None:
        """End the request, unless the answer was an interim one (1xx)."""
        assert self._parser is not None
        self._in_body = False
        self._head = b""
        if self.request is None:
            self.close()
        elif self.request.status >= 200:
            cut = self.request.abort and self.request.sent_bytes  # the server still waits for the rest of the body
            self._end(OK, usable=self._parser.should_keep_alive() and not cut)

    def _end(self, error: int, *, usable: bool) -> None:
        """Hand the request back."""
        request, self.request = self.request, None
        if request is None:
            return
        request.end_ns = time.monotonic_ns()
        request.error = error
        request.connection = None
        self.served += 1
        self._owner.finished(self, request, usable=usable)


def _has_length(head: bytes) -> bool:
    """Whether an answer says where it ends, so that the end of the connection is not its end.

    Source: RFC 9112, section 6.3
    """
    head = head.partition(b"\r\n\r\n")[0].lower()
    return b"\ncontent-length:" in head or b"\ntransfer-encoding:" in head
