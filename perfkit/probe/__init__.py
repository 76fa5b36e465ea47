"""What runs inside a target; standard library only.

A program that wants to be recorded without ptrace rights imports it and says so:

>>> import perfkit.probe
>>> perfkit.probe.start()
>>> perfkit.probe.stop()

The same goes for its forked children. Until a recorder connects, it costs one sleeping thread.
"""

from __future__ import annotations

import _socket
import _thread
import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing may take the target 5 ms
    from collections.abc import Callable

_CREDENTIALS = struct.Struct("3i")
_state: dict[str, _socket.socket | bool] = {}


def start() -> None:
    """Let recorders of the same user, or of root, into this process; nothing if they are let in already."""
    if "listener" in _state:
        return
    start_thread = thread_starter()
    if start_thread is None:
        raise RuntimeError(
            "no thread of the system can be started here: something took the place of _thread's function"
        )
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        listener.bind(address(os.getpid()))
    except OSError:
        listener.close()
        raise
    listener.listen(1)
    _state["listener"] = listener
    if "forks" not in _state:
        _state["forks"] = True
        os.register_at_fork(after_in_child=_after_fork)
    start_thread(_listen, (listener,))


def stop() -> None:
    """Let nobody in any more; a recorder that is in already stays."""
    listener = _state.pop("listener", None)
    if isinstance(listener, _socket.socket):
        # Closing alone does not wake up the thread that waits in accept().
        listener.shutdown(_socket.SHUT_RDWR)
        listener.close()


def thread_starter() -> "Callable[..., int] | None":  # noqa: UP037 - its source is also run by itself
    """Return what starts a thread of the system, None: it cannot be found.

    gevent and eventlet put their own in its place, and a greenlet that waits for a recorder would stop the program.
    """
    gevent, copy = sys.modules.get("gevent.monkey"), sys.modules.get("__original_module__thread")
    found = [_thread.start_new_thread, getattr(copy, "start_new_thread", None)]
    if gevent is not None:
        found.append(gevent.get_original("_thread", "start_new_thread"))
    return next((each for each in found if type(each) is type(len)), None)


def address(pid: int) -> str:
    """Return the abstract socket at which a process lets recorders in."""
    return f"\0perfkit-probe-{pid}"


def _after_fork() -> None:
    """Let recorders into the child too, at its own address."""
    listener = _state.pop("listener", None)
    if isinstance(listener, _socket.socket):
        listener.close()
        start()


def _listen(listener: _socket.socket) -> None:
    """Serve one recorder after the other."""
    while True:
        try:
            descriptor, _address = listener._accept()  # type: ignore[attr-defined]
            connection = _socket.socket(fileno=descriptor)
        except OSError:
            return
        try:
            user = _CREDENTIALS.unpack(connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12))[1]
            if user in (0, os.geteuid()):
                # The recorder brings its own agent: it may be of another version than this file.
                source = _read(connection, int.from_bytes(_read(connection, 4), "big"))
                namespace = {"__name__": "perfkit probe", "__builtins__": __builtins__}
                exec(compile(source, "<perfkit probe>", "exec"), namespace)  # noqa: S102
                namespace["serve"](connection)  # type: ignore[operator]
        except (OSError, EOFError):
            pass
        finally:
            connection.close()


def _read(connection: _socket.socket, size_bytes: int) -> bytes:
    """Return exactly that many bytes."""
    data = b""
    while len(data) < size_bytes:
        chunk = connection.recv(size_bytes - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data
