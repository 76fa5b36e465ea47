"""aiohttp's connectors: a slot is the `ResponseHandler` of a connection, what is lent a `Connection` around it.

Source: https://github.com/aio-libs/aiohttp, aiohttp/connector.py
"""

from __future__ import annotations

import sys
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODULE = "aiohttp.connector"
_TURN_S = 0.25
"""How long to wait for the loop to come round; one that is busy for longer is asked again later."""


class Adapter:
    """What an acquisition is: `BaseConnector.connect` until `_release`."""

    name = "aiohttp"
    tunes = {"size": "max_size", "idle": "idle_timeout_s"}  # noqa: RUF012
    fixed = {  # noqa: RUF012
        "lifetime": "aiohttp has no lifetime of connections: a connection that is used ends when the peer wants it.",
        "kept": "aiohttp keeps every idle connection until its time is over: try that time.",
    }

    def __init__(self, book: Any, module: Any) -> None:
        self._book = book
        connector = module.BaseConnector
        self.classes = (connector,)
        self.folder = module.__file__.rpartition("connector.py")[0]
        response = sys.modules["aiohttp.client_reqrep"].ClientResponse  # type: ignore[attr-defined, unused-ignore]
        self.hooks = [
            book.hook(response, "__del__", ("self",), self._unread),
            book.hook(connector, "connect", ("self",), book.wishing(self), self._acquired, book.gave_up),
            book.hook(connector, "_release", ("protocol",), book.releasing, frameless=True),
            book.hook(module.Connection, "__del__", ("self",), self._collected),
            book.hook(module.TCPConnector, "_create_connection", ("self",), book.first, self._created),
            book.hook(module.ResponseHandler, "connection_lost", ("self",), book.closing),
        ]

    def title(self, pool: Any) -> str:
        """Return the kind of connector."""
        return type(pool).__name__

    def settings(self, pool: Any) -> dict[str, Any]:
        """Return the settings; waiting is bounded by the session's timeouts."""
        return {
            "max_size": pool._limit or None,
            "max_per_host": pool._limit_per_host or None,
            "idle_timeout_s": getattr(pool, "_keepalive_timeout", None),
            "force_close": pool._force_close,
            "max_lifetime_s": None,
            "lifo": False,
        }

    def refuses(self, pool: Any, word: str, _value: Any) -> str | None:
        """Return why a setting cannot be tried on this pool."""
        if word == "idle" and pool._force_close:
            return "With force_close no connection is ever idle."
        return None

    def tune(self, pool: Any, word: str, value: Any, _before: dict[str, Any]) -> None:
        """Change a setting: both are looked at whenever a connection is taken, or may be closed."""
        if word == "size":
            pool._limit = value or 0
        else:
            pool._keepalive_timeout = value

    def shrink(self, pool: Any) -> bool:
        """Have the connector's loop close an idle connection that is too many; return whether there was one.

        A connector takes an idle connection whatever its limit is, so a smaller one would not be felt.
        """
        idle = sum(len(each) for each in list(pool._conns.values()))
        if not pool._limit or not idle or idle + len(pool._acquired) <= pool._limit:
            return False
        done = allocate_lock()
        done.acquire()

        def close() -> None:
            try:
                for each in list(pool._conns.values()):
                    if each:
                        each.pop()[0].close()
                        return
            finally:
                done.release()

        try:
            pool._loop.call_soon_threadsafe(close)
        except RuntimeError:  # the loop has ended
            return False
        return done.acquire(timeout=_TURN_S)

    def state(self, pool: Any) -> dict[str, Any]:
        """Return the gauges."""
        idle = sum(len(each) for each in list(pool._conns.values()))
        in_use = len(pool._acquired)
        waiting = sum(len(each) for each in list(pool._waiters.values()))
        return {"max": pool._limit or None, "open": idle + in_use, "in_use": in_use, "idle": idle, "waiting": waiting}

    def slots(self, pool: Any) -> list[tuple[Any, bool]]:
        """Return the protocols, with whether they are lent."""
        found = [(entry[0], False) for each in list(pool._conns.values()) for entry in list(each)]
        return found + [(each, True) for each in list(pool._acquired) if hasattr(each, "data_received")]

    def _acquired(self, wish: Any, connection: Any) -> None:
        """End it."""
        self._book.acquired(wish, getattr(connection, "_protocol", None))

    def _collected(self, values: list[Any], _frame: Any) -> None:
        """Note a connection that was freed without having been returned."""
        protocol = getattr(values[0], "_protocol", None)
        if protocol is not None:
            self._book.released(protocol, "collected")

    def _unread(self, values: list[Any], frame: Any) -> None:
        """Note an answer that was freed without having been read or closed: it releases what it has."""
        connection = getattr(values[0], "_connection", None)
        if connection is not None and not getattr(values[0], "_closed", True):
            self._collected([connection], frame)

    def _created(self, pool: Any, protocol: Any) -> None:
        """Note a new connection."""
        self._book.created(protocol, pool=pool, adapter=self)
