"""asyncpg's pool: a slot is a `PoolConnectionHolder`, which stays when its connection goes.

Source: https://github.com/MagicStack/asyncpg, asyncpg/pool.py
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODULE = "asyncpg.pool"


class Adapter:
    """What an acquisition is: `Pool._acquire` until `PoolConnectionHolder._release`."""

    name = "asyncpg"
    tunes = {"idle": "idle_timeout_s"}  # noqa: RUF012
    fixed = {  # noqa: RUF012
        "size": "asyncpg makes a holder for each connection when the pool is made: another size needs another pool.",
        "lifetime": "asyncpg has no lifetime of connections, only max_queries and a time for idle ones.",
        "kept": "asyncpg keeps every idle connection until its time is over: try that time.",
    }

    def __init__(self, book: Any, module: Any) -> None:
        self._book = book
        pool, holder = module.Pool, module.PoolConnectionHolder
        self.classes = (pool,)
        self.folder = module.__file__.rpartition("pool.py")[0]
        self.hooks = [
            book.hook(pool, "_acquire", ("self",), book.wishing(self), self._acquired, book.gave_up),
            book.hook(pool, "release", ("connection",), self._returning),
            book.hook(holder, "_release", ("self",), self._released),
            book.hook(holder, "connect", ("self",), book.first, self._created),
            book.hook(holder, "_release_on_close", ("self",), book.closing),
        ]

    def title(self, pool: Any) -> str:
        """Return the kind of pool."""
        return type(pool).__name__

    def settings(self, pool: Any) -> dict[str, Any]:
        """Return the settings; there is no deadline unless the caller of `acquire` gives one."""
        return {
            "max_size": pool._maxsize,
            "min_size": pool._minsize,
            "idle_timeout_s": pool._max_inactive_connection_lifetime or None,
            "max_queries": pool._max_queries,
            "max_lifetime_s": None,
            "acquire_timeout_s": None,
            "lifo": True,
        }

    def tune(self, pool: Any, _word: str, value: Any, _before: dict[str, Any]) -> None:
        """Change the time for idle connections; each holder has its own, looked at when it becomes idle."""
        pool._max_inactive_connection_lifetime = value or 0
        for holder in list(pool._holders):
            holder._max_inactive_time = value or 0

    def state(self, pool: Any) -> dict[str, Any]:
        """Return the gauges."""
        holders = list(pool._holders)
        opened = [each for each in holders if each._con is not None and not each._con.is_closed()]
        in_use = sum(each._in_use is not None for each in holders)
        return {"max": pool._maxsize, "open": len(opened), "in_use": in_use, "idle": max(len(opened) - in_use, 0)}

    def slots(self, pool: Any) -> list[tuple[Any, bool]]:
        """Return the holders that have a connection."""
        return [(each, each._in_use is not None) for each in list(pool._holders) if each._con is not None]

    def _acquired(self, wish: Any, proxy: Any) -> None:
        """End it."""
        self._book.acquired(wish, getattr(proxy, "_holder", None))

    def _returning(self, values: list[Any], _frame: Any) -> None:
        """Note who returns a connection: the pool resets it in a task of its own."""
        holder = getattr(values[0], "_holder", None)
        if holder is not None:
            self._book.returning(holder)

    def _released(self, values: list[Any], _frame: Any) -> None:
        """Note that a connection is back."""
        if values[0]._in_use is not None:
            self._book.released(values[0])

    def _created(self, holder: Any, _value: Any) -> None:
        """Note a new connection."""
        self._book.created(holder, pool=holder._pool, adapter=self)
