"""The only place that speaks to an upstream: one connection of the pool, reading one response at a time."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from perfkit.proxy.chunked import BadChunk, ChunkedReader
from perfkit.proxy.pool import Pool
from perfkit.proxy.pooled import ConnectFailed, PooledConnection
from perfkit.proxy.response import BadResponse, Response, read_response

if TYPE_CHECKING:
    from perfkit.proxy.exchange import Exchange

INFORMATIONAL_LIMIT = 16
RELAY_BYTES = 32_768
"""Size of the shared buffer that bodies for slow clients are read into."""

_buffer = memoryview(bytearray(RELAY_BYTES))
# One buffer serves every connection: the loop fills it and it is emptied before the loop goes on.
# uvloop reads up to 256 kB at once, and a slow client makes us hold that: about 300 KiB each, measured,
# against 90 KiB with small reads. But small reads cost half as much CPU again per byte (660 against 446
# microseconds per MB), so only a connection whose client was too slow once is read through the buffer.


class UpstreamLink(asyncio.Protocol):
    """The transport side of a `PooledConnection`."""

    def __init__(self, pool: Pool, connection: PooledConnection) -> None:
        self.exchange: Exchange | None = None
        self.transport: asyncio.Transport | None = None
        self._pool = pool
        self._connection = connection
        self._response: Response | None = None
        self._reader: ChunkedReader | None = None
        self._left = 0
        self._held = b""
        self._heard = False
        self._informational = 0
        self._check_done: Callable[[bool], None] | None = None
        self._paused = False
        self.writing_paused = False
        self._relaying = False

    # The pool's side --------------------------------------------------------------------------

    def is_usable(self) -> bool:
        """Whether a request can be sent on it now."""
        return self.transport is not None and not self.transport.is_closing()

    def close(self) -> None:
        """Close the connection; the pool hears of it when it is gone."""
        self.exchange = None
        if self.transport is not None:
            self.transport.abort()

    def check(self, done: Callable[[bool], None]) -> None:
        """Ask the upstream for the head of a page; any whole answer means that it lives."""
        if not self.is_usable():
            done(False)
            return
        self._check_done = done
        self._held = b""
        host = self._pool.name.encode()
        assert self.transport is not None
        path = self._pool.settings.keepalive_path.encode("ascii")
        self.transport.write(b"HEAD %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, host))

    # The exchange's side ----------------------------------------------------------------------

    def begin(self, exchange: "Exchange", data: bytes) -> None:
        """Send the start of a request, and give the response to its exchange."""
        self.exchange = exchange
        self._response = None
        self._heard = False
        self._informational = 0
        if self._paused:
            self.resume_reading()
        self.transport.write(data)  # type: ignore[union-attr]

    def write(self, data: bytes) -> None:
        """Send more of the request."""
        if data and self.transport is not None:
            self.transport.write(data)

    def pause_reading(self) -> None:
        """Stop reading the response: the client does not take it fast enough."""
        if not self._paused and self.is_usable():
            self._paused = True
            self.transport.pause_reading()  # type: ignore[union-attr]
            if not self._relaying and self._response is not None and self.exchange is not None:
                # How to read is chosen when reading starts again.
                self._relaying = True
                self.transport.set_protocol(_BodyRelay(self))  # type: ignore[union-attr]

    def resume_reading(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            if self.is_usable():
                self.transport.resume_reading()  # type: ignore[union-attr]

    # The loop's side --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        """Stop reading the request body: the upstream does not take it fast enough."""
        self.writing_paused = True
        if self.exchange is not None:
            self.exchange.client.pause_reading()

    def resume_writing(self) -> None:
        """Read the request body on."""
        self.writing_paused = False
        if self.exchange is not None:
            self.exchange.client.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Read the next bytes of a response."""
        exchange = self.exchange
        if exchange is None:
            self._unasked(data)
            return
        self._heard = True
        try:
            if self._response is not None:
                self._read_body(exchange, self._response, data)
                return
            if self._held:
                data = self._held + data
                self._held = b""
            self._read_head(exchange, data)
        except (BadResponse, BadChunk) as error:
            exchange.client.fail(exchange, 502, f"the upstream's response is not valid: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        """End the response, retry the request or fail it; then leave the pool."""
        exchange = self.exchange
        self.exchange = None
        reused = self._connection.served > 0
        if exchange is not None:
            exchange.connection = None
        self._pool.lost(self._connection)
        if self._check_done is not None:
            self._check_done = None
        if exchange is None:
            return
        response = self._response
        if response is not None and response.until_close and error is None:
            exchange.client.response_body(exchange, b"", done=True)
        elif response is None and not self._heard and exchange.may_retry(reused=reused):
            exchange.client.count_retry()
            exchange.retry()
        else:
            exchange.client.fail(exchange, 502, "the upstream closed the connection before the response was complete")

    # Reading ----------------------------------------------------------------------------------

    def _read_head(self, exchange: "Exchange", data: bytes) -> None:
        """Read the head of the response and what came with it."""
        while True:
            parsed = read_response(data, exchange.request.method)
            if parsed is None:
                self._held = data
                return
            response, end = parsed
            if response.status >= 200:
                break
            self._informational += 1
            if response.status == 101 or self._informational > INFORMATIONAL_LIMIT:
                raise BadResponse("a switch of protocols or too many interim responses")
            exchange.client.informational(exchange, response)
            data = data[end:]
            if not data:
                return
        body = data[end:]
        self._response = response
        done = False
        if response.length is not None:
            self._left = response.length - len(body)
            if self._left <= 0:
                done = True
                if self._left:
                    body = body[: response.length]
                    response.reusable = False
        elif response.chunked:
            self._reader = ChunkedReader()
            body, done = self._decode(exchange, response, body)
        exchange.response = response
        if done:
            self.exchange = None
            exchange.finish(reusable=response.reusable)
        exchange.client.response_head(exchange, response, body, done=done)

    def _read_body(self, exchange: "Exchange", response: Response, data: bytes) -> None:
        """Pass on the next bytes of the body."""
        done = False
        if response.length is not None:
            self._left -= len(data)
            if self._left <= 0:
                done = True
                if self._left:
                    data = data[: self._left]
                    response.reusable = False
        elif response.chunked:
            data, done = self._decode(exchange, response, data)
        if done:
            self.exchange = None
            if self._relaying:
                self._end_relay()
            exchange.finish(reusable=response.reusable)
        exchange.client.response_body(exchange, data, done=done)

    def _decode(self, exchange: "Exchange", response: Response, data: bytes) -> tuple[bytes, bool]:
        """Return the content in the next bytes of a chunked body, and whether it ended."""
        reader = self._reader
        assert reader is not None
        content = reader.feed(data) if data else b""
        if reader.done:
            if reader.rest:
                response.reusable = False
            exchange.trailers = reader.trailers
        return content, reader.done

    def relayed(self, size_bytes: int) -> None:
        """Pass on the bytes now in the shared buffer, copying only what the client does not take at once."""
        exchange, response = self.exchange, self._response
        if exchange is not None and response is not None and response.length is not None and size_bytes < self._left:
            self._left -= size_bytes
            exchange.client.relay_body(_buffer[:size_bytes])
        else:
            self.data_received(bytes(_buffer[:size_bytes]))

    def _end_relay(self) -> None:
        """Read through the loop's own buffer again."""
        self._relaying = self._paused = False
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.pause_reading()
            transport.set_protocol(self)
            transport.resume_reading()

    def _unasked(self, data: bytes) -> None:
        """Read the answer to a keep-alive check; anything else on an idle connection ends it."""
        done = self._check_done
        if done is None:
            self.close()
            return
        self._held += data
        try:
            parsed = read_response(self._held, b"HEAD")
        except BadResponse:
            alive = False
        else:
            if parsed is None:
                return
            response, end = parsed
            alive = response.reusable and end == len(self._held) and response.status >= 200
        self._held = b""
        self._check_done = None
        done(alive)


class _BodyRelay(asyncio.BufferedProtocol):
    """Reads a connection into the shared buffer for as long as a body lasts."""

    def __init__(self, link: UpstreamLink) -> None:
        self._link = link

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer to read into."""
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what was read."""
        self._link.relayed(nbytes)

    def pause_writing(self) -> None:
        """See `UpstreamLink.pause_writing`."""
        self._link.pause_writing()

    def resume_writing(self) -> None:
        """See `UpstreamLink.resume_writing`."""
        self._link.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """See `UpstreamLink.connection_lost`."""
        self._link.connection_lost(error)


def write_now(transport: asyncio.Transport, descriptor: int, data: memoryview) -> None:
    """Write a view that is about to be overwritten: what the socket takes at once is not copied."""
    if transport.is_closing():
        return  # The descriptor may be another connection's by now.
    sent = 0
    if not transport.get_write_buffer_size():
        with contextlib.suppress(OSError):
            # On an error the transport's own write meets the same one and reports it.
            sent = os.write(descriptor, data)
    if sent < len(data):
        transport.write(bytes(data[sent:]))


class Connector:
    """Opens connections to one address on behalf of a pool."""

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> None:
        self.pool: Pool | None = None
        self._loop = loop
        self._host = host
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, connection: PooledConnection) -> None:
        """Begin to connect; the pool is told how it went."""
        task = self._loop.create_task(self._connect(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Give up the attempts under way."""
        for task in list(self._tasks):
            task.cancel()

    async def _connect(self, connection: PooledConnection) -> None:
        """Connect within the pool's connect timeout."""
        pool = self.pool
        assert pool is not None
        link = UpstreamLink(pool, connection)
        connection.link = link
        timeout_s = pool.settings.connect_timeout_s or None
        try:
            async with asyncio.timeout(timeout_s):
                await self._loop.create_connection(lambda: link, self._host, self._port)
        except TimeoutError:
            pool.connect_failed(connection, ConnectFailed("connect timed out", timed_out=True))
        except OSError as error:
            pool.connect_failed(connection, ConnectFailed(str(error)))
        except asyncio.CancelledError:
            pool.connect_failed(connection, ConnectFailed("cancelled"))
            raise
        else:
            if link.transport is None or link.transport.is_closing():
                pool.connect_failed(connection, ConnectFailed("closed by the peer at once"))
            else:
                pool.connected(connection)
