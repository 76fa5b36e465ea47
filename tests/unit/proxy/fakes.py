"""A clock that moves when told, and an upstream whose connections open, fail and end when told."""

from collections.abc import Callable
from typing import Any

from perfkit.proxy.pool import Pool, PoolSettings
from perfkit.proxy.pooled import ConnectFailed, PooledConnection


class FakeTimer:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """Time and timers of a loop that runs only in `advance`."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.timers: list[FakeTimer] = []

    def __call__(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, call: Callable[..., None], *args: Any) -> FakeTimer:
        timer = FakeTimer(self.now_s + delay_s, lambda: call(*args))
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        """Move on, running what is due in order."""
        end = self.now_s + seconds
        while due := [t for t in self.timers if t.when <= end and not t.cancelled]:
            timer = min(due, key=lambda t: t.when)
            self.timers.remove(timer)
            self.now_s = max(self.now_s, timer.when)
            timer.call()
        self.timers = [t for t in self.timers if not t.cancelled]
        self.now_s = end


class FakeLink:
    """The transport side of a connection, as a real one behaves: told to close, it is gone a little later."""

    def __init__(self, lab: "PoolLab", connection: PooledConnection) -> None:
        self.lab = lab
        self.connection = connection
        self.usable = True
        self.checks: list[Callable[[bool], None]] = []

    def is_usable(self) -> bool:
        return self.usable

    def close(self) -> None:
        self.usable = False
        self.lab.closing.append(self.connection)

    def check(self, done: Callable[[bool], None]) -> None:
        self.checks.append(done)


class PoolLab:
    """A pool on a fake clock, with every event checked against the pool's invariant."""

    def __init__(self, jitter: float = 0.0, **settings: Any) -> None:
        self.clock = FakeClock()
        self.opening: list[PooledConnection] = []
        self.closing: list[PooledConnection] = []
        self.events: list[str] = []
        self.pool = Pool(
            "origin",
            PoolSettings(**settings),
            self._open,
            clock=self.clock,
            call_later=self.clock.call_later,
            on_event=self._event,
            jitter=lambda: jitter,
        )
        self.pool.start()

    def _open(self, connection: PooledConnection) -> None:
        connection.link = FakeLink(self, connection)
        self.opening.append(connection)

    def _event(self, event: str, connection: PooledConnection | None) -> None:
        self.events.append(event)
        if event == "connecting":
            assert self.pool.total <= self.pool.settings.maximum_size
        check_invariant(self.pool)

    def connect(self) -> PooledConnection:
        """Let the oldest attempt succeed."""
        connection = self.opening.pop(0)
        self.pool.connected(connection)
        return connection

    def refuse(self, *, timed_out: bool = False) -> None:
        """Let the oldest attempt fail."""
        self.pool.connect_failed(self.opening.pop(0), ConnectFailed("refused", timed_out=timed_out))

    def end_closing(self) -> None:
        """Let connections that were told to close be gone."""
        while self.closing:
            self.pool.lost(self.closing.pop(0))


def check_invariant(pool: Pool) -> None:
    """Compare the gauges with a count of the connections themselves."""
    snapshot = pool.snapshot()
    states = [connection.state.value for connection in pool.connections.values()]
    assert snapshot.idle + snapshot.in_use + snapshot.connecting == snapshot.total
    assert (snapshot.in_use, snapshot.connecting) == (states.count("in_use"), states.count("connecting"))


class Borrower:
    """Somebody who asks for a connection and notes what came."""

    def __init__(self, pool: Pool, name: str = "somebody") -> None:
        self.pool = pool
        self.connection: PooledConnection | None = None
        self.error: Exception | None = None
        self.answers = 0
        self.ticket = pool.acquire(self._receive, name)

    def _receive(self, connection: PooledConnection | None, error: Exception | None) -> None:
        self.answers += 1
        self.connection = connection
        self.error = error

    @property
    def waits(self) -> bool:
        return self.answers == 0

    def give_back(self) -> None:
        assert self.connection is not None
        connection, self.connection = self.connection, None
        self.pool.release(connection)
