"""psycopg's pools, threads and asyncio: a slot is the connection itself.

Source: https://github.com/psycopg/psycopg, psycopg_pool/psycopg_pool/pool.py
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODULE = "psycopg_pool"
_TURN_S = 0.05
"""How long to wait for a connection that is too many."""


class Adapter:
    """What an acquisition is: `getconn` until `putconn`."""

    name = "psycopg_pool"
    tunes = {"size": "max_size", "lifetime": "max_lifetime_s"}  # noqa: RUF012
    fixed = {  # noqa: RUF012
        "idle": "psycopg_pool looks for idle connections once per max_idle, at times that are planned before.",
        "kept": "psycopg_pool keeps at least min_size connections, and the others until they are idle for max_idle.",
    }

    def __init__(self, book: Any, module: Any) -> None:
        self._book = book
        self._place: Any = getattr(sys.modules.get("psycopg_pool.pool"), "WaitingClient", None)
        self._keeps_nothing = module.NullConnectionPool
        pools = [module.ConnectionPool, module.AsyncConnectionPool]
        pools += [getattr(module, name) for name in ("NullConnectionPool", "AsyncNullConnectionPool")]
        self.classes = tuple(pools)
        self.folder = module.__file__.rpartition("__init__.py")[0]
        self.hooks = []
        for pool in pools:
            self.hooks += [
                book.hook(pool, "getconn", ("self",), book.wishing(self), book.acquired, book.gave_up),
                book.hook(pool, "putconn", ("conn",), book.releasing, frameless=True),
                book.hook(pool, "_connect", ("self",), book.first, self._created),
                book.hook(pool, "_close_connection", ("conn",), book.closing),
            ]

    def title(self, pool: Any) -> str:
        """Return the name of the pool."""
        return str(pool.name)

    def settings(self, pool: Any) -> dict[str, Any]:
        """Return the settings; the lifetime is looked at when a connection comes back only."""
        return {
            "max_size": pool._max_size,
            "min_size": pool._min_size,
            "acquire_timeout_s": pool.timeout,
            "max_waiting": pool.max_waiting or None,
            "max_lifetime_s": pool.max_lifetime,
            "lifetime_jitter_ratio": 0.05,  # each connection draws its own, see _set_connection_expiry_date
            "idle_timeout_s": pool.max_idle,
            "check": pool._check is not None,
            "lifo": False,
        }

    def refuses(self, pool: Any, word: str, _value: Any) -> str | None:
        """Return why a setting cannot be tried on this pool."""
        if word == "size" and not self._can_shrink(pool):
            return f"{type(pool).__name__} cannot be made smaller from outside of its event loop, or keeps nothing."
        return None

    def _can_shrink(self, pool: Any) -> bool:
        """Whether a pool is one of threads, which keeps connections."""
        return isinstance(pool, self.classes[0]) and not isinstance(pool, self._keeps_nothing) and bool(self._place)

    def tune(self, pool: Any, word: str, value: Any, before: dict[str, Any]) -> None:
        """Change a setting.

        `resize` would open connections anew when the smallest size is put back, and closes none. The end of its
        life is written on each connection: those of the idle ones are moved in proportion.
        """
        if word == "size":
            pool._min_size, pool._max_size = min(before["min_size"], value), value
            return
        ratio, pool.max_lifetime = value / pool.max_lifetime, value
        for connection in self._living(pool):
            born = connection._created_at
            connection._expire_at = born + (connection._expire_at - born) * ratio

    def _living(self, pool: Any) -> list[Any]:
        """Return the connections that are idle, and those that are lent as far as they are known."""
        number = self._book.pool(pool, self).number
        found = {id(each): each for each in list(pool._pool)}
        for place in list(self._book.slots.values()):
            each = place.ref() if place.pool == number and place.ref is not None else None
            if each is not None and hasattr(each, "_expire_at"):
                found[id(each)] = each
        return list(found.values())

    def shrink(self, pool: Any) -> bool:
        """Take a connection that is too many out of the pool, in the turn of all who wait; return whether one was.

        The pool itself only closes what was idle for max_idle.
        """
        if pool._nconns <= pool._max_size or not self._can_shrink(pool):
            return False
        place = self._place()
        with pool._lock:
            connection = pool._pool.popleft() if pool._pool else None
            if connection is None:
                pool._waiting.append(place)
        if connection is None:
            try:
                connection = place.wait(timeout=_TURN_S)
            except Exception:  # noqa: BLE001 - nobody gave one back in time; the place refuses what comes later
                return True
        with pool._lock:
            pool._nconns -= 1
        pool._close_connection(connection)
        return True

    def state(self, pool: Any) -> dict[str, Any]:
        """Return the gauges."""
        idle = len(pool._pool)
        return {
            "max": pool._max_size,
            "open": pool._nconns,
            "idle": idle,
            "in_use": max(pool._nconns - idle, 0),
            "waiting": len(pool._waiting),
        }

    def slots(self, pool: Any) -> list[tuple[Any, bool]]:
        """Return the idle connections: nobody keeps a list of the others."""
        return [(each, False) for each in list(pool._pool)]

    def _created(self, pool: Any, connection: Any) -> None:
        """Note a new connection."""
        self._book.created(connection, pool=pool, adapter=self)
