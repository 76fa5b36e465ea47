"""The only place that runs the proxy and the upstream as processes: loop, signals, handshake."""

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perfkit.proxy.config import BadConfig, Config
from perfkit.proxy.control import Control, ControlConnection
from perfkit.proxy.server import Proxy


def run_proxy(config: Config | str | Path) -> int:
    """Serve until SIGTERM or SIGINT, then drain; return the exit code.

    Prints one line of JSON when it is ready: `{"ready": true, "pid": ..., "port": ...,
    "control_port": ...}`. SIGHUP reads the configuration file again; a second SIGTERM or
    SIGINT does not wait for the drain.

    Raises:
        BadConfig: the configuration cannot be used.
        OSError: an address is taken.
    """
    if not isinstance(config, Config):
        config = Config.from_file(config)
    return _run(_serve_proxy(config))


def run_upstream(host: str = "127.0.0.1", port: int = 0, **settings: Any) -> int:
    """Serve the lab's upstream until SIGTERM or SIGINT; return the exit code.

    Prints the same line as `run_proxy`, without a control port.

    Args:
        host: address to listen on.
        port: port to listen on; 0 lets the system choose.
        settings: see `perfkit.proxy.upstream.Settings`.

    Raises:
        OSError: the address is taken.
    """
    from perfkit.proxy.upstream import Settings, start_upstream

    async def serve() -> int:
        loop = asyncio.get_running_loop()
        server = await start_upstream(loop, Settings(**settings), host, port)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        say_ready(port=server.sockets[0].getsockname()[1])
        await stop.wait()
        server.close()
        return 0

    return _run(serve())


def say_ready(**facts: Any) -> None:
    """Print the handshake: the one line that whoever started this process waits for."""
    sys.stdout.write(json.dumps({"ready": True, "pid": os.getpid(), **facts}) + "\n")
    sys.stdout.flush()


def _run(main: Any) -> int:
    """Run a coroutine on uvloop, or on asyncio where uvloop is missing or PERFKIT_LOOP=asyncio asks for it."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if os.environ.get("PERFKIT_LOOP") != "asyncio":
        try:
            import uvloop
        except ImportError:
            pass
        else:
            factory = uvloop.new_event_loop
    # What start-up left behind is garbage now, not in the middle of the first requests.
    gc.collect()
    with asyncio.Runner(loop_factory=factory) as runner:
        return int(runner.run(main))


async def _serve_proxy(config: Config) -> int:
    """Run the proxy and its control endpoint until they are told to stop."""
    loop = asyncio.get_running_loop()
    proxy = Proxy(config, loop)
    await proxy.start()

    def reload() -> list[str]:
        if proxy.config.source is None:
            raise BadConfig("", "the configuration did not come from a file, so it cannot be read again")
        return proxy.reload(Config.from_file(proxy.config.source))

    def reload_or_complain() -> None:
        try:
            needs_restart = reload()
        except BadConfig as error:
            sys.stderr.write(f"perfkit proxy: not reloaded: {error} {error.hint}\n")
        else:
            if needs_restart:
                sys.stderr.write(f"perfkit proxy: reloaded; {', '.join(needs_restart)} need a restart\n")

    def stop() -> None:
        if proxy.draining:
            proxy.abort()
        proxy.drain()

    control = await loop.create_server(
        lambda: ControlConnection(Control(proxy, reload)), "127.0.0.1", config.control_port
    )
    handlers: dict[signal.Signals, Callable[[], None]] = {
        signal.SIGTERM: stop,
        signal.SIGINT: stop,
        signal.SIGHUP: reload_or_complain,
    }
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    say_ready(port=proxy.port, control_port=control.sockets[0].getsockname()[1])
    await proxy.drained.wait()
    control.close()
    await proxy.stop()
    return 0
