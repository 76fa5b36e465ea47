"""urllib3's pools, which requests uses: one per host, full or not they lend as many connections as are asked for.

Source: https://github.com/urllib3/urllib3, src/urllib3/connectionpool.py
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODULE = "urllib3.connectionpool"


class Adapter:
    """What an acquisition is: `_get_conn` until `_put_conn`, or until the connection is closed."""

    name = "urllib3"
    tunes = {"kept": "max_idle"}  # noqa: RUF012
    fixed = {  # noqa: RUF012
        "size": "A blocking pool of urllib3 has a token in its queue for each connection, which cannot be taken back "
        "while it is lent; others lend as many as are asked for, and only keep a number of them.",
        "lifetime": "urllib3 has no lifetime of connections.",
        "idle": "urllib3 has no time for idle connections.",
    }

    def __init__(self, book: Any, module: Any) -> None:
        self._book = book
        pool = module.HTTPConnectionPool
        self.classes = (pool,)
        self.folder = module.__file__.rpartition("connectionpool.py")[0]
        self.hooks = [
            book.hook(pool, "_get_conn", ("self",), book.wishing(self), book.acquired, book.gave_up),
            book.hook(pool, "_put_conn", ("conn",), book.releasing, frameless=True),
        ]
        plain = module.HTTPConnection
        for kind in dict.fromkeys((plain, module.HTTPSConnection)):
            self.hooks += [
                book.hook(kind, "connect", ("self",), book.first, book.created),
                book.hook(kind, "close", ("self",), self._closed),
            ]

    def title(self, pool: Any) -> str:
        """Return the host."""
        return f"{pool.host}:{pool.port}"

    def settings(self, pool: Any) -> dict[str, Any]:
        """Return the settings; without `block` the size only says how many idle connections are kept."""
        size = pool.pool.maxsize if pool.pool is not None else None
        return {
            "max_size": size if pool.block else None,
            "max_idle": size,
            "block": pool.block,
            "acquire_timeout_s": None,
            "idle_timeout_s": None,
            "max_lifetime_s": None,
            "lifo": True,
        }

    def refuses(self, pool: Any, _word: str, _value: Any) -> str | None:
        """Return why a setting cannot be tried on this pool."""
        return self.fixed["size"] if pool.block or pool.pool is None else None

    def tune(self, pool: Any, _word: str, value: Any, _before: dict[str, Any]) -> None:
        """Change how many idle connections are kept: looked at whenever one comes back."""
        pool.pool.maxsize = value

    def state(self, pool: Any) -> dict[str, Any]:
        """Return the gauges."""
        idle = len(self.slots(pool))
        number = self._book.pool(pool, self)
        in_use = sum(each.pool is number for each in list(self._book.checkouts.values()))
        limit = pool.pool.maxsize if pool.block and pool.pool is not None else None
        return {"max": limit, "open": idle + in_use, "in_use": in_use, "idle": idle}

    def slots(self, pool: Any) -> list[tuple[Any, bool]]:
        """Return the idle connections that are open."""
        queue = list(pool.pool.queue) if pool.pool is not None else []
        return [(each, False) for each in queue if each is not None and getattr(each, "sock", None) is not None]

    def _closed(self, values: list[Any], _frame: Any) -> None:
        """Note the end of a connection."""
        if getattr(values[0], "sock", None) is not None:
            self._book.closed(values[0])
