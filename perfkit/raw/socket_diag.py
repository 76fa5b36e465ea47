"""The only place that knows the layout of the kernel's socket messages (`sock_diag`) and of /proc/net/tcp.

Everything is `struct` over bytes, so that it works on a live answer and on a stored one. Lines of
/proc/net/tcp are turned into messages of the same layout, without what that file does not tell.

Source: https://github.com/torvalds/linux/blob/master/include/uapi/linux/inet_diag.h and tcp.h
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = range(
    1, 12
)
STATES = {
    ESTABLISHED: "established",
    SYN_SENT: "syn_sent",
    SYN_RECV: "syn_recv",
    FIN_WAIT1: "fin_wait1",
    FIN_WAIT2: "fin_wait2",
    TIME_WAIT: "time_wait",
    CLOSE: "closed",
    CLOSE_WAIT: "close_wait",
    LAST_ACK: "last_ack",
    LISTEN: "listening",
    CLOSING: "closing",
}
TIMERS = {0: None, 1: "retransmit", 2: "keepalive", 3: "time_wait", 4: "zero_window_probe"}
RESTS = 3
"""This timer belongs to what is left of a connection (TIME_WAIT, FIN_WAIT2): no socket, and nobody's any more."""
INFO = 2
"""INET_DIAG_INFO: the attribute that holds `struct tcp_info`."""

# The netlink header, then struct inet_diag_msg: family, state, timer, retransmits, source port and
# destination port (big-endian), both addresses, interface, cookie, expires, queues, uid, inode.
_HEADER = struct.Struct("<IHHII")
_MESSAGE = struct.Struct("<4BHH16s16sIQIIIII")
# struct tcp_info: unacked, last_data_sent, last_data_recv (ms), rtt (us), total_retrans,
# bytes_received, data_segs_in, data_segs_out; bytes_sent since Linux 4.19.
_TCP_INFO = struct.Struct("<24xI16xI4xI12xI28xI24xQ16xII")
_BYTES_ACKED = struct.Struct("<120xQ")
_BYTES_SENT = struct.Struct("<200xQ")
_ATTRIBUTE = struct.Struct("<HH")
# The same again for a quick look: length, family, state, timer, ports, addresses, cookie, queues, inode.
_LOOK = struct.Struct("<I12x3BxHH16s16s4xQ4xII4xI")
_COUNTED = slice(120, 136)
"""Where tcp_info counts the bytes of both directions."""
_AFTER = _HEADER.size + _MESSAGE.size
# One line of a dump of TIME_WAIT: family, ports, addresses, milliseconds left.
REST = struct.Struct("<BxHH16s16sI")


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """What the kernel counts for one connection; times in milliseconds before the reading."""

    unacked: int
    last_sent_ms: int
    last_received_ms: int
    rtt_us: int
    retransmits: int
    received_bytes: int
    segments_in: int
    segments_out: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class Message:
    """One socket, as the kernel described it."""

    family: int
    state: int
    timer: int
    local: str
    peer: str
    local_port: int
    cookie: int
    expires_ms: int
    recv_q_bytes: int
    send_q_bytes: int
    uid: int
    inode: int
    info: TcpInfo | None


def messages(data: bytes) -> Iterator[bytes]:
    """Yield the netlink messages of a stored answer, each with its header; a torn one at the end is left out."""
    at = 0
    while at + _HEADER.size <= len(data):
        length = _HEADER.unpack_from(data, at)[0]
        if length < _HEADER.size or at + length > len(data):
            return
        yield data[at : at + length]
        at += (length + 3) & ~3


def looks(piece: bytes) -> Iterator[tuple[Any, ...]]:
    """Yield what a reading needs of each message of a live answer, and no more: this runs for all of the namespace.

    Yields:
        `(at, length, family, state, timer, port, peer_port, address, peer_address, cookie, queues, inode, counted)`;
        ports and addresses as in the message, `counted` equal as long as no data is sent or received.
    """
    at, end = 0, len(piece)
    while at < end:
        length, family, state, timer, port, peer_port, address, peer, cookie, rqueue, wqueue, inode = _LOOK.unpack_from(
            piece, at
        )
        where = info_offset(piece, at, length)
        counted = piece[where + _COUNTED.start : where + _COUNTED.stop] if where else b""
        yield at, length, family, state, timer, port, peer_port, address, peer, cookie, (rqueue, wqueue), inode, counted
        at += (length + 3) & ~3


def expires_ms(piece: bytes, at: int) -> int:
    """Return the milliseconds until the timer of the message at `at` fires."""
    return int.from_bytes(piece[at + 68 : at + 72], "little")


def parse(message: bytes) -> Message:
    """Return one message in fields.

    Raises:
        struct.error: it is shorter than the kernel makes them.
    """
    (family, state, timer, _retries, sport, dport, source, destination, _interface, cookie, expires, rqueue, wqueue,
     uid, inode) = _MESSAGE.unpack_from(message, _HEADER.size)  # fmt: skip
    where = info_offset(message, 0, len(message))
    info = None
    if where:
        unacked, sent, received, rtt, retransmits, received_bytes, segments_in, segments_out = _TCP_INFO.unpack_from(
            message, where
        )
        # bytes_acked counts the SYN and the FIN too, so it serves only kernels without bytes_sent.
        long = len(message) >= where + _BYTES_SENT.size
        [sent_bytes] = (_BYTES_SENT if long else _BYTES_ACKED).unpack_from(message, where)
        info = TcpInfo(unacked, sent, received, rtt, retransmits, received_bytes, segments_in, segments_out, sent_bytes)
    local_port, peer_port = swapped(sport), swapped(dport)
    return Message(
        family,
        state,
        timer,
        endpoint(family, source, local_port),
        endpoint(family, destination, peer_port),
        local_port,
        cookie,
        expires,
        rqueue,
        wqueue,
        uid,
        inode,
        info,
    )


def remains(local: str, peer: str) -> Message:
    """Return a message for a connection of which only its two ends are known; the cookie is made of them."""
    cookie = _cookie_of(f"{local} {peer}".encode())
    return Message(0, TIME_WAIT, RESTS, local, peer, int(local.rpartition(":")[2]), cookie, 0, 0, 0, 0, 0, None)


def info_offset(data: bytes | memoryview, at: int, length: int) -> int:
    """Return where `struct tcp_info` lies in the message at `at`, 0 when it has none."""
    place, end = at + _AFTER, at + length
    while place + _ATTRIBUTE.size <= end:
        size, kind = _ATTRIBUTE.unpack_from(data, place)
        if kind == INFO and size >= _ATTRIBUTE.size + _TCP_INFO.size and place + size <= end:
            return place + _ATTRIBUTE.size
        place += max((size + 3) & ~3, _ATTRIBUTE.size)
    return 0


def endpoint(family: int, address: bytes, port: int) -> str:
    """Return an address with its port; IPv4 in IPv6 is written as IPv4, because it is the same connection.

    >>> endpoint(socket.AF_INET, bytes([127, 0, 0, 1]) + bytes(12), 80)
    '127.0.0.1:80'
    >>> endpoint(socket.AF_INET6, bytes(15) + bytes([1]), 80)
    '[::1]:80'
    """
    if family == socket.AF_INET:
        return f"{socket.inet_ntop(socket.AF_INET, address[:4])}:{port}"
    if address[:12] == bytes(10) + b"\xff\xff":
        return f"{socket.inet_ntop(socket.AF_INET, address[12:16])}:{port}"
    return f"[{socket.inet_ntop(socket.AF_INET6, address)}]:{port}"


def swapped(stored: int) -> int:
    """Return a port that was read as little-endian although it is big-endian, and the other way round."""
    return (stored & 255) << 8 | stored >> 8


def from_proc(text: str, family: int, states: int = 0xFFF) -> Iterator[bytes]:
    """Yield the sockets of /proc/PID/net/tcp or tcp6 in some states (bits) as messages; the inode serves as cookie.

    A socket without an inode (TIME_WAIT, or not accepted yet) gets a cookie made of its ends.

    Source: https://docs.kernel.org/networking/proc_net_tcp.html
    """
    for line in text.splitlines()[1:]:
        words = line.split(maxsplit=10)
        if len(words) < 10 or not states >> int(words[3], 16) & 1:
            continue
        (source, sport), (destination, dport) = (_proc_end(word) for word in words[1:3])
        wqueue, rqueue = (int(part, 16) for part in words[4].split(":"))
        timer, left = (int(part, 16) for part in words[5].split(":"))
        inode = int(words[9])
        cookie = inode or _cookie_of(source + destination, sport, dport)
        body = _MESSAGE.pack(
            family, int(words[3], 16), timer, 0, swapped(sport), swapped(dport), source, destination, 0, cookie,
            left * 10, rqueue, wqueue, int(words[7]), inode,
        )  # fmt: skip
        yield _HEADER.pack(_AFTER, 20, 0, 0, 0) + body


def _cookie_of(addresses: bytes, *ports: int) -> int:
    """Return a number for both ends that no inode has."""
    digest = blake2b(addresses + repr(ports).encode(), digest_size=7).digest()
    return 1 << 62 | int.from_bytes(digest, "little")


def _proc_end(word: str) -> tuple[bytes, int]:
    """Return `(16 bytes of address, port)` of a word like 0100007F:1F90: 32-bit words in the host's order."""
    address, port = word.split(":")
    words = bytes.fromhex(address)
    ordered = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    return ordered.ljust(16, b"\0"), int(port, 16)
