"""The only place where the target and the recorder find each other: a socket, a bootstrap, two secrets.

The bootstrap is the few hundred bytes that are written into the target. It starts one thread
and returns; the thread connects to us, makes sure that we are who sent it, and runs the probe
we send. Running it twice is harmless: we listen for one connection and then no more.
"""

import ast
import os
import secrets
import shutil
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from inspect import getsource
from pathlib import Path

from perfkit.attach.errors import AttachTimeout, TargetGone
from perfkit.attach.target import Target, shares_network
from perfkit.probe import address, thread_starter

_LENGTH = struct.Struct(">I")
_PEER = struct.Struct("3i")
_POLL_S = 0.02

# A raw thread (nobody's `threading.enumerate()` shows it), a raw socket (gevent patches the
# other one), nothing left in `__main__` (PyRun_SimpleString runs there). `threading` must be
# imported here, by the main thread: up to 3.12 it takes the first thread that imports it for the
# main one, and a program would wait for our thread when it wants to end.
# Its namespace bears the probe's name: by it what is ours is told apart from what is the target's.
_BOOTSTRAP = """exec({program!r},{{'__name__':'perfkit probe'}})
"""
_PROGRAM = """
import sys,_thread
try:import threading
except Exception:pass
def main():
 try:
  import _socket as S
  s=S.socket(S.AF_UNIX,S.SOCK_STREAM)
  s.settimeout(5)
  s.connect({address!r})
  s.sendall({hello!r})
  def read(n):
   d=b''
   while len(d)<n:
    c=s.recv(n-len(d))
    if not c:raise EOFError
    d+=c
   return d
  if read(32)!={answer!r}:return
  n={{'__name__':'perfkit probe','__builtins__':__builtins__}}
  exec(compile(read(int.from_bytes(read(4),'big')),'<perfkit probe>','exec'),n)
  n['serve'](s)
 except Exception:pass
{thread_starter}
start=thread_starter()
if start:start(main,())
"""


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """A listening socket, and the source text that makes a process connect to it."""

    listener: socket.socket
    bootstrap: str
    hello: bytes
    answer: bytes

    def accept(self, target: Target | None, timeout_s: float) -> tuple[socket.socket, int] | None:
        """Return `(connection, process id)` of the process that ran the bootstrap, None: not in time.

        Args:
            target: the only process to let in; None lets any process of ours in that knows the secret.
            timeout_s: how long to wait.

        Raises:
            TargetGone: it ended.
        """
        until = time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            self.listener.settimeout(min(left, _POLL_S))
            try:
                connection, _address = self.listener.accept()
            except TimeoutError:
                if target is not None and not target.is_alive():
                    raise TargetGone(target.pid) from None
                continue
            peer = _peer(connection)
            connection.settimeout(2.0)
            # The kernel says who is there: another process cannot pass for the target.
            with suppress(OSError):
                if (target is None or peer == target.pid) and _read(connection, len(self.hello)) == self.hello:
                    connection.sendall(self.answer)
                    _send_agent(connection)
                    return connection, peer
            connection.close()
        return None


@contextmanager
def rendezvous(target: Target | None) -> Iterator[Rendezvous]:
    """Yield a place to meet that the target can reach; nobody can after the context has ended.

    An abstract socket leaves no file behind. It does not cross network namespaces, so a
    target in a container gets a socket file in its own /tmp instead.

    Raises:
        AttachTimeout: the target's /tmp cannot be written to.
    """
    token = secrets.token_hex(16)
    hello, answer = secrets.token_bytes(32), secrets.token_bytes(32)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder: Path | None = None
    try:
        if target is None or shares_network(target):
            address = f"\0perfkit-{token}"
            listener.bind(address)
        else:
            inside = Path(f"/tmp/perfkit-{token}")  # noqa: S108 - the name is a secret, the folder private
            folder = Path(f"/proc/{target.pid}/root{inside}")
            address = str(inside / "s")
            try:
                folder.mkdir(mode=0o700)
                # The name of a Unix socket has at most 107 bytes, so go there through a descriptor.
                listener.bind(f"/proc/{target.pid}/root{address}")
                status = Path(f"/proc/{target.pid}").stat()
                if status.st_uid != os.geteuid():
                    os.chown(folder / "s", status.st_uid, status.st_gid)
                    os.chown(folder, status.st_uid, status.st_gid)
            except OSError as error:
                raise AttachTimeout(target.pid, 0, f"no socket could be made in its /tmp: {error.strerror}") from error
        listener.listen(4)
        program = _PROGRAM.format(
            address=address.encode(), hello=hello, answer=answer, thread_starter=getsource(thread_starter)
        ).strip()
        yield Rendezvous(listener, _BOOTSTRAP.format(program=program), hello, answer)
    finally:
        listener.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def connect(target: Target) -> socket.socket | None:
    """Return a connection to the probe of a process that imports `perfkit.probe`, None: it does not."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(2.0)
    with suppress(OSError):
        connection.connect(address(target.pid))
        # Credentials of whoever listens: the address alone could be taken by anybody.
        if _peer(connection) == target.pid:
            _send_agent(connection)
            return connection
    connection.close()
    return None


def _peer(connection: socket.socket) -> int:
    """Return the process at the other end, as the kernel knows it."""
    pid: int = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[0]
    return pid


def _send_agent(connection: socket.socket) -> None:
    """Send what is to run in the target."""
    source = probe_source("agent")
    connection.sendall(_LENGTH.pack(len(source)) + source)
    connection.settimeout(None)


def probe_source(name: str) -> bytes:
    """Return the source of a module of `perfkit.probe` to be sent to a target, after those it imports from there.

    The target has no perfkit to import from, so all of them are one source and share one namespace: no two of them
    may call different things the same, and none may import another's things as something else.

    Args:
        name: without `perfkit.probe`, such as `census` or `pool_parts.book`.
    """
    lines = ["from __future__ import annotations", *_source_lines(name, {name})]
    return ("\n".join(lines) + "\n").encode()


def _source_lines(name: str, included: set[str]) -> list[str]:
    """Return the lines of a module, after those of what it imports of ours and what was not included yet."""
    text = resources.files("perfkit.probe").joinpath(f"{name.replace('.', '/')}.py").read_text("utf-8")
    lines = text.splitlines()
    before: list[str] = []
    for statement in ast.parse(text).body:
        module = str(statement.module) if isinstance(statement, ast.ImportFrom) else ""
        imported = module.removeprefix("perfkit.probe.")
        if module == "__future__" or imported != module:
            for number in range(statement.lineno - 1, statement.end_lineno or 0):
                lines[number] = ""
        if imported != module and imported not in included:
            included.add(imported)
            before += _source_lines(imported, included)
    return before + lines


def _read(connection: socket.socket, size_bytes: int) -> bytes:
    """Return exactly that many bytes, fewer at the end of the stream."""
    data = b""
    while len(data) < size_bytes and (chunk := connection.recv(size_bytes - len(data))):
        data += chunk
    return data
