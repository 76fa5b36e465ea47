"""The only place that owns upstream connections: a bounded pool as an explicit state machine.

The vocabulary and the life-cycle settings are HikariCP's; the machine is callback based, so
that handing over a connection costs no task, and a waiter that gives up can never strand one:
there is no moment between the hand-over and the receiver knowing about it.

Source: https://github.com/brettwooldridge/HikariCP
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from perfkit.proxy.pooled import (
    NEXT,
    AcquireFailed,
    AcquireTimeout,
    ConnectFailed,
    IllegalTransition,
    LeakSuspect,
    PoolClosed,
    PooledConnection,
    Snapshot,
    State,
    Timer,
)
from perfkit.proxy.stacks import capture

CHECK_TIMEOUT_S = 5.0
"""How long a keep-alive check may take when there is no connect timeout."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Life-cycle settings of a pool; 0 switches a time off.

    `lifetime_jitter_ratio` shortens each connection's life by a random part, drawn once, so
    that connections opened together do not expire together. A connection idle for `keepalive_s` is
    checked by asking for the head of `keepalive_path`; any answer will do.
    """

    maximum_size: int = 64
    minimum_idle: int = 0
    acquire_timeout_s: float = 5.0
    connect_timeout_s: float = 3.0
    idle_timeout_s: float = 60.0
    maximum_lifetime_s: float = 1800.0
    lifetime_jitter_ratio: float = 0.25
    keepalive_s: float = 0.0
    keepalive_path: str = "/"
    leak_detection_s: float = 0.0
    housekeeping_s: float = 5.0


class Ticket:
    """A place in the queue of waiters."""

    __slots__ = ("holder", "pool", "receiver", "since", "timer")

    def __init__(self, pool: "Pool", receiver: "Receiver", holder: object, since: float) -> None:
        self.pool = pool
        self.receiver: Receiver | None = receiver
        self.holder = holder
        self.since = since
        self.timer: Timer | None = None

    def cancel(self) -> None:
        """Leave the queue; does nothing once the ticket was served."""
        if self.receiver is not None:
            self.receiver = None
            if self.timer is not None:
                self.timer.cancel()
            self.pool.waiter_left(self)


Receiver = Callable[[PooledConnection | None, AcquireFailed | None], None]
"""Takes a connection, which it must release or discard, or the reason why there is none."""


class Pool:
    """Keeps at most `maximum_size` connections to one upstream and lends them out, first come first served.

    `idle + in_use + connecting == total` holds at every event. A connection being closed has
    left `total`: its slot is free, its socket may live a moment longer (`closing`).

    Args:
        name: what the pool is called in statistics.
        settings: see `PoolSettings`; `update` changes them on the running pool.
        connect: begins to connect, sets `connection.link`, and later calls `connected` or `connect_failed`.
        clock: seconds, monotonic.
        call_later: schedules a call, in seconds.
        on_event: told (event, connection or None) after each change.
        jitter: uniform random numbers in [0, 1).
    """

    def __init__(
        self,
        name: str,
        settings: PoolSettings,
        connect: Callable[[PooledConnection], None],
        *,
        clock: Callable[[], float],
        call_later: Callable[..., Timer],
        on_event: Callable[[str, PooledConnection | None], None] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.settings = settings
        self.on_event = on_event
        self.connections: dict[int, PooledConnection] = {}
        self.suspects: dict[int, LeakSuspect] = {}
        self.returned_suspects: deque[LeakSuspect] = deque(maxlen=32)
        self._connect = connect
        self._clock = clock
        self._call_later = call_later
        self._jitter = jitter
        self._idle: deque[PooledConnection] = deque()
        self._waiters: deque[Ticket] = deque()
        self._in_use = 0
        self._connecting = 0
        self._closing = 0
        self._number = 0
        self._acquired_total = 0
        self._created_total = 0
        self._closed_total = 0
        self._timeouts_total = 0
        self._failures_total = 0
        self._closed_by: dict[str, int] = {}
        self._closed = False
        self._housekeeper: Timer | None = None

    def start(self) -> None:
        """Begin housekeeping and open the minimum of idle connections."""
        self._schedule_housekeeping()
        self._fill()

    # Borrowing ------------------------------------------------------------------------------

    def acquire(self, receiver: Receiver, holder: object = None) -> Ticket | None:
        """Hand a connection to `receiver`, at once if one is idle, else when its turn comes.

        Args:
            receiver: called exactly once, unless the ticket is cancelled first.
            holder: who asks; shown in leak reports.

        Returns:
            The place in the queue, or None if the receiver was called already.
        """
        if self._closed:
            receiver(None, PoolClosed(f"pool {self.name} is closed"))
            return None
        if self._idle and not self._waiters:
            connection = self._take_idle()
            if connection is not None:
                self._check_out(connection, holder)
                receiver(connection, None)
                return None
        ticket = Ticket(self, receiver, holder, self._clock())
        self._waiters.append(ticket)
        if self.settings.acquire_timeout_s:
            ticket.timer = self._call_later(self.settings.acquire_timeout_s, self._time_out, ticket)
        self._tell("waiting", None)
        self._open_for_waiters()
        return ticket

    def release(self, connection: PooledConnection) -> None:
        """Take a connection back; it must be ready for another request.

        Raises:
            IllegalTransition: it was not in use.
        """
        if connection.state is not State.IN_USE:
            raise IllegalTransition(connection, State.IDLE)
        connection.holder = None
        if connection.stack is not None or connection.suspect is not None:
            self._check_in(connection)
        connection.served += 1
        if connection.evicted or self._closed or self.total > self.settings.maximum_size:
            self._retire(connection, "lifetime" if connection.evicted else "surplus")
            return
        connection.state = State.IDLE
        self._in_use -= 1
        connection.idle_since = self._clock()
        self._idle.append(connection)
        if self.on_event is not None:
            self.on_event("checkin", connection)
        if self._waiters:
            self._serve_waiters()

    def discard(self, connection: PooledConnection, why: str = "broken") -> None:
        """Take a connection back that cannot be used again, and close it.

        Raises:
            IllegalTransition: it was not in use.
        """
        if connection.state is not State.IN_USE:
            raise IllegalTransition(connection, State.CLOSING)
        self._check_in(connection)
        self._retire(connection, why)

    def waiter_left(self, ticket: Ticket) -> None:
        """Forget a cancelled ticket; called by it."""
        self._waiters.remove(ticket)
        self._tell("cancelled", None)

    # What the transport reports --------------------------------------------------------------

    def connected(self, connection: PooledConnection) -> None:
        """Note that a connection is open.

        Raises:
            IllegalTransition: it was not connecting.
        """
        if connection.state is State.CLOSING:
            connection.link.close()
            return
        if connection.state is not State.CONNECTING:
            raise IllegalTransition(connection, State.IDLE)
        self._move(connection, State.IDLE)
        self._created_total += 1
        now = self._clock()
        connection.created_at = connection.idle_since = now
        lifetime = self.settings.maximum_lifetime_s
        if lifetime:
            # Drawn once for each connection: drawing again at each check would bring every expiry forward.
            lifetime *= 1 - self.settings.lifetime_jitter_ratio * self._jitter()
            connection.expiry = self._call_later(lifetime, self._expire, connection)
        self._idle.append(connection)
        self._tell("connected", connection)
        if self._closed or self.total > self.settings.maximum_size:
            self._idle.remove(connection)
            self._retire(connection, "surplus")
        else:
            self._serve_waiters()

    def connect_failed(self, connection: PooledConnection, error: ConnectFailed) -> None:
        """Note that a connection could not be opened; the oldest waiter is told why."""
        self._failures_total += 1
        if connection.state is not State.CLOSED:
            self._move(connection, State.CLOSED)
            self.connections.pop(connection.number, None)
        self._tell("connect_failed", connection)
        ticket = self._pop_waiter()
        if ticket is not None:
            self._settle(ticket, None, error)
        self._open_for_waiters()

    def lost(self, connection: PooledConnection, why: str = "peer") -> None:
        """Note that the transport of a connection is gone, whoever closed it."""
        if connection.state is State.CLOSED:
            return
        if connection.state is not State.CLOSING:
            if connection.state is State.IDLE:
                self._idle.remove(connection)
            elif connection.state is State.IN_USE:
                self._check_in(connection)
            self._count_close(connection, why)
        self._move(connection, State.CLOSED)
        self.connections.pop(connection.number, None)
        self._tell("closed", connection)
        self._open_for_waiters()

    # Life-cycle ------------------------------------------------------------------------------

    def update(self, settings: PoolSettings) -> None:
        """Put new settings into force; connections above a smaller maximum close when they are idle."""
        self.settings = settings
        self._schedule_housekeeping()
        while self._idle and self.total > settings.maximum_size:
            self._retire(self._idle.popleft(), "surplus")
        self._open_for_waiters()
        self._fill()

    def housekeeping(self) -> None:
        """Close connections idle for too long, check and replenish the others, look for leaks."""
        now = self._clock()
        settings = self.settings
        while settings.idle_timeout_s and len(self._idle) > settings.minimum_idle:
            if now - self._idle[0].idle_since < settings.idle_timeout_s:
                break
            self._retire(self._idle.popleft(), "idle")
        if settings.keepalive_s:
            for connection in [c for c in self._idle if now - c.idle_since >= settings.keepalive_s]:
                self._check_alive(connection)
        if settings.leak_detection_s:
            for connection in self.connections.values():
                if connection.state is State.IN_USE and connection.suspect is None:
                    held_s = now - connection.checked_out_at
                    if held_s >= settings.leak_detection_s:
                        connection.suspect = self.suspects[connection.number] = LeakSuspect(connection, held_s)
                        self._tell("leak_suspected", connection)
        for suspect in self.suspects.values():
            suspect.held_s = now - self.connections[suspect.connection].checked_out_at
        self._fill()

    def close(self) -> None:
        """Close what is idle now and the rest when it comes back; refuse whoever waits."""
        self._closed = True
        if self._housekeeper is not None:
            self._housekeeper.cancel()
        while (ticket := self._pop_waiter()) is not None:
            self._settle(ticket, None, PoolClosed(f"pool {self.name} is closed"))
        while self._idle:
            self._retire(self._idle.popleft(), "shutdown")

    @property
    def total(self) -> int:
        """Slots taken: idle, in use and connecting."""
        return len(self._idle) + self._in_use + self._connecting

    def snapshot(self) -> Snapshot:
        """Return all gauges and counters, which belong to the same moment."""
        return Snapshot(
            self.name,
            self.settings.maximum_size,
            self.total,
            len(self._idle),
            self._in_use,
            self._connecting,
            self._closing,
            len(self._waiters),
            len(self.suspects),
            self._acquired_total,
            self._created_total,
            self._closed_total,
            self._timeouts_total,
            self._failures_total,
            dict(self._closed_by),
        )

    def __repr__(self) -> str:
        s = self.snapshot()
        return (
            f"<Pool {s.name} {s.total}/{s.maximum}: {s.idle} idle, {s.in_use} in use, {s.connecting} connecting, "
            f"{s.waiting} waiting>"
        )

    # Inside ----------------------------------------------------------------------------------

    def _move(self, connection: PooledConnection, state: State) -> None:
        """Change the state of a connection and the gauges with it."""
        before = connection.state
        if state not in NEXT[before]:
            raise IllegalTransition(connection, state)
        self._connecting += (state is State.CONNECTING) - (before is State.CONNECTING)
        self._in_use += (state is State.IN_USE) - (before is State.IN_USE)
        self._closing += (state is State.CLOSING) - (before is State.CLOSING)
        connection.state = state

    def _tell(self, event: str, connection: PooledConnection | None) -> None:
        """Tell whoever listens."""
        if self.on_event is not None:
            self.on_event(event, connection)

    def _take_idle(self) -> PooledConnection | None:
        """Return the idle connection used last, past those that died unnoticed."""
        while self._idle:
            connection = self._idle.pop()
            if connection.link.is_usable():
                return connection
            self._retire(connection, "broken")
        return None

    def _check_out(self, connection: PooledConnection, holder: object) -> None:
        """Mark a connection, already taken from the idle ones, as lent."""
        if connection.state is not State.IDLE:
            raise IllegalTransition(connection, State.IN_USE)
        connection.state = State.IN_USE
        self._in_use += 1
        self._acquired_total += 1
        connection.holder = holder
        connection.checked_out_at = self._clock()
        if self.settings.leak_detection_s:
            connection.stack = capture(skip=2)
        if self.on_event is not None:
            self.on_event("checkout", connection)

    def _check_in(self, connection: PooledConnection) -> None:
        """Forget who held a connection; a suspicion against them is withdrawn."""
        connection.holder = None
        connection.stack = None
        suspect = connection.suspect
        if suspect is not None:
            connection.suspect = None
            del self.suspects[connection.number]
            suspect.returned = True
            self.returned_suspects.append(suspect)
            self._tell("leak_returned", connection)

    def _retire(self, connection: PooledConnection, why: str) -> None:
        """Close a connection that is neither lent nor among the idle ones any more."""
        self._count_close(connection, why)
        self._move(connection, State.CLOSING)
        self._tell("closing", connection)
        if connection.link is not None:
            connection.link.close()
        self._open_for_waiters()

    def _count_close(self, connection: PooledConnection, why: str) -> None:
        """Count an ended connection by its reason and stop its expiry."""
        self._closed_total += 1
        self._closed_by[why] = self._closed_by.get(why, 0) + 1
        if connection.expiry is not None:
            connection.expiry.cancel()
            connection.expiry = None

    def _open(self) -> None:
        """Begin to open one more connection."""
        self._number += 1
        connection = PooledConnection(self._number, self._clock())
        self.connections[connection.number] = connection
        self._connecting += 1
        self._tell("connecting", connection)
        self._connect(connection)

    def _open_for_waiters(self) -> None:
        """Open as many connections as there are waiters that none is on its way for."""
        while self._connecting < len(self._waiters) and self.total < self.settings.maximum_size and not self._closed:
            self._open()

    def _fill(self) -> None:
        """Open connections up to the minimum of idle ones."""
        wanted = min(self.settings.minimum_idle, self.settings.maximum_size)
        while (
            len(self._idle) + self._connecting < wanted and self.total < self.settings.maximum_size and not self._closed
        ):
            self._open()

    def _serve_waiters(self) -> None:
        """Hand idle connections to those who wait longest."""
        while self._waiters:
            connection = self._take_idle()
            if connection is None:
                return
            ticket = self._waiters.popleft()
            self._check_out(connection, ticket.holder)
            self._settle(ticket, connection, None)

    def _pop_waiter(self) -> Ticket | None:
        """Return the oldest waiter."""
        return self._waiters.popleft() if self._waiters else None

    def _settle(self, ticket: Ticket, connection: PooledConnection | None, error: AcquireFailed | None) -> None:
        """Answer a ticket that has left the queue."""
        if ticket.timer is not None:
            ticket.timer.cancel()
        receiver, ticket.receiver = ticket.receiver, None
        if receiver is not None:
            receiver(connection, error)

    def _time_out(self, ticket: Ticket) -> None:
        """Give up waiting on behalf of a ticket."""
        if ticket.receiver is None:
            return
        self._waiters.remove(ticket)
        self._timeouts_total += 1
        self._tell("timeout", None)
        self._settle(ticket, None, AcquireTimeout(f"{self!r}: none became free in {self.settings.acquire_timeout_s} s"))

    def _expire(self, connection: PooledConnection) -> None:
        """End a connection's life: now if it is idle, else when it comes back."""
        connection.expiry = None
        connection.evicted = True
        if connection.state is State.IDLE:
            self._idle.remove(connection)
            self._retire(connection, "lifetime")
            self._fill()

    def _check_alive(self, connection: PooledConnection) -> None:
        """Lend an idle connection to the keep-alive check, which has as long as connecting would."""
        self._idle.remove(connection)
        self._check_out(connection, "keep-alive check")

        asked = True

        def done(alive: bool) -> None:
            nonlocal asked
            if asked and connection.state is State.IN_USE:
                if alive:
                    self.release(connection)
                else:
                    self.discard(connection, "keepalive")
            asked = False
            timer.cancel()

        timer = self._call_later(self.settings.connect_timeout_s or CHECK_TIMEOUT_S, done, False)
        connection.link.check(done)

    def _schedule_housekeeping(self) -> None:
        """Arrange the next round."""
        if self._housekeeper is not None:
            self._housekeeper.cancel()
        if self._closed:
            return
        period_s = self.settings.housekeeping_s
        if self.settings.leak_detection_s:
            period_s = min(period_s, self.settings.leak_detection_s / 2)
        self._housekeeper = self._call_later(period_s, self._keep_house)

    def _keep_house(self) -> None:
        """Do one round and arrange the next."""
        self._schedule_housekeeping()
        self.housekeeping()
