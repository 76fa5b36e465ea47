"""httpcore's pools, which httpx uses: a use is a `PoolRequest` on a connection, and one of HTTP/2 carries many.

Source: https://github.com/encode/httpcore, httpcore/_async/connection_pool.py
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MODULE = "httpcore"


class Adapter:
    """What an acquisition is: a request that is sent, until the response's stream is closed or the request fails.

    Not yet that a connection was assigned: all that wait are given the one that has become idle, and but one of them
    find it taken and wait again. A new connection belongs to who makes it.
    """

    name = "httpcore"
    tunes = {"size": "max_size", "kept": "max_idle", "idle": "idle_timeout_s"}  # noqa: RUF012
    fixed = {  # noqa: RUF012
        "lifetime": "httpcore has no lifetime of connections, only keepalive_expiry for idle ones: try that time.",
    }

    def __init__(self, book: Any, module: Any) -> None:
        self._book = book
        self._wishes: dict[int, Any] = {}
        asynchronous, synchronous = module._async.connection_pool, module._sync.connection_pool
        self.classes = (asynchronous.AsyncConnectionPool, synchronous.ConnectionPool)
        self.folder = module.__file__.rpartition("httpcore")[0] + "http"  # httpx, its only caller as a rule, too
        self.hooks = []
        self._direct = module._async.connection.AsyncHTTPConnection, module._sync.connection.HTTPConnection
        for source, prefix, verb, close, connections in (
            (asynchronous, "Async", "handle_async_request", "aclose", self._direct[0]),
            (synchronous, "", "handle_request", "close", self._direct[1]),
        ):
            pool, request = getattr(source, prefix + "ConnectionPool"), getattr(source, prefix + "PoolRequest")
            self.hooks += [
                book.hook(pool, verb, ("self", "request"), self._wish, self._answered, self._failed),
                book.hook(request, "wait_for_connection", ("self",), book.first, self._assigned),
                book.hook(
                    source.PoolByteStream,
                    close,
                    ("self",),
                    self._closing,
                    lambda request, _value: book.released(request),
                ),
                book.hook(connections, "_connect", ("self",), book.first, book.created),
            ]
        for folder, prefix in ((module._async, "Async"), (module._sync, "")):
            for protocol in ("http11.HTTP11Connection", "http2.HTTP2Connection"):
                file, _, name = protocol.partition(".")
                # HTTP/2 is an extra, and its file may be missing or fail to be imported.
                if connection := getattr(getattr(folder, file, None), prefix + name, None):
                    self.hooks.append(book.hook(connection, "_send_request_headers", ("request",), self._sending))

    def title(self, pool: Any) -> str:
        """Return the kind of pool."""
        return type(pool).__name__

    def settings(self, pool: Any) -> dict[str, Any]:
        """Return the settings."""
        return {
            "max_size": _limit(pool._max_connections),
            "max_idle": _limit(pool._max_keepalive_connections),
            "idle_timeout_s": pool._keepalive_expiry,
            "uses_before_unknown": True,
            "max_lifetime_s": None,
        }

    def tune(self, pool: Any, word: str, value: Any, before: dict[str, Any]) -> None:
        """Change a setting: limits are looked at whenever a request begins or ends.

        A pool that keeps all its connections keeps all of another number, too; of what is idle no more are kept than
        there may be, and what is beyond a smaller limit closes when it is idle.
        """
        if word == "size":
            pool._max_connections = size = sys.maxsize if value is None else value
            kept, most = (sys.maxsize if each is None else each for each in (before["max_idle"], before["max_size"]))
            if size != most:
                kept = size if kept >= most else min(kept, size)
            pool._max_keepalive_connections = kept
        elif word == "kept":
            pool._max_keepalive_connections = sys.maxsize if value is None else value
        else:
            pool._keepalive_expiry = value
            for connection in list(pool._connections):
                inner: Any = getattr(connection, "_connection", None)
                for each in (connection, inner):
                    if hasattr(each, "_keepalive_expiry"):
                        each._keepalive_expiry = value

    def state(self, pool: Any) -> dict[str, Any]:
        """Return the gauges; ghosts are connections that nobody connects and no request is on."""
        connections, requests = list(pool._connections), list(pool._requests)
        assigned = {id(request.connection) for request in requests if request.connection is not None}
        idle = sum(_is_idle(each) for each in connections)
        ghosts = sum(
            getattr(each, "_connection", each) is None
            and not getattr(each, "_connect_failed", False)
            and id(each) not in assigned
            for each in connections
        )
        return {
            "max": _limit(pool._max_connections),
            "open": len(connections),
            "idle": idle,
            "in_use": len(connections) - idle,
            "waiting": sum(request.connection is None for request in requests),
            "ghosts": ghosts,
        }

    def slots(self, pool: Any) -> list[tuple[Any, bool]]:
        """Return the connections; uses before us are those of requests on them."""
        return [(each, False) for each in list(pool._connections)]

    def _wish(self, values: list[Any], frame: Any) -> Any:
        """Begin a request."""
        pool, request = values
        token = self._wishes[id(request)] = [id(request), self._book.wish(pool, self, frame), None, None]
        return token

    def _assigned(self, pool_request: Any, connection: Any) -> None:
        """Note that a request may try a connection; one that has to be made yet, or leads to a proxy, is its own."""
        token = self._wishes.get(id(pool_request.request))
        if token is None:
            return
        if type(connection) in self._direct and connection._connection is not None:
            token[3] = pool_request, connection
        else:
            token[2] = pool_request
            self._book.acquired(token[1], connection, pool_request)

    def _sending(self, values: list[Any], _frame: Any) -> None:
        """Note that a request has the connection that it was assigned."""
        token = self._wishes.get(id(values[0]))
        if token is not None and token[3] is not None:
            (token[2], connection), token[3] = token[3], None
            self._book.acquired(token[1], connection, token[2])

    def _answered(self, token: Any, _response: Any) -> None:
        """Forget a request whose answer begins: its stream is what is closed."""
        self._wishes.pop(token[0], None)

    def _failed(self, token: Any, error: BaseException) -> None:
        """Note that a request has failed, before or after it had a connection."""
        self._wishes.pop(token[0], None)
        if token[2] is None:
            self._book.gave_up(token[1], error)
        else:
            self._book.released(token[2])

    def _closing(self, values: list[Any], _frame: Any) -> Any:
        """Return the request whose answer is being closed, None: it was already."""
        stream = values[0]
        return None if stream._closed else stream._pool_request


def _limit(number: Any) -> int | None:
    """Return a limit, None: there is none."""
    return None if number is None or number >= sys.maxsize else int(number)


def _is_idle(connection: Any) -> bool:
    """Whether a connection waits for a request."""
    inner = getattr(connection, "_connection", None)
    return inner is not None and bool(inner.is_idle())
