"""The pool of perfkit's reference proxy: callbacks instead of tasks, so wishes are granted in the turn of others."""

from __future__ import annotations

import sys
from _weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODULE = "perfkit.proxy.pool"


class Adapter:
    """What an acquisition is: `Pool.acquire` or the ticket it returns, until `release` or `discard`."""

    name = "perfkit proxy"
    tunes = {"size": "max_size", "lifetime": "max_lifetime_s", "idle": "idle_timeout_s"}  # noqa: RUF012
    fixed = {  # noqa: RUF012
        "kept": "The proxy keeps every idle connection until its time is over: try that time.",
    }

    def __init__(self, book: Any, module: Any) -> None:
        self._book = book
        self._tickets: dict[int, Any] = {}
        pool = module.Pool
        self.classes = (pool,)
        self.folder = module.__file__
        self._serving = pool._serve_waiters.__code__
        self.hooks = [
            book.hook(module.Ticket, "__init__", ("self", "pool", "holder"), self._queued),
            book.hook(pool, "_check_out", ("self", "connection", "holder"), self._lent, frameless=True),
            book.hook(pool, "_settle", ("ticket", "connection"), self._settled),
            book.hook(pool, "waiter_left", ("ticket",), self._left),
            book.hook(pool, "release", ("connection",), book.releasing, frameless=True),
            book.hook(pool, "connected", ("self", "connection"), self._connected),
            book.hook(pool, "_count_close", ("self", "connection"), lambda values, _frame: book.closed(values[1])),
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

    def tune(self, pool: Any, word: str, value: Any, _before: dict[str, Any]) -> None:
        """Change a setting, in the event loop of the pool; the ends of the lives that began are moved."""
        name = {"size": "maximum_size", "lifetime": "maximum_lifetime_s", "idle": "idle_timeout_s"}[word]
        replace = sys.modules["dataclasses"].replace

        def change() -> None:
            pool.update(replace(pool.settings, **{name: value or 0}))
            if word == "lifetime":
                _draw_lives_anew(pool)

        pool._call_later.__self__.call_soon_threadsafe(change)

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

    def _wish(self, pool: Any, holder: Any, frame: Any) -> Any:
        """Return the wish of a request, which has ended when its client is gone."""
        wish = self._book.wish(pool, self, frame)
        if hasattr(holder, "client"):
            wish.ended = ref(holder)
            wish.holder = self._book.someone()
        return wish

    def has_ended(self, exchange: Any) -> bool:
        """Whether the client of a request is gone."""
        transport = getattr(getattr(exchange, "client", None), "_transport", None)
        return transport is None or bool(transport.is_closing())

    def _queued(self, values: list[Any], frame: Any) -> None:
        """Note who has to wait."""
        ticket, pool, holder = values
        self._tickets[id(ticket)] = self._wish(pool, holder, frame)

    def _lent(self, values: list[Any], frame: Any) -> None:
        """Grant a wish on the spot; those that had to wait are granted by `_settled`."""
        pool, connection, holder = values
        if not self._tickets or (frame or sys._getframe(self._book.depth)).f_code is not self._serving:
            self._book.lent(pool, self, connection, frame, holder if hasattr(holder, "client") else None)

    def _settled(self, values: list[Any], _frame: Any) -> None:
        """Answer a wish that had to wait."""
        ticket, connection = values
        wish = self._tickets.pop(id(ticket), None)
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


def _draw_lives_anew(pool: Any) -> None:
    """Give each connection that lives the rest of a life that is as long as the settings say."""
    settings, now = pool.settings, pool._clock()
    for connection in list(pool.connections.values()):
        if connection.state.value not in ("idle", "in_use") or connection.evicted:
            continue
        if connection.expiry is not None:
            connection.expiry.cancel()
            connection.expiry = None
        lifetime_s = settings.maximum_lifetime_s * (1 - settings.lifetime_jitter_ratio * pool._jitter())
        if lifetime_s:
            left_s = max(0.0, connection.created_at + lifetime_s - now)
            connection.expiry = pool._call_later(left_s, pool._expire, connection)
