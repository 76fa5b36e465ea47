"""The only place that finds out which process holds which socket, from descriptor tables in /proc."""

import os
import platform
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_PREFIX = "socket:["
_MOST_RELATIVES = 64
_MOST_DESCRIPTORS = 20_000
_ON_DESCRIPTOR = {0, 1, 19, 20, 44, 45, 46, 47}
"""read, write, readv, writev, sendto, recvfrom, sendmsg, recvmsg of x86-64.
Source: https://github.com/torvalds/linux/blob/master/arch/x86/entry/syscalls/syscall_64.tbl"""
_POLLS = {7, 271}
"""poll and ppoll of x86-64, with which Python waits on sockets that have a timeout, and libpq on all."""
_POLLFD = struct.Struct("<ihh")
_MOST_POLLED = 64


class Descriptors:
    """The sockets in the descriptor table of a process, read again only where it may have changed.

    Looking up a descriptor costs tens of microseconds, so one whose socket is still alive is not
    looked up again: the number may have been given to another socket only after that one was closed.
    """

    def __init__(self, pid: int) -> None:
        self._folder = f"/proc/{pid}/fd"
        self._inode_of: dict[str, int] = {}
        self.sockets: dict[int, int] = {}

    def refresh(self, alive: Iterable[int] = ()) -> dict[int, int]:
        """Return `{inode: descriptor}` of all sockets of the process.

        Args:
            alive: inodes of sockets that still exist; without them, all descriptors are looked up again.

        Raises:
            OSError: the process is gone, or we may not look.
        """
        alive = set(alive)
        now: dict[str, int] = {}
        for name in os.listdir(self._folder):  # noqa: PTH208 - thousands of names, many times a second
            inode = self._inode_of.get(name, 0)
            now[name] = inode if inode and inode in alive else _inode(f"{self._folder}/{name}")
        self._inode_of = now
        self.sockets = {inode: int(name) for name, inode in now.items() if inode > 0}
        return self.sockets


def _inode(path: str) -> int:
    """Return the inode of the socket that a descriptor is, 0 when it is something else."""
    with suppress(OSError):
        place = os.readlink(path)  # noqa: PTH115 - a Path object costs more than the call
        if place.startswith(_PREFIX):
            return int(place[len(_PREFIX) : -1])
    return 0


def relatives(pid: int) -> list[int]:
    """Return the processes that may have got sockets of this one by fork: parent, siblings, children, grandchildren.

    At most 64, the closest first; those that we may not read are left out.
    """
    parent_of: dict[int, int] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with suppress(OSError, ValueError):
                stat = Path(f"/proc/{name}/stat").read_text("utf-8", "replace")
                parent_of[int(name)] = int(stat.rpartition(")")[2].split()[1])
    parent = parent_of.get(pid, 0)
    found = [child for child, above in parent_of.items() if above == pid]
    found += [child for child, above in parent_of.items() if above in found]
    if parent > 1:
        found.append(parent)
        found += [child for child, above in parent_of.items() if above == parent and child != pid]
    mine = os.getpid()
    return [each for each in dict.fromkeys(found) if each not in (pid, mine)][:_MOST_RELATIVES]


def other_owners(pid: int, inodes: Iterable[int]) -> dict[int, dict[int, int]]:
    """Return `{inode: {process id: descriptor}}` of sockets that relatives of a process have a descriptor of, too."""
    wanted, found, budget = set(inodes), dict[int, dict[int, int]](), _MOST_DESCRIPTORS
    if not wanted:
        return found
    for other in relatives(pid):
        with suppress(OSError):
            names = os.listdir(f"/proc/{other}/fd")  # noqa: PTH208
            budget -= len(names)
            if budget < 0:
                break
            for name in names:
                if (inode := _inode(f"/proc/{other}/fd/{name}")) in wanted:
                    found.setdefault(inode, {})[other] = int(name)
    return found


def descriptors_in_use(pid: int) -> set[int]:
    """Return the descriptors on which threads of a process wait in a system call right now: to read, write or poll.

    Nothing of the process is stopped or changed. Empty where we may not look, and on machines whose system calls are
    not known here. Waits in epoll are not told: what is registered with it is not used by that alone.

    Source: https://man7.org/linux/man-pages/man5/proc_pid_syscall.5.html
    """
    found: set[int] = set()
    if platform.machine() != "x86_64":
        return found
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with suppress(OSError, ValueError):
                words = Path(f"/proc/{pid}/task/{thread}/syscall").read_text("ascii").split()
                if not words[0].isdigit():
                    continue  # running
                call = int(words[0])
                if call in _ON_DESCRIPTOR:
                    found.add(int(words[1], 16))
                elif call in _POLLS:
                    found |= _polled(pid, int(words[1], 16), min(int(words[2], 16), _MOST_POLLED))
    return found


def _polled(pid: int, address: int, count: int) -> set[int]:
    """Return the descriptors in an array of struct pollfd of a process."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        return {descriptor for descriptor, _, _ in _POLLFD.iter_unpack(memory.read(_POLLFD.size * count))}
