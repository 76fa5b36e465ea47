"""The only place that holds the proxy together: configuration in force, pools, clients, counters, drain."""

import asyncio
from dataclasses import replace
from typing import Any

from perfkit.proxy import faults
from perfkit.proxy.client import ClientConnection
from perfkit.proxy.config import Config, Upstream
from perfkit.proxy.link import Connector
from perfkit.proxy.pool import Pool
from perfkit.proxy.routes import Routes

TICK_S = 0.25
"""How coarse the proxy's clock is, at most: timeouts are late by up to two ticks."""


class Stats:
    """Counters since the start."""

    __slots__ = (
        "client_aborts_total", "connections_total", "refused_total", "reloads_total", "request_body_bytes_total",
        "requests_total", "response_body_bytes_total", "responses_total", "retries_total", "upstream_failures_total",
    )  # fmt: skip

    def __init__(self) -> None:
        self.connections_total = 0
        self.requests_total = 0
        self.refused_total = 0
        self.client_aborts_total = 0
        self.retries_total = 0
        self.reloads_total = 0
        self.upstream_failures_total = 0
        self.request_body_bytes_total = 0
        self.response_body_bytes_total = 0
        self.responses_total = [0] * 6

    def count(self, status: int) -> None:
        """Count a response by its class."""
        self.responses_total[status // 100 if status < 600 else 0] += 1

    def to_dict(self) -> dict[str, Any]:
        """Return the counters in JSON form."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        values["responses_total"] = {f"{at}xx": n for at, n in enumerate(self.responses_total) if at}
        return values


class Proxy:
    """A running proxy: `start` it in a loop, `reload` it, `drain` it.

    Args:
        config: what it is told.
        loop: the loop it runs in.
    """

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.clients: set[ClientConnection] = set()
        self.stats = Stats()
        self.pools: dict[str, Pool] = {}
        self.draining = False
        self.drained = asyncio.Event()
        self.port = 0
        self._retired: list[Pool] = []
        self._connectors: dict[Pool, Connector] = {}
        self._addresses: dict[str, tuple[str, int]] = {}
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._drain_deadline: asyncio.TimerHandle | None = None
        self._apply(config)

    async def start(self) -> None:
        """Open the pools and listen.

        Raises:
            OSError: the address is taken or not ours.
        """
        self._server = await self.loop.create_server(
            lambda: ClientConnection(self), self.config.host, self.config.port, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._tick()

    def reload(self, config: Config) -> list[str]:
        """Put another configuration into force without dropping a connection.

        Requests under way end as they began. Pools of upstreams that stay keep their
        connections; those of upstreams that go are closed as connections come back.

        Returns:
            Settings that differ and need a restart, with the addresses the proxy listens on.
        """
        fixed = [key for key in ("host", "port", "control_port") if getattr(config, key) != getattr(self.config, key)]
        self._apply(replace(config, **{key: getattr(self.config, key) for key in fixed}))
        self.stats.reloads_total += 1
        return fixed

    def drain(self) -> None:
        """Stop listening, let requests under way end, then set `drained`; at the latest after `drain_s`."""
        if self.draining:
            return
        self.draining = True
        if self._server is not None:
            self._server.close()
        for client in list(self.clients):
            client.drain()
        self._drain_deadline = self.loop.call_later(self.timeouts.drain_s, self.abort)
        self.client_left()

    def abort(self) -> None:
        """Cut every client off."""
        for client in list(self.clients):
            client.abort()
        self.drained.set()

    def client_left(self) -> None:
        """Note that a client is gone; the last one ends a drain."""
        if self.draining and not self.clients:
            self.drained.set()

    async def stop(self) -> None:
        """Close what is left after a drain."""
        for handle in (self._ticker, self._drain_deadline):
            if handle is not None:
                handle.cancel()
        if self._server is not None:
            self._server.close()
        for pool in [*self.pools.values(), *self._retired]:
            pool.close()
            self._connectors[pool].cancel()
            for connection in list(pool.connections.values()):
                if connection.link is not None:
                    connection.link.close()
        await asyncio.sleep(0)

    def to_dict(self) -> dict[str, Any]:
        """Return counters, gauges and pools in JSON form, read at one moment."""
        return {
            "draining": self.draining,
            "clients": len(self.clients),
            "forwarding": self.config.forwarding,
            **self.stats.to_dict(),
            "pools": {
                name: {
                    **pool.snapshot()._asdict(),
                    "suspects": [suspect.to_dict() for suspect in pool.suspects.values()],
                    "returned_suspects": [suspect.to_dict() for suspect in pool.returned_suspects],
                }
                for name, pool in self.pools.items()
            },
            "faults": faults.planted(),
            "left_behind": faults.left_behind(),
        }

    def _apply(self, config: Config) -> None:
        """Put `config` into force."""
        self.config = config
        self.limits = config.limits
        self.head_limits = config.limits.head
        self.timeouts = config.timeouts
        self.buffered = config.forwarding == "buffered"
        pools = {name: self._pool(name, upstream) for name, upstream in config.upstreams.items()}
        for name, pool in self.pools.items():
            if pools.get(name) is not pool:
                pool.close()
                self._retired.append(pool)
        self._retired = [pool for pool in self._retired if pool.connections]
        self._connectors = {p: c for p, c in self._connectors.items() if p in pools.values() or p in self._retired}
        self.pools = pools
        self.routes = Routes(config.routes)
        for name in faults.FAULTS:
            if name in config.faults:
                faults.plant(name, config.faults[name].get("size_bytes"))
            elif name in faults.planted():
                faults.uproot(name)
        shortest_s = min(t for t in (self.timeouts.header_s, self.timeouts.idle_s, self.timeouts.response_s, 9e9) if t)
        self._tick_s = min(TICK_S, shortest_s / 4)
        self.now = self.loop.time()

    def _pool(self, name: str, upstream: Upstream) -> Pool:
        """Return the pool of an upstream: the running one, if it still leads to the same address."""
        address = (upstream.host, upstream.port)
        pool = self.pools.get(name)
        if pool is not None and self._addresses[name] == address:
            pool.update(upstream.pool)
            return pool
        self._addresses[name] = address
        connector = Connector(self.loop, *address)
        host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
        pool = Pool(
            f"{host}:{upstream.port}",
            upstream.pool,
            connector,
            clock=self.loop.time,
            call_later=self.loop.call_later,
        )
        connector.pool = pool
        self._connectors[pool] = connector
        pool.start()
        return pool

    def _tick(self) -> None:
        """Move the coarse clock and tell the clients whose patience is over."""
        self.now = now = self.loop.time()
        for client in [client for client in self.clients if client.deadline < now]:
            client.expired()
        self._ticker = self.loop.call_later(self._tick_s, self._tick)
