"""The pool of perfkit's reference proxy: callbacks instead of tasks, so wishes are granted in the turn of others."""

from __future__ import annotations

from _weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODULE = "perfkit.proxy.pool"


class Adapter:
    """What an acquisition is: `Pool.acquire` or the ticket it returns, until `release` or `discard`."""

    name = "perfkit proxy"

    def __init__(self, book: Any, module: Any) -> None:
        self._book = book
        self._now: Any = None
        self._tickets: dict[int, Any] = {}
        pool = module.Pool
        self.classes = (pool,)
        self.folder = module.__file__
        self.hooks = [
            book.hook(pool, "acquire", ("self", "holder"), self._wish, self._queued, book.gave_up),
            book.hook(pool, "_check_out", ("self", "connection", "holder"), self._lent),
            book.hook(pool, "_settle", ("ticket", "connection"), self._settled),
            book.hook(pool, "waiter_left", ("ticket",), self._left),
            book.hook(pool, "release", ("connection",), book.releasing),
            book.hook(pool, "connected", ("self", "connection"), self._connected),
            book.hook(pool, "_count_close", ("connection",), book.closing),
        ]

    def title(self, pool: Any) -> str:
        """Return the name of the upstream."""
        return str(pool.name)

    def settings(self, pool: Any) -> dict[str, Any]:
        """Return the settings."""
        settings = pool.settings
        return {
            "max_size": settings.maximum_size,
            "min_idle": settings.minimum_idle,
            "acquire_timeout_s": settings.acquire_timeout_s or None,
            "idle_timeout_s": settings.idle_timeout_s or None,
            "max_lifetime_s": settings.maximum_lifetime_s or None,
            "lifetime_jitter": settings.lifetime_jitter_ratio,
            "lifo": True,
        }

    def state(self, pool: Any) -> dict[str, Any]:
        """Return the gauges."""
        return {
            "max": pool.settings.maximum_size,
            "open": len(pool.connections) - pool._connecting - pool._closing,
            "in_use": pool._in_use,
            "idle": len(pool._idle),
            "waiting": len(pool._waiters),
        }

    def slots(self, pool: Any) -> list[tuple[Any, bool]]:
        """Return the connections that are open, with whether they are lent."""
        states = {"idle": False, "in_use": True}
        return [
            (each, states[each.state.value]) for each in list(pool.connections.values()) if each.state.value in states
        ]

    def _wish(self, values: list[Any], frame: Any) -> Any:
        """Begin an acquisition; the pool runs in one thread, so what follows at once belongs to it."""
        pool, holder = values
        self._now = self._book.wish(pool, self, frame)
        if hasattr(holder, "client"):
            self._now.ended = _ending(holder)
            self._now.holder = self._book.someone()
        return self._now

    def _queued(self, wish: Any, ticket: Any) -> None:
        """Note that a wish has to wait, if it has."""
        if self._now is wish:
            self._now = None
            if ticket is not None and ticket.receiver is not None:
                self._tickets[id(ticket)] = wish
            elif ticket is None:
                self._book.gave_up(wish, None, "failed")

    def _lent(self, values: list[Any], frame: Any) -> None:
        """Grant a wish on the spot; those that had to wait are granted by `_settled`."""
        pool, connection, holder = values
        wish, self._now = self._now, None
        if wish is not None and frame is not None and frame.f_code.co_name == "acquire":
            self._book.acquired(wish, connection)
            return
        self._now = wish
        if isinstance(holder, str):  # the pool's own check whether a connection is alive
            self._book.acquired(self._book.wish(pool, self, frame), connection)

    def _settled(self, values: list[Any], _frame: Any) -> None:
        """Answer a wish that had to wait."""
        ticket, connection = values
        wish = self._tickets.pop(id(ticket), None)
        if wish is None:
            wish, self._now = self._now, None
        if wish is None:
            return
        if connection is not None:
            self._book.acquired(wish, connection)
        else:
            timed_out = ticket.timer is not None and ticket.timer.when() <= ticket.pool._clock() + 0.001
            self._book.gave_up(wish, None, "timeout" if timed_out else "failed")

    def _left(self, values: list[Any], _frame: Any) -> None:
        """Note that who waited gave up."""
        wish = self._tickets.pop(id(values[0]), None)
        if wish is not None:
            self._book.gave_up(wish, None, "cancelled")

    def _connected(self, values: list[Any], _frame: Any) -> None:
        """Note a new connection, unless it is closed by now."""
        pool, connection = values
        if connection.state.value == "connecting":
            self._book.created(connection, pool=pool, adapter=self)


def _ending(exchange: Any) -> Any:
    """Return a function that says whether the client of a request is gone."""
    exchange = ref(exchange)

    def is_gone() -> bool:
        transport = getattr(getattr(exchange(), "client", None), "_transport", None)
        return transport is None or bool(transport.is_closing())

    return is_gone
