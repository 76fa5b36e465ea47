"""SQLAlchemy's pools, 1.4 to 2.1: a slot is a `_ConnectionRecord`, and what is lent a `_ConnectionFairy` over it.

Source: https://github.com/sqlalchemy/sqlalchemy, lib/sqlalchemy/pool/base.py and impl.py
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODULE = "sqlalchemy.pool"
_RECORD = "_ConnectionRecord__"
_TURN_S = 0.05
"""How long to wait for a connection that is too many."""


class Adapter:
    """What an acquisition is: `Pool.connect` until `_ConnectionRecord.checkin`."""

    name = "sqlalchemy"
    tunes = {"size": "pool_size", "lifetime": "max_lifetime_s"}  # noqa: RUF012
    fixed = {  # noqa: RUF012
        "idle": "SQLAlchemy has no time for idle connections.",
        "kept": "SQLAlchemy keeps as many idle connections as pool_size says: try sizes.",
    }

    def __init__(self, book: Any, module: Any) -> None:
        base = module.base
        self._base, self._book = base, book
        self.classes = (module.QueuePool, module.NullPool)
        self._keeps_none = module.NullPool
        self.folder = module.__file__.rpartition("pool")[0]
        record = base._ConnectionRecord
        self.hooks = [
            book.hook(base.Pool, "connect", ("self",), book.wishing(self), self._acquired, book.gave_up),
            book.hook(record, "checkin", ("self",), lambda values, _frame: self._back(values[0])),
            book.hook(record, _RECORD + "connect", ("self",), book.first, self._created),
            book.hook(record, _RECORD + "close", ("self",), book.closing),
            book.hook(base._ConnectionFairy, "detach", ("self",), self._detached),
        ]

    def title(self, pool: Any) -> str:
        """Return the kind of pool, and the name it logs under."""
        return " ".join(filter(None, (type(pool).__name__, getattr(pool, "logging_name", None))))

    def settings(self, pool: Any) -> dict[str, Any]:
        """Return the settings; recycle is looked at when a connection is taken only."""
        if not _has_queue(pool):
            return {"max_idle": 0 if isinstance(pool, self._keeps_none) else None, "max_size": None}
        return {
            "max_size": self._max(pool),
            "pool_size": pool._pool.maxsize,
            "max_overflow": pool._max_overflow,
            "acquire_timeout_s": pool._timeout,
            "max_lifetime_s": pool._recycle if pool._recycle > -1 else None,
            "pre_ping": pool._pre_ping,
            "lifo": bool(getattr(pool._pool, "use_lifo", False)),
        }

    def refuses(self, pool: Any, word: str, _value: Any) -> str | None:
        """Return why a setting cannot be tried on this pool."""
        if not _has_queue(pool):
            return f"{type(pool).__name__} has no such setting: it makes connections for whoever asks."
        if word != "size":
            return None
        if not hasattr(pool._pool, "queue"):
            return "The pool of an asynchronous engine cannot be made smaller from outside of its event loop."
        if self._max(pool) is None:
            return "This pool has no limit: nobody waits for a connection, and a size would only say what is kept."
        return None

    def tune(self, pool: Any, word: str, value: Any, _before: dict[str, Any]) -> None:
        """Change a setting.

        The lifetime is looked at when a connection is taken. What is open is counted from the size on, so a new
        size moves the count; connections beyond a smaller one are taken out by `shrink`.
        """
        if word == "lifetime":
            pool._recycle = -1 if value is None else value
            return
        with pool._overflow_lock:
            before, pool._pool.maxsize = pool._pool.maxsize, value
            pool._overflow += before - value

    def shrink(self, pool: Any) -> bool:
        """Take a connection that is too many out of the pool, in the turn of all who wait; return whether one was.

        The pool closes what comes back to a full queue, but it hands on what somebody waits for.
        """
        queue = pool._pool
        if not hasattr(queue, "queue") or self._max(pool) is None:
            return False
        if pool._overflow <= pool._max_overflow and queue.qsize() <= queue.maxsize:
            return False
        try:
            record = queue.get(True, _TURN_S)
        except Exception:  # noqa: BLE001 - Empty, which each version defines elsewhere
            return True
        try:
            record.close()
        finally:
            pool._dec_overflow()
        return True

    def state(self, pool: Any) -> dict[str, Any]:
        """Return the gauges."""
        if not _has_queue(pool):
            entry = self._book.pool(pool, self)
            in_use = sum(each.pool is entry for each in list(self._book.checkouts.values()))
            return {"max": None, "open": in_use, "idle": 0, "in_use": in_use}
        size, idle, overflow = pool._pool.maxsize, pool._pool.qsize(), pool._overflow
        return {"max": self._max(pool), "open": size + overflow, "idle": idle, "in_use": size + overflow - idle}

    def slots(self, pool: Any) -> list[tuple[Any, bool]]:
        """Return the records, with whether they are lent."""
        queue = getattr(pool, "_pool", None)
        waiting = getattr(queue, "queue", None) or getattr(getattr(queue, "_queue", None), "_queue", None)
        idle: list[Any] = list(waiting or ())
        found = [(record, False) for record in idle]
        strong = getattr(self._base, "_strong_ref_connection_records", None)
        lent = list(strong.values()) if strong is not None else self._of_finalizers()
        name = _RECORD + "pool"
        return found + [(each, True) for each in lent if getattr(each, name, None) is pool and each.fairy_ref]

    def _of_finalizers(self) -> list[Any]:
        """Return the records that wait for the end of their fairy (2.1 and later)."""
        import weakref

        kind, found = self._base._ConnectionRecord, []
        for info in list(weakref.finalize._registry.values()):  # type: ignore[attr-defined, unused-ignore]
            if info.func is self._base._finalize_fairy:
                found += [each for each in info.args or () if isinstance(each, kind)]
        return found

    def _max(self, pool: Any) -> int | None:
        """Return the most connections there may be, None: any number."""
        size, overflow = pool._pool.maxsize, pool._max_overflow
        return None if overflow < 0 or size == 0 else size + overflow

    def _acquired(self, wish: Any, fairy: Any) -> None:
        """End it."""
        self._book.acquired(wish, getattr(fairy, "_connection_record", None))

    def _created(self, record: Any, _value: Any) -> None:
        """Note a new connection."""
        self._book.created(record, pool=getattr(record, _RECORD + "pool", None), adapter=self)

    def _detached(self, values: list[Any], _frame: Any) -> None:
        """Note a connection that leaves the pool, as one of asyncio does whose fairy was freed."""
        record = getattr(values[0], "_connection_record", None)
        if record is not None:
            self._back(record)
            self._book.closed(record)

    def _back(self, record: Any) -> None:
        """Note that a connection is back: returned, or because nobody referred to its fairy any more."""
        fairy = record.fairy_ref
        self._book.released(record, "collected" if fairy is not None and fairy() is None else "released")


def _has_queue(pool: Any) -> bool:
    """Whether idle connections wait in a queue: those of NullPool, StaticPool and the like do not."""
    return hasattr(getattr(pool, "_pool", None), "maxsize")
