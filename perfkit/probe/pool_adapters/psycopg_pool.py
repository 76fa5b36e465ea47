"""psycopg's pools, threads and asyncio: a slot is the connection itself.

Source: https://github.com/psycopg/psycopg, psycopg_pool/psycopg_pool/pool.py
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODULE = "psycopg_pool"


class Adapter:
    """What an acquisition is: `getconn` until `putconn`."""

    name = "psycopg_pool"

    def __init__(self, book: Any, module: Any) -> None:
        self._book = book
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
            "idle_timeout_s": pool.max_idle,
            "check": pool._check is not None,
            "lifo": False,
        }

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
