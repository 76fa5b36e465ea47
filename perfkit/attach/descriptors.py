"""The only place that says what the open descriptors of a process are, from /proc.

Source: https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html and
https://docs.kernel.org/networking/proc_net_tcp.html
"""

import os
import re
import stat
from collections import Counter
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

from perfkit.paths import clean_path
from perfkit.probe.threads import masked

_ANONYMOUS = re.compile(r"^anon_inode:\[?([^\]]*)\]?$")
_INODE = re.compile(r"^(socket|pipe):\[(\d+)\]$")
_TEMPORARY = re.compile(r"\btmp[a-z0-9_]{8}\b")
_DELETED = " (deleted)"
_STATES = ("", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT",
           "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV")  # fmt: skip
"""Source: https://github.com/torvalds/linux/blob/master/include/net/tcp_states.h"""
_LISTEN = b"0A"


class DescriptorKind(NamedTuple):
    """What descriptors of one kind have in common.

    `kind` is file, directory, device, memfd, socket, pipe, eventpoll, eventfd and the like; `name` the masked
    path, or protocol and peer of a socket; `state` that of a TCP connection, or "deleted". None: unknown.
    """

    kind: str
    name: str | None = None
    state: str | None = None


def open_descriptors(
    pid: int, proc: Path = Path("/proc"), known: dict[int, DescriptorKind] | None = None
) -> Counter[DescriptorKind]:
    """Return how many descriptors of each kind a process has open now.

    Args:
        pid: the process.
        proc: where /proc is.
        known: what its sockets are, by inode, from `sockets`; None asks the kernel, which has to go
            through the connections of the whole host for it.

    Raises:
        OSError: it is gone, or we may not look.
    """
    folder = proc / str(pid)
    found: Counter[DescriptorKind] = Counter()
    inodes: Counter[int] = Counter()
    for number in os.listdir(folder / "fd"):  # noqa: PTH208 - there may be many, thirty times a minute
        link = _link(folder / "fd" / number)
        if not link:
            continue
        if (match := _INODE.match(link)) is None:
            found[_file(link, folder / "fd" / number)] += 1
        elif match[1] == "pipe":
            found[DescriptorKind("pipe")] += 1
        else:
            inodes[int(match[2])] += 1
    if known is None:
        known = sockets(pid, proc) if inodes else {}
    for inode, count in inodes.items():
        found[known.get(inode, DescriptorKind("socket"))] += count
    return found


def _link(descriptor: Path) -> str:
    """Return what a descriptor refers to, empty when it was closed just now."""
    try:
        return os.readlink(descriptor)  # noqa: PTH115 - there may be many
    except FileNotFoundError:
        return ""


def _file(link: str, descriptor: Path) -> DescriptorKind:
    """Return what a descriptor is that is no socket and no pipe."""
    if match := _ANONYMOUS.match(link):
        return DescriptorKind(match[1] or "anonymous")
    if not link.startswith("/"):
        return DescriptorKind("namespace", link.partition(":")[0])
    state = "deleted" if link.endswith(_DELETED) else None
    path = link.removesuffix(_DELETED)
    if path.startswith("/memfd:"):
        return DescriptorKind("memfd", masked(path.removeprefix("/memfd:")))
    try:
        mode = descriptor.stat().st_mode
    except OSError:
        mode = stat.S_IFREG
    kind = "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "device"
    return DescriptorKind(kind, _masked_path(path), state)


@lru_cache(maxsize=4096)
def _masked_path(path: str) -> str:
    """Return a path that may be stored, with what numbers files replaced.

    >>> _masked_path("/srv/spool/job-17/part-0003.bin"), _masked_path("/tmp/tmpk3qx_9ab")
    ('job-#/part-#.bin', 'tmp/tmp#')
    >>> _masked_path("/proc/4242/status")
    '/proc/#/status'
    """
    if path.startswith(("/proc/", "/sys/", "/dev/")):
        return masked(path)
    return masked(_TEMPORARY.sub("tmp0", clean_path(path)[0]))


def sockets(pid: int, proc: Path = Path("/proc")) -> dict[int, DescriptorKind]:
    """Return what the sockets of a process are, by inode; those that are not connected are not listed by the kernel.

    A connection to a port that somebody listens on here is one that was accepted: its peer's
    port says nothing, and there may be a thousand of them.
    """
    folder = proc / str(pid)
    links = [_link(folder / "fd" / number) for number in os.listdir(folder / "fd")]  # noqa: PTH208
    wanted = {int(match[2]) for link in links if (match := _INODE.match(link)) and match[1] == "socket"}
    if not wanted:
        return {}
    rows = [
        (protocol, *_address(fields[1]), *_address(fields[2]), _STATES[int(fields[3], 16)], int(fields[9]))
        for protocol in ("tcp", "tcp6", "udp", "udp6")
        for fields in _lines(folder / "net" / protocol)
        if fields[3] == _LISTEN or int(fields[9]) in wanted
    ]
    listening = {port for protocol, _host, port, *_peer, state, _inode in rows if state == "LISTEN"}
    found: dict[int, DescriptorKind] = {}
    for protocol, host, port, peer, peer_port, state, inode in rows:
        if inode not in wanted:
            continue
        name = protocol.removesuffix("6")
        if name == "udp":
            name += f" to {peer}:{peer_port}" if peer_port else f" at :{port}"
            found[inode] = DescriptorKind("socket", name)
        elif state == "LISTEN":
            found[inode] = DescriptorKind("socket", f"{name} at {host}:{port}", state)
        elif port in listening:
            found[inode] = DescriptorKind("socket", f"{name} accepted at :{port}", state)
        else:
            found[inode] = DescriptorKind("socket", f"{name} to {peer}:{peer_port}", state)
    for fields in _lines(folder / "net" / "unix"):
        if int(fields[6]) in wanted:
            path = fields[7].decode("utf-8", "replace") if len(fields) > 7 else ""
            name = f"unix {masked(path.rpartition('/')[2])}".rstrip()
            found[int(fields[6])] = DescriptorKind("socket", name)
    return found


def _lines(file: Path) -> list[list[bytes]]:
    """Return the fields of each line below the heading, none where the kernel lacks the protocol."""
    try:
        return [line.split() for line in file.read_bytes().splitlines()[1:]]
    except OSError:
        return []


def _address(text: bytes) -> tuple[str, int]:
    """Return host and port of an address as the kernel writes it: words of 32 bits, in the machine's byte order.

    >>> _address(b"0100007F:1538")
    ('127.0.0.1', 5432)
    """
    host, _, port = text.decode("ascii").partition(":")
    words = b"".join(bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8))
    address = ip_address(words)
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
        return (f"[{address}]" if isinstance(address, IPv6Address) else str(address)), int(port, 16)
    return str(address), int(port, 16)
