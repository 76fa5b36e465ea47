"""The only place that says what a pooled connection is: its states, who has it, why there is none."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from perfkit.proxy.stacks import Stack


class State(enum.Enum):
    """Where a connection is in its life."""

    CONNECTING = "connecting"
    IDLE = "idle"
    IN_USE = "in_use"
    CLOSING = "closing"
    CLOSED = "closed"


NEXT: dict[State, frozenset[State]] = {
    State.CONNECTING: frozenset({State.IDLE, State.CLOSING, State.CLOSED}),
    State.IDLE: frozenset({State.IN_USE, State.CLOSING, State.CLOSED}),
    State.IN_USE: frozenset({State.IDLE, State.CLOSING, State.CLOSED}),
    State.CLOSING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}
"""Where a connection may go from each state; anything else is a bug."""


class IllegalTransition(RuntimeError):
    """A connection was asked to go where its state does not lead: a bug in whoever asked."""

    def __init__(self, connection: "PooledConnection", state: State) -> None:
        super().__init__(f"{connection!r} cannot become {state.value}")
        self.connection = connection
        self.state = state


class AcquireFailed(Exception):
    """No connection was handed over."""


class AcquireTimeout(AcquireFailed):
    """Every connection stayed in use for longer than the acquire timeout."""


class ConnectFailed(AcquireFailed):
    """The upstream could not be reached; `timed_out` tells silence from refusal."""

    def __init__(self, why: str, *, timed_out: bool = False) -> None:
        super().__init__(why)
        self.timed_out = timed_out


class PoolClosed(AcquireFailed):
    """The pool is closed or draining."""


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Forget the call."""


class Link(Protocol):
    """The transport side of a pooled connection."""

    def is_usable(self) -> bool:
        """Whether a request can be sent on it now."""
        ...

    def close(self) -> None:
        """Close it; `Pool.lost` is called once it is gone."""
        ...

    def check(self, done: Callable[[bool], None]) -> None:
        """Ask the peer whether it is still there, and tell `done`."""
        ...


class PooledConnection:
    """One slot of the pool: a connection, its state, and who has it."""

    __slots__ = (
        "checked_out_at", "created_at", "evicted", "expiry", "holder", "idle_since", "link", "number", "served",
        "stack", "state", "suspect",
    )  # fmt: skip

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.state = State.CONNECTING
        self.link: Any = None
        self.created_at = now
        self.idle_since = now
        self.checked_out_at = now
        self.served = 0
        self.evicted = False
        self.expiry: Timer | None = None
        self.holder: object = None
        self.stack: Stack | None = None
        self.suspect: LeakSuspect | None = None

    def __repr__(self) -> str:
        return f"<PooledConnection {self.number} {self.state.value} served={self.served}>"


class LeakSuspect:
    """A connection that has been out for too long, until it comes back."""

    __slots__ = ("connection", "held_s", "holder", "returned", "stack")

    def __init__(self, connection: PooledConnection, held_s: float) -> None:
        self.connection = connection.number
        self.holder = repr(connection.holder)
        self.stack = connection.stack
        self.held_s = held_s
        self.returned = False

    def to_dict(self) -> dict[str, Any]:
        """Return the suspicion in JSON form, its stack outermost frame first."""
        return {
            "connection": self.connection,
            "held_s": round(self.held_s, 3),
            "holder": self.holder,
            "returned": self.returned,
            "stack": self.stack.lines() if self.stack else [],
        }


class Snapshot(NamedTuple):
    """All gauges and counters of a pool, read at one moment."""

    name: str
    maximum: int
    total: int
    idle: int
    in_use: int
    connecting: int
    closing: int
    waiting: int
    suspected: int
    acquired_total: int
    created_total: int
    closed_total: int
    acquire_timeouts_total: int
    connect_failures_total: int
    closed_by: dict[str, int]
