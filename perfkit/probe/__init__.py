"""What runs inside a target; standard library only.

A program that wants to be recorded without ptrace rights imports it and says so:

>>> import perfkit.probe
>>> perfkit.probe.start()
>>> perfkit.probe.stop()

The same goes for its forked children. Until a recorder connects, it costs one sleeping thread.
"""

from __future__ import annotations

import _thread
import os
import socket
import struct

_CREDENTIALS = struct.Struct("3i")
_state: dict[str, socket.socket | bool] = {}


def start() -> None:
    """Let recorders of the same user, or of root, into this process; nothing if they are let in already."""
    if "listener" in _state:
        return
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
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
    _thread.start_new_thread(_listen, (listener,))


def stop() -> None:
    """Let nobody in any more; a recorder that is in already stays."""
    listener = _state.pop("listener", None)
    if isinstance(listener, socket.socket):
        # Closing alone does not wake up the thread that waits in accept().
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def address(pid: int) -> str:
    """Return the abstract socket at which a process lets recorders in."""
    return f"\0perfkit-probe-{pid}"


def _after_fork() -> None:
    """Let recorders into the child too, at its own address."""
    listener = _state.pop("listener", None)
    if isinstance(listener, socket.socket):
        listener.close()
        start()


def _listen(listener: socket.socket) -> None:
    """Serve one recorder after the other."""
    while True:
        try:
            connection, _address = listener.accept()
        except OSError:
            return
        try:
            user = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
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


def _read(connection: socket.socket, size_bytes: int) -> bytes:
    """Return exactly that many bytes."""
    data = b""
    while len(data) < size_bytes:
        chunk = connection.recv(size_bytes - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data
