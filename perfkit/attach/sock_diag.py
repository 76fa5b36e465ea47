"""The only place that asks the kernel for sockets: `sock_diag` over netlink, in the network namespace of a process.

Nothing here needs root for a process in our own namespace. Reading another namespace needs
CAP_SYS_ADMIN to enter it for a moment, in a thread of its own; without it /proc/PID/net serves.

Source: https://man7.org/linux/man-pages/man7/sock_diag.7.html
"""

import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from ctypes import CDLL, get_errno
from pathlib import Path

from perfkit.attach.target import Target, shares_network

_NETLINK_SOCK_DIAG = 4
_BY_FAMILY, _DONE, _ERROR = 20, 3, 2
_REQUEST_DUMP = 0x301
_INFO_BIT = 1 << 1
_TCP_DESTROY_GROUPS = 1 << 0 | 1 << 2
"""SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY: every TCP socket, in the moment it is freed."""
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER_BYTES = 8 << 20
_CLONE_NEWNET = 0x40000000
_HEADER = struct.Struct("<IHHII")
_ANSWER_BYTES = 1 << 17
_DUMP_TIMEOUT_S = 5.0

ALL_LIVE = 0xFFF & ~(1 << 6 | 1 << 7)
"""Every state but TIME_WAIT and CLOSE: what a process may have a descriptor of."""
RESTING = 1 << 6 | 1 << 5
"""TIME_WAIT, and FIN_WAIT2, in which a closed connection waits for the peer to close."""


class SockDiag:
    """Two netlink sockets in the namespace of a process: one answers questions, one tells of destroyed sockets.

    `destroyed` is None where the kernel does not let us listen; `refused` says why.
    """

    def __init__(self, target: Target, *, destroyed: bool = True) -> None:
        self.refused: str | None = None
        self.port_range: tuple[int, int] | None = None
        self.destroyed: socket.socket | None = None
        self._queries: socket.socket | None = None
        self._wants_destroyed = destroyed
        in_namespace_of(target, self._open)
        if self._queries is None:
            raise PermissionError(errno.EPERM, "the network namespace of the process cannot be entered")

    def _open(self) -> None:
        """Open the sockets in the namespace that this thread is in, where they stay."""
        self._queries = _netlink()
        self._queries.settimeout(_DUMP_TIMEOUT_S)
        self.port_range = _port_range()
        if not self._wants_destroyed:
            self.refused = "destroyed sockets were not asked for"
            return
        listener = _netlink()
        try:
            listener.bind((0, _TCP_DESTROY_GROUPS))
        except OSError as error:
            listener.close()
            self.refused = f"the kernel does not tell of destroyed sockets ({error.strerror})"
            return
        try:
            listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        except PermissionError:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        listener.setblocking(False)
        self.destroyed = listener

    def dump(self, family: int, states: int, *, info: bool = True) -> Iterator[bytes]:
        """Yield the answer in pieces, each a row of whole messages of one family's TCP sockets.

        Raises:
            OSError: the kernel refuses, or does not answer in time.
        """
        body = struct.pack("<BBBBI48x", family, socket.IPPROTO_TCP, _INFO_BIT if info else 0, 0, states)
        yield from self._ask(body)

    def unix_inodes(self) -> set[int]:
        """Return the inodes of all unix sockets of the namespace.

        Source: https://github.com/torvalds/linux/blob/master/include/uapi/linux/unix_diag.h
        """
        body = struct.pack("<BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, 0, 0, 0)
        found = set()
        for piece in self._ask(body):
            at = 0
            while at < len(piece):
                length = _HEADER.unpack_from(piece, at)[0]
                found.add(struct.unpack_from("<I", piece, at + _HEADER.size + 4)[0])
                at += (length + 3) & ~3
        return found

    def _ask(self, body: bytes) -> Iterator[bytes]:
        """Send one question, yield the pieces of its answer without the end mark."""
        assert self._queries is not None
        self._queries.send(_HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _REQUEST_DUMP, 1, 0) + body)
        while True:
            piece = self._queries.recv(_ANSWER_BYTES)
            end = _end_of(piece)
            if end < 0:
                yield piece
            else:
                if end:
                    yield piece[:end]
                return

    def close(self) -> None:
        """Close both sockets."""
        for each in (self._queries, self.destroyed):
            if each is not None:
                each.close()


def _netlink() -> socket.socket:
    """Return a socket to the kernel's socket statistics."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)


def _end_of(piece: bytes) -> int:
    """Return where the end mark of an answer begins, -1 when it is not in this piece.

    Raises:
        OSError: the kernel answered with an error.
    """
    at = 0
    while at + _HEADER.size <= len(piece):
        length, kind = _HEADER.unpack_from(piece, at)[:2]
        if kind == _DONE:
            return at
        if kind == _ERROR:
            number = -struct.unpack_from("<i", piece, at + _HEADER.size)[0]
            raise OSError(number, os.strerror(number))
        at += (max(length, _HEADER.size) + 3) & ~3
    return -1


def in_namespace_of(target: Target, work: Callable[[], None]) -> None:
    """Do something in the network namespace of a process, in a thread that then ends.

    Raises:
        OSError: the namespace cannot be entered, or the work failed.
    """
    if shares_network(target):
        work()
        return
    failed: list[OSError] = []

    def enter() -> None:
        try:
            descriptor = os.open(f"/proc/{target.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
                    raise OSError(get_errno(), os.strerror(get_errno()))
            finally:
                os.close(descriptor)
            work()
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=enter, name="perfkit-netns")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _port_range() -> tuple[int, int] | None:
    """Return the first and last port that connections of this thread's namespace get by themselves."""
    with suppress(OSError, ValueError):
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()
        return int(first), int(last)
    return None


def dropped(pid: int, listener: socket.socket) -> int:
    """Return how many messages to a netlink socket in the namespace of a process the kernel had to drop."""
    inode = os.fstat(listener.fileno()).st_ino
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/net/netlink").read_text("ascii").splitlines()[1:]:
            words = line.split()
            if words[-1] == str(inode):
                return int(words[8])
    return 0
