"""The only place that knows the whole of one exchange: a request, its upstream connection, its answer."""

from typing import TYPE_CHECKING

from perfkit.proxy import faults
from perfkit.proxy.chunked import LAST_CHUNK, chunk
from perfkit.proxy.pool import Pool, Ticket
from perfkit.proxy.pooled import AcquireFailed, AcquireTimeout, ConnectFailed, PooledConnection, State
from perfkit.proxy.request import IDEMPOTENT, Request
from perfkit.proxy.response import Response

if TYPE_CHECKING:
    from perfkit.proxy.client import ClientConnection

HELD_BODY_BYTES = 65_536
"""Body bytes held back while no upstream connection is ready; beyond, the client is not read."""


class Exchange:
    """One request on its way through the proxy.

    Streaming, the head goes out as soon as a connection is there and pieces of the body follow
    as they come; buffered, nothing goes out before the whole body is here.
    """

    # Defaults are the class's, so that a plain exchange sets only what it has.
    connection: PooledConnection | None = None
    ticket: Ticket | None = None
    response: Response | None = None
    held: list[bytes] | None = None
    held_bytes = 0
    sent_body = False
    retried = False
    trailers = b""

    def __init__(
        self, client: "ClientConnection", number: int, request: Request, pool: Pool, *, buffered: bool
    ) -> None:
        self.client = client
        self.number = number
        self.request = request
        self.pool = pool
        self.buffered = buffered
        self.body_done = not request.has_body

    def __repr__(self) -> str:
        return f"<Exchange {self.number} {self.request!r}>"

    # Towards the upstream ---------------------------------------------------------------------

    def dispatch(self) -> None:
        """Ask the pool for a connection; the request is sent when it is there."""
        self.ticket = self.pool.acquire(self._acquired, self)

    def add_body(self, piece: bytes) -> None:
        """Pass a piece of the request body on, or hold it until that is possible."""
        for hook in faults.ON_BODY:
            hook(self, piece)
        if self.request.chunked and not self.buffered:
            piece = chunk(piece)
        if self.connection is not None and not self.buffered:
            self.sent_body = True
            self.connection.link.write(piece)
            return
        self._hold(piece)
        self.held_bytes += len(piece)
        if self.held_bytes > HELD_BODY_BYTES and not self.buffered:
            self.client.pause_reading()

    @property
    def is_congested(self) -> bool:
        """Whether the request body comes faster than it can be passed on."""
        if self.connection is not None:
            return bool(self.connection.link.writing_paused)
        return self.held_bytes > HELD_BODY_BYTES and not self.buffered

    def end_body(self, trailers: bytes = b"") -> None:
        """Note that the request body is complete."""
        self.body_done = True
        if self.buffered:
            self.dispatch()
        elif self.request.chunked:
            last = b"0%b\r\n\r\n" % trailers if trailers else LAST_CHUNK
            if self.connection is not None:
                self.connection.link.write(last)
            else:
                self._hold(last)

    def _hold(self, data: bytes) -> None:
        """Keep data until it can be sent."""
        if self.held is None:
            self.held = []
        self.held.append(data)

    def _acquired(self, connection: PooledConnection | None, error: AcquireFailed | None) -> None:
        """Send the request on the connection that was handed over."""
        self.ticket = None
        if connection is None:
            if isinstance(error, ConnectFailed):
                self.client.fail(self, 504 if error.timed_out else 502, "the upstream cannot be reached")
            elif isinstance(error, AcquireTimeout):
                self.client.fail(self, 503, "no upstream connection became free in time")
            else:
                self.client.fail(self, 503, "the upstream is being taken out of service")
            return
        self.connection = connection
        data = self._head()
        if self.held:
            data = b"".join((data, *self.held))
            self.sent_body = True
            if not self.buffered:
                self.held = None
                self.held_bytes = 0
        connection.link.begin(self, data)
        if self.client.reading_paused:
            self.client.resume_reading()

    def _head(self) -> bytes:
        """Return the request head as the upstream gets it."""
        request = self.request
        client = self.client
        more = b""
        if request.forwarded_for:
            more = b"\r\nX-Forwarded-For: %b, %b%b" % (request.forwarded_for, client.peer, client.via[request.minor])
        else:
            more = client.forwarded[request.minor]
        if not request.has_host_field:
            more += b"\r\nHost: " + (request.host or self.pool.name.encode())
        if request.chunked:
            if self.buffered:
                more += b"\r\nContent-Length: %d" % self.held_bytes
            else:
                more += b"\r\nTransfer-Encoding: chunked"
        if request.expects_continue and request.has_body and not self.buffered:
            more += b"\r\nExpect: 100-continue"
        if request.wants_trailers:
            more += b"\r\nTE: trailers\r\nConnection: TE"
        if request.max_forwards is not None:
            more += b"\r\nMax-Forwards: %d" % (request.max_forwards - 1)
        return b"%b %b HTTP/1.1%b\r\ntraceparent: 00-%b-%b-%b\r\nX-Proxy-Trace: %b%b\r\n\r\n" % (
            request.method,
            request.target,
            request.fields,
            request.trace_id,
            request.span_id,
            request.trace_flags,
            request.trace_id,
            more,
        )

    # Back from the upstream -------------------------------------------------------------------

    def may_retry(self, *, reused: bool) -> bool:
        """Whether losing the connection before any answer allows to send the request once more.

        Only on a connection that had served before (the upstream closed it while idle), only
        if the method is idempotent and the body, if any, is still here.

        Source: https://www.rfc-editor.org/rfc/rfc9112#section-9.3.1
        """
        return (
            reused
            and not self.retried
            and self.request.method in IDEMPOTENT
            and self.body_done
            and (self.buffered or not self.sent_body)
        )

    def retry(self) -> None:
        """Send the request again on another connection."""
        self.retried = True
        self.connection = None
        self.dispatch()

    def finish(self, *, reusable: bool) -> None:
        """Give the connection back after a whole response."""
        connection = self.connection
        self.connection = None
        if connection is None:
            return
        if reusable and self.body_done and not connection.link.writing_paused:
            self.pool.release(connection)
        else:
            self.pool.discard(connection, "response")

    def abandon(self, why: str) -> None:
        """Leave the queue or close the connection: nobody waits for the answer any more."""
        if self.ticket is not None:
            self.ticket.cancel()
            self.ticket = None
        connection = self.connection
        if connection is not None:
            self.connection = None
            connection.link.exchange = None
            if connection.state is State.IN_USE:
                self.pool.discard(connection, why)
