"""redis-py's pools, threads and asyncio: a slot is a `Connection`, which connects again when it has to.

Source: https://github.com/redis/redis-py, redis/connection.py and redis/asyncio/connection.py
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODULE = "redis.connection"


class Adapter:
    """What an acquisition is: `get_connection` until `release`."""

    name = "redis"
    tunes: dict[str, str] = {}  # noqa: RUF012
    fixed = {  # noqa: RUF012
        "size": "redis-py never closes an idle connection: those of a larger size would stay when it is put back.",
        "lifetime": "redis-py has no lifetime of connections.",
        "idle": "redis-py has no time for idle connections.",
        "kept": "redis-py keeps every connection.",
    }

    def __init__(self, book: Any, module: Any) -> None:
        self._book = book
        self.classes: tuple[Any, ...] = ()
        self.hooks: list[Any] = []
        self.folder = module.__file__.rpartition("connection.py")[0]
        for source in (module, sys.modules.get("redis.asyncio.connection")):
            if source is None:
                continue
            pools = [source.ConnectionPool, source.BlockingConnectionPool]
            self.classes += tuple(pools)
            for pool in pools:
                self.hooks += [
                    book.hook(pool, "get_connection", ("self",), book.wishing(self), book.acquired, book.gave_up),
                    book.hook(pool, "release", ("connection",), book.releasing, frameless=True),
                ]
            for name in ("Connection", "SSLConnection", "UnixDomainSocketConnection"):
                self.hooks.append(book.hook(getattr(source, name), "_connect", ("self",), book.first, book.created))
            self.hooks.append(book.hook(source.AbstractConnection, "disconnect", ("self",), self._closed))

    def title(self, pool: Any) -> str:
        """Return the kind of pool and where it connects to."""
        arguments = getattr(pool, "_connection_kwargs", None) or getattr(pool, "connection_kwargs", {})
        where = arguments.get("path") or f"{arguments.get('host', 'localhost')}:{arguments.get('port', 6379)}"
        return f"{type(pool).__name__} {where}"

    def settings(self, pool: Any) -> dict[str, Any]:
        """Return the settings; only the blocking kind waits for a connection."""
        arguments = getattr(pool, "_connection_kwargs", None) or getattr(pool, "connection_kwargs", {})
        return {
            "max_size": pool.max_connections,
            "acquire_timeout_s": getattr(pool, "timeout", 0),
            "health_check_interval_s": arguments.get("health_check_interval") or None,
            "idle_timeout_s": None,
            "max_lifetime_s": None,
            "lifo": True,
        }

    def state(self, pool: Any) -> dict[str, Any]:
        """Return the gauges."""
        slots = self.slots(pool)
        number = self._book.pool(pool, self)
        lent = sum(in_use for _slot, in_use in slots)
        if not hasattr(pool, "_in_use_connections") or getattr(pool, "pool", None) is not None:
            lent = sum(each.pool is number for each in list(self._book.checkouts.values()))
        idle = sum(not in_use for _slot, in_use in slots)
        return {"max": pool.max_connections, "open": idle + lent, "in_use": lent, "idle": idle}

    def slots(self, pool: Any) -> list[tuple[Any, bool]]:
        """Return the connections, with whether they are lent."""
        queue = getattr(pool, "pool", None)
        if queue is not None:  # the blocking kind of threads: a queue with room for those that are not made yet
            return [(each, False) for each in list(queue.queue) if each is not None]
        found = [(each, False) for each in list(getattr(pool, "_available_connections", ()))]
        return found + [(each, True) for each in list(getattr(pool, "_in_use_connections", ()))]

    def _closed(self, values: list[Any], _frame: Any) -> None:
        """Note the end of a connection, if it had one."""
        connection = values[0]
        if getattr(connection, "_sock", None) is not None or getattr(connection, "_writer", None) is not None:
            self._book.closed(connection)
