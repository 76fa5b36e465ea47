"""The only place that keeps the schedule: dispatches what is due, within the bound of connections.

Two delays are kept apart, because they blame different parties. From *intended* to *dispatched*
the generator was late itself (no CPU, stopped): its numbers are then doubtful. From *dispatched*
to *start* a request waited for a connection: the target was slow, and that wait is part of the
latency its users see. Latency counts from the intended start in any case, so a stall of the target
is felt by every request that should have been sent during it (no coordinated omission).
"""

import asyncio
import errno
import time
from collections import deque
from collections.abc import Callable, Iterator

from perfkit.load.alarm import Alarm
from perfkit.load.connection import Connection
from perfkit.load.mix import Mix
from perfkit.load.options import LoadOptions
from perfkit.load.rows import ABORTED, CONNECT, EXHAUSTED, NO_CONNECTION, TIMEOUT, UNFINISHED, Request

_BATCH = 16  # requests sent in one go before answers get their turn
_SWEEP_S = 0.02
_RECONNECT_S = 0.01
_OUR_SHORTAGE = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}
"""What a failed connection says when this machine is out of descriptors, ports or memory."""


class Generator:
    """One run of a load; `finished_request` is called with each request once it ended.

    Every request that was dispatched is reported exactly once: answered, failed, given up or unfinished.
    `unsent` counts those that were due and not dispatched within their timeout, or when it was stopped.
    `horizon_ns` is where the schedule ended, by itself or by `stop` or `max_requests`.
    """

    def __init__(self, options: LoadOptions, finished_request: Callable[[Request], None]) -> None:
        self._options = options
        self._report = finished_request
        self._mix = Mix(options.routes, options.authority, options.schedule.seed)
        self._timeout_ns = round(options.timeout_s * 1e9)
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: deque[Request] = deque()
        self._by_deadline: deque[Request] = deque()
        self._in_flight = 0
        self._aborts = 0.0
        self._offsets: Iterator[int] = iter(())
        self._next_ns: int | None = None
        self._stopping = asyncio.Event()
        self._drained = asyncio.Event()
        self.began_ns = 0
        self.ended_ns = 0
        self.horizon_ns = 0
        self.dispatched = 0
        self.unsent = 0
        self.most_in_flight = 0
        self.connections = 0

    def stop(self) -> None:
        """Dispatch nothing more and end soon."""
        self._stopping.set()

    async def reach_target(self) -> None:
        """Open the connections that the load begins with.

        Raises:
            OSError: the target refuses one, or does not answer within the timeout.
        """
        for _ in range(self._options.warm_connections):  # one by one: a burst could overflow the target's backlog
            await self._connect()

    async def run(self, began_ns: int, drain_s: float) -> None:
        """Follow the schedule until it ends, `max_requests` are sent or `stop` is called.

        After the schedule's end every request still gets its full timeout; after `stop`
        at most `drain_s`.

        Args:
            began_ns: the schedule's zero, as a reading of `time.monotonic_ns()`.
            drain_s: how long requests in flight may go on after `stop`, in seconds.
        """
        loop = asyncio.get_running_loop()
        alarm = Alarm(loop, lambda: self._dispatch_due(alarm))
        sweeper = asyncio.create_task(self._sweep())
        self.began_ns = began_ns
        self.horizon_ns = began_ns + round(self._options.schedule.duration_s * 1e9)
        self._offsets = self._options.schedule.offsets_ns()
        try:
            self._advance()
            if self._next_ns is not None:
                alarm.set(self._next_ns)
            else:
                self._drained.set()
            await self._first_of(self._stopping, self._drained)
            self.ended_ns = time.monotonic_ns()
            self._count_unsent()
            if self._in_flight:
                self._drained.clear()
                await self._first_of(self._drained, within_s=drain_s)
        finally:
            alarm.close()
            sweeper.cancel()
            self._abandon()
            await asyncio.gather(sweeper, *self._connecting, return_exceptions=True)

    # Owner of the connections

    def opened(self, connection: Connection) -> None:
        """Put a new connection to work."""
        self._open.add(connection)
        self.connections += 1
        self._use(connection)

    def finished(self, connection: Connection, request: Request, *, usable: bool) -> None:
        """Report a request and put its connection to the next one."""
        self._conclude(request)
        if usable:
            self._use(connection)
        else:
            connection.close()

    def lost(self, connection: Connection) -> None:
        """Open another connection if somebody waits for one."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._connect_if_needed()

    # The schedule

    def _advance(self) -> None:
        """Find when the next request is due, or that there is none."""
        if self.dispatched >= self._options.max_requests:
            self.horizon_ns = self._next_ns or self.horizon_ns
            self._next_ns = None
        else:
            offset = next(self._offsets, None)
            self._next_ns = None if offset is None else self.began_ns + offset

    def _count_unsent(self) -> None:
        """Count what was due and not dispatched when the run was stopped, and forget the rest."""
        if self._next_ns is not None:
            self.horizon_ns = self.ended_ns
        while self._next_ns is not None and self._next_ns <= self.ended_ns:
            self.unsent += 1
            self._advance()
        self._next_ns = None

    def _dispatch_due(self, alarm: Alarm) -> None:
        """Send what is due, at most a batch, and set the alarm for the next."""
        for _ in range(_BATCH):
            now_ns = time.monotonic_ns()
            if self._next_ns is None or self._next_ns > now_ns:
                break
            if now_ns - self._next_ns < self._timeout_ns:
                self._dispatch(self._next_ns, now_ns)
            else:  # hopeless: a generator that cannot keep up must not run on long after its schedule
                self.unsent += 1
            self._advance()
        if self._next_ns is not None:
            alarm.set(self._next_ns)
        elif not self._in_flight:
            self._drained.set()

    def _dispatch(self, intended_ns: int, now_ns: int) -> None:
        """Send one request, or queue it until a connection is free."""
        options = self._options
        route, trace, payload, body_bytes = self._mix.draw()
        request = Request(intended_ns, now_ns, intended_ns + self._timeout_ns, route, trace, payload, body_bytes)
        self.dispatched += 1
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        self._by_deadline.append(request)
        self._aborts += options.abort_ratio
        if self._aborts >= 1.0:
            self._aborts -= 1.0
            request.abort = True
        self._waiting.append(request)
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closing():
                self._use(connection)
                return
        self._connect_if_needed()

    def _use(self, connection: Connection) -> None:
        """Send the request that has waited longest, or keep the connection for later."""
        if connection.is_closing():
            return
        while self._waiting:
            request = self._waiting.popleft()
            if request.end_ns:  # it timed out in the queue
                continue
            connection.send(request)
            if request.abort:
                loop = asyncio.get_running_loop()
                loop.call_later(self._options.abort_after_s, self._abort, connection, request)
            return
        self._idle.append(connection)  # last in, first out: surplus connections stay idle and are noticed

    def _abort(self, connection: Connection, request: Request) -> None:
        """Play the client that goes away, unless the answer was faster."""
        if connection.request is request:
            connection.give_up(ABORTED)

    # The connections

    def _connect_if_needed(self) -> None:
        """Open a connection for each waiting request that no opening one will serve, within the bound."""
        while (
            len(self._connecting) < len(self._waiting)
            and len(self._open) + len(self._connecting) < self._options.max_connections
        ):
            task = asyncio.create_task(self._connect_or_fail())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect_or_fail(self) -> None:
        """Open a connection; when the target refuses, the request that waited longest fails."""
        try:
            await self._connect()
        except OSError as error:
            kind = EXHAUSTED if error.errno in _OUR_SHORTAGE else CONNECT
            while self._waiting:
                request = self._waiting.popleft()
                if not request.end_ns:
                    self._fail(request, kind)
                    break
            # The task still counts as connecting: those behind it get another one a moment later.
            asyncio.get_running_loop().call_later(_RECONNECT_S, self._connect_if_needed)

    async def _connect(self) -> None:
        """Open a connection; it joins through `opened`."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._options.timeout_s):
            await loop.create_connection(lambda: Connection(self), self._options.host, self._options.port)

    # The ends

    def _conclude(self, request: Request) -> None:
        """Report a request that ended."""
        self._in_flight -= 1
        self._report(request)
        if self._next_ns is None and not self._in_flight:
            self._drained.set()

    def _fail(self, request: Request, error: int) -> None:
        """End a request that has no connection."""
        request.end_ns = time.monotonic_ns()
        request.start_ns = request.start_ns or request.end_ns
        request.error = error
        self._conclude(request)

    def _give_up(self, request: Request, error: int, error_in_queue: int) -> None:
        """End a request wherever it is."""
        connection = request.connection
        if isinstance(connection, Connection):
            connection.give_up(error)
        else:
            self._fail(request, error_in_queue)

    async def _sweep(self) -> None:
        """End requests that are past their deadline; one timer for all instead of one each."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_ns = time.monotonic_ns()
            queue = self._by_deadline
            while queue and (queue[0].end_ns or queue[0].deadline_ns <= now_ns):
                request = queue.popleft()
                if not request.end_ns:
                    self._give_up(request, TIMEOUT, NO_CONNECTION)

    def _abandon(self) -> None:
        """End what is left: requests as unfinished, connections closed, nothing opened any more."""
        for task in self._connecting:
            task.cancel()
        for request in self._by_deadline:
            if not request.end_ns:
                self._give_up(request, UNFINISHED, UNFINISHED)
        self._waiting.clear()
        for connection in list(self._open):
            connection.close()

    async def _first_of(self, *events: asyncio.Event, within_s: float | None = None) -> None:
        """Wait until one of the events is set or the time is over."""
        waits = [asyncio.create_task(event.wait()) for event in events]
        await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
