"""The only place that speaks to a client: one downstream connection, one request at a time.

A state machine on the transport's callbacks: no task, no future and no stream per request.
"""

import asyncio
from typing import TYPE_CHECKING, cast

from perfkit.proxy import faults
from perfkit.proxy.chunked import LAST_CHUNK, BadChunk, ChunkedReader, chunk
from perfkit.proxy.exchange import Exchange
from perfkit.proxy.link import write_now
from perfkit.proxy.refusals import Refused, answer
from perfkit.proxy.request import METHODS, Request, read_request
from perfkit.proxy.response import Response

if TYPE_CHECKING:
    from perfkit.proxy.server import Proxy

PIPELINE_BYTES = 65_536
"""Bytes of requests to come that are held while one is served; beyond, the client is not read."""
NEVER = float("inf")

_IDLE, _HEAD, _BODY, _WAIT, _LINGER, _CLOSING = range(6)


class ClientConnection(asyncio.Protocol):
    """One client of the proxy.

    `deadline` is when patience ends, on the proxy's coarse clock; a sweep calls `expired`.
    That costs a request one assignment, where a timer would cost it an object.
    """

    def __init__(self, proxy: "Proxy") -> None:
        self.deadline = NEVER
        self.peer = b"unknown"
        self.via = (b"\r\nVia: 1.0 perfkit", b"\r\nVia: 1.1 perfkit")
        self.forwarded = self.via
        self._proxy = proxy
        self._transport: asyncio.Transport
        self._descriptor = -1
        self._state = _IDLE
        self._held = b""
        self._exchange: Exchange | None = None
        self._body_left = 0
        self._body_total = 0
        self._reader: ChunkedReader | None = None
        self.reading_paused = False
        self._writing_paused = False
        self._skipped_empty_line = False
        self._response_pieces: list[bytes] | None = None
        self._close_after = False
        self._chunking = False

    # The loop's side --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.peer = str(peer[0]).encode()
            self.forwarded = (
                b"\r\nX-Forwarded-For: " + self.peer + self.via[0],
                b"\r\nX-Forwarded-For: " + self.peer + self.via[1],
            )
        self._descriptor = transport.get_extra_info("socket").fileno()
        self._proxy.clients.add(self)
        self._proxy.stats.connections_total += 1
        if len(self._proxy.clients) > self._proxy.limits.connections:
            self._refuse(Refused(503, "too many connections"))
            return
        self.deadline = self._proxy.now + self._proxy.timeouts.idle_s

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the client; if it waited for an answer, nobody does now."""
        self._proxy.clients.discard(self)
        exchange = self._exchange
        self._exchange = None
        self._state = _CLOSING
        if exchange is not None:
            self._proxy.stats.client_aborts_total += 1
            if not any(hook(exchange) for hook in faults.ON_ABORT):
                exchange.abandon("client")
        self._proxy.client_left()

    def eof_received(self) -> bool:
        """Close: a client that has stopped sending has, as far as anyone can tell, gone."""
        return False

    def pause_writing(self) -> None:
        """Stop reading the response: this client is slow."""
        self._writing_paused = True
        exchange = self._exchange
        if exchange is not None and exchange.connection is not None:
            exchange.connection.link.pause_reading()
        self.deadline = self._proxy.now + self._proxy.timeouts.body_s

    def resume_writing(self) -> None:
        """Read the response on."""
        self._writing_paused = False
        exchange = self._exchange
        if exchange is not None and exchange.connection is not None:
            exchange.connection.link.resume_reading()
            self.deadline = self._proxy.now + self._proxy.timeouts.response_s
        elif exchange is None and self._state == _IDLE:
            self.deadline = self._proxy.now + self._proxy.timeouts.idle_s
            self._read_held()

    def data_received(self, data: bytes) -> None:
        """Read the next bytes, in the way the state asks for."""
        state = self._state
        if state <= _HEAD:
            if self._held:
                data = self._held + data
                self._held = b""
            self._read_head(data)
        elif state == _BODY:
            try:
                self._read_body(data)
            except Refused as refusal:
                self._refuse(refusal)
        elif state == _WAIT:
            self._held = self._held + data if self._held else data
            if len(self._held) > PIPELINE_BYTES:
                self.pause_reading()

    # Reading requests -------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> None:
        """Read one head and begin its exchange."""
        if data[:1] == b"\r":
            data = self._skip_empty_line(data)
            if not data or data == b"\r":
                self._held = data
                return
        proxy = self._proxy
        try:
            parsed = read_request(data, proxy.head_limits)
            if parsed is None:
                self._held = data
                if self._state == _IDLE:
                    self._state = _HEAD
                    self.deadline = proxy.now + proxy.timeouts.header_s
                return
            request, end = parsed
            self._skipped_empty_line = False
            self._begin(request, data[end:])
        except Refused as refusal:
            self._refuse(refusal)

    def _skip_empty_line(self, data: bytes) -> bytes:
        """Return `data` without the one empty line that may come before a request.

        Source: https://www.rfc-editor.org/rfc/rfc9112#section-2.2
        """
        if data[:2] == b"\r\n" and not self._skipped_empty_line:
            self._skipped_empty_line = True
            return data[2:]
        return data

    def _begin(self, request: Request, rest: bytes) -> None:
        """Begin the exchange of a request whose head is read.

        Raises:
            Refused: there is no route for it, or its body is too large.
        """
        proxy = self._proxy
        if request.max_forwards is not None and not self._forwards(request, rest):
            return
        route = proxy.routes.match(request)
        if route is None:
            self._held = rest
            self._answer(404, b"no route matches", request, close=request.has_body)
            return
        stats = proxy.stats
        stats.requests_total += 1
        exchange = Exchange(self, stats.requests_total, request, proxy.pools[route.upstream], buffered=proxy.buffered)
        self._exchange = exchange
        self._response_pieces = None
        for hook in faults.ON_REQUEST:
            hook(exchange)
        self.deadline = proxy.now + proxy.timeouts.response_s
        if exchange.body_done:
            self._state = _WAIT
            self._held = rest
            exchange.dispatch()
            return
        if request.length > proxy.limits.body_bytes:
            raise Refused(413, "the body is too large")
        self._state = _BODY
        self._body_left = request.length
        self._body_total = 0
        self._reader = ChunkedReader() if request.chunked else None
        self.deadline = proxy.now + proxy.timeouts.body_s
        if exchange.buffered:
            if request.expects_continue:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if rest:
                self._read_body(rest)
            return
        if rest:
            # What came along is checked before anything goes out, so that a bad body reaches nobody.
            self._read_body(rest)
        exchange.dispatch()

    def _read_body(self, data: bytes) -> None:
        """Read the next bytes of a request body.

        Raises:
            Refused: the body is malformed or too large.
        """
        exchange = self._exchange
        assert exchange is not None
        proxy = self._proxy
        reader = self._reader
        trailers = rest = b""
        if reader is None:
            left = self._body_left - len(data)
            if left < 0:
                data, rest = data[:left], data[left:]
            self._body_left = left
            done = left <= 0
        else:
            try:
                data = reader.feed(data)
            except BadChunk as error:
                raise Refused(400, str(error)) from None
            self._body_total += len(data)
            if self._body_total > proxy.limits.body_bytes:
                raise Refused(413, "the body is too large")
            done = reader.done
            if done:
                rest, trailers = reader.rest, reader.trailers
        proxy.stats.request_body_bytes_total += len(data)
        if data:
            exchange.add_body(data)
        if not done:
            self.deadline = proxy.now + proxy.timeouts.body_s
            return
        self._state = _WAIT
        self._held = rest
        self._reader = None
        self.deadline = proxy.now + proxy.timeouts.response_s
        exchange.end_body(trailers)

    def _forwards(self, request: Request, rest: bytes) -> bool:
        """Answer an OPTIONS that may not travel further; return whether the request may."""
        if request.method != b"OPTIONS":
            request.max_forwards = None
            return True
        if request.max_forwards:
            return True
        if request.has_body:
            raise Refused(400, "content is not expected here")
        self._held = rest
        self._answer(200, b"", request, fields=b"\r\nAllow: " + b", ".join(sorted(METHODS)))
        return False

    def pause_reading(self) -> None:
        """Stop reading this client."""
        if not self.reading_paused and not self._transport.is_closing():
            self.reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read this client on, unless it is too far ahead: in requests, in its body, or in answers not taken."""
        if self.reading_paused and len(self._held) <= PIPELINE_BYTES:
            exchange = self._exchange
            if exchange.is_congested if exchange is not None else self._writing_paused and self._state == _IDLE:
                return
            self.reading_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # Answering --------------------------------------------------------------------------------

    def informational(self, exchange: Exchange, response: Response) -> None:
        """Pass an interim response on, to clients that know of them."""
        if exchange.request.minor:
            self._transport.write(b"HTTP/1.1 %b%b\r\n\r\n" % (response.line, response.fields))

    def response_head(self, exchange: Exchange, response: Response, body: bytes, *, done: bool) -> None:
        """Send the head of a response and the part of its body that is here."""
        if exchange.buffered and not done:
            self._response_pieces = [body]
            return
        proxy = self._proxy
        stats = proxy.stats
        request = exchange.request
        keep = request.keep_alive and exchange.body_done and not proxy.draining
        framing = b""
        self._chunking = False
        if response.length is None:
            if exchange.buffered or (done and not exchange.trailers):
                framing = b"\r\nContent-Length: %d" % len(body)
            elif request.minor:
                framing = b"\r\nTransfer-Encoding: chunked"
                self._chunking = True
                body = chunk(body)
                if done:
                    body += self._last_chunk(exchange)
            else:
                keep = False
        if not keep:
            framing += b"\r\nConnection: close"
        elif not request.minor:
            framing += b"\r\nConnection: keep-alive"
        self._close_after = not keep
        stats.responses_total[response.status // 100] += 1
        stats.response_body_bytes_total += len(body)
        self._transport.write(
            b"HTTP/1.1 %b%b\r\nVia: 1.1 perfkit\r\nX-Proxy-Trace: %b%b\r\n\r\n%b"
            % (response.line, response.fields, request.trace_id, framing, body)
        )
        if done:
            self._exchange_done()
        else:
            self.deadline = proxy.now + proxy.timeouts.response_s
            if self._writing_paused and exchange.connection is not None:
                exchange.connection.link.pause_reading()

    def response_body(self, exchange: Exchange, data: bytes, *, done: bool) -> None:
        """Send the next part of a response body."""
        pieces = self._response_pieces
        if pieces is not None:
            pieces.append(data)
            if done:
                self._response_pieces = None
                assert exchange.response is not None
                self.response_head(exchange, exchange.response, b"".join(pieces), done=True)
            return
        self._proxy.stats.response_body_bytes_total += len(data)
        if self._chunking:
            data = chunk(data)
            if done:
                data += self._last_chunk(exchange)
        if data:
            self._transport.write(data)
        if done:
            self._exchange_done()
        elif not self._writing_paused:
            self.deadline = self._proxy.now + self._proxy.timeouts.response_s

    def relay_body(self, data: memoryview) -> None:
        """Send the next part of a body of known length, from a buffer that will be used again."""
        self._proxy.stats.response_body_bytes_total += len(data)
        write_now(self._transport, self._descriptor, data)
        if not self._writing_paused:
            self.deadline = self._proxy.now + self._proxy.timeouts.response_s

    def count_retry(self) -> None:
        """Note that a request is sent a second time."""
        self._proxy.stats.retries_total += 1

    def fail(self, exchange: Exchange, status: int, why: str) -> None:
        """Give an exchange up: say so if nothing was answered yet, else break the answer off."""
        if self._exchange is not exchange:
            return
        exchange.abandon("failed")
        self._proxy.stats.upstream_failures_total += 1
        if exchange.response is not None and self._response_pieces is None:
            self._exchange = None
            self._close()
        else:
            self._response_pieces = None
            self._answer(status, why.encode(), exchange.request, close=not exchange.body_done)

    def _last_chunk(self, exchange: Exchange) -> bytes:
        """Return the end of a chunked body, with its trailers for a client that takes them."""
        if exchange.trailers and exchange.request.wants_trailers:
            return b"0%b\r\n\r\n" % exchange.trailers
        return LAST_CHUNK

    def _exchange_done(self) -> None:
        """Go on to the next request, or close."""
        self._exchange = None
        if self._close_after:
            if self._state == _BODY or self._held:
                self._linger()
            else:
                self._close()
            return
        self._state = _IDLE
        proxy = self._proxy
        self.deadline = proxy.now + proxy.timeouts.idle_s
        if self._writing_paused:
            # A client that sends requests but takes no answers gets no further.
            self.deadline = proxy.now + proxy.timeouts.body_s
            self.pause_reading()
        elif self._held or self.reading_paused:
            self._read_held()

    def _answer(
        self, status: int, text: bytes, request: Request | None, *, close: bool = False, fields: bytes = b""
    ) -> None:
        """Answer by itself, and go on with the connection where its framing allows it."""
        close = close or request is None or not request.keep_alive or self._proxy.draining
        if request is not None:
            fields += b"\r\nX-Proxy-Trace: " + request.trace_id
            if not close and not request.minor:
                fields += b"\r\nConnection: keep-alive"
        self._proxy.stats.count(status)
        body = text + b"\n" if text else b""
        head_only = request is not None and request.method == b"HEAD"
        self._exchange = None
        self._transport.write(answer(status, body, fields=fields, close=close, head_only=head_only))
        if close:
            self._linger()
        else:
            self._state = _IDLE
            self.deadline = self._proxy.now + self._proxy.timeouts.idle_s
            # Not at once: a pipeline of requests to refuse would recurse.
            self._proxy.loop.call_soon(self._read_held)

    def _read_held(self) -> None:
        """Read the request that came with one just answered."""
        if self._state <= _HEAD and not self._writing_paused:
            held, self._held = self._held, b""
            if held:
                self._read_head(held)
            self.resume_reading()

    def _refuse(self, refusal: Refused) -> None:
        """Answer a request that is not accepted; what follows it cannot be trusted, so close."""
        exchange = self._exchange
        self._proxy.stats.refused_total += 1
        if exchange is not None:
            exchange.abandon("refused")
            if exchange.response is not None and self._response_pieces is None:
                self._close()
                return
        self._response_pieces = None
        self._answer(
            refusal.status,
            refusal.why.encode(),
            exchange.request if exchange is not None else None,
            close=True,
            fields=refusal.fields,
        )

    # Ending -----------------------------------------------------------------------------------

    def expired(self) -> None:
        """Act on the end of patience."""
        exchange = self._exchange
        if self._state == _HEAD:
            self._refuse(Refused(408, "the head of the request did not arrive in time"))
        elif exchange is not None and exchange.response is not None:
            exchange.abandon("slow")
            self._exchange = None
            self._transport.abort()
        elif exchange is not None and self._state == _BODY and self.reading_paused:
            self.fail(exchange, 504, "the upstream did not take the body in time")
        elif self._state == _BODY:
            self._refuse(Refused(408, "the body of the request did not arrive in time"))
        elif exchange is not None:
            self.fail(exchange, 504, "the upstream did not answer in time")
        elif self._state == _IDLE:
            self._close()
        else:
            self._transport.abort()

    def drain(self) -> None:
        """Close now if no request is under way, else after its answer."""
        if self._state == _IDLE:
            self._close()

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()

    def _linger(self) -> None:
        """Close for writing and read on for a while, so that the answer is not lost to a reset.

        Source: https://www.rfc-editor.org/rfc/rfc9112#section-9.6
        """
        self._state = _LINGER
        self._held = b""
        self.deadline = self._proxy.now + self._proxy.timeouts.linger_s
        if not self._transport.is_closing():
            self._transport.write_eof()
            self.resume_reading()

    def _close(self) -> None:
        """Close once everything is written; a client that does not take it is cut off later."""
        self._state = _CLOSING
        self.deadline = self._proxy.now + self._proxy.timeouts.body_s
        self._transport.close()
