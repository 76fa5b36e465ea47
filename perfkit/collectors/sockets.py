"""TCP sockets of any process, Python or not, from outside: states, queues, timers, births and deaths.

Nothing runs in the target. The kernel is asked for the sockets of the target's network namespace
(`sock_diag`) as often as a CPU budget allows, and tells of each destroyed socket by itself where
permitted; descriptors in /proc say which of them are the target's. Where netlink cannot be
used, /proc/PID/net/tcp is read instead, which tells no bytes and no ages.
"""

import json
import os
import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfkit.attach.errors import NoSuchProcess
from perfkit.attach.permission import denied
from perfkit.attach.sock_diag import ALL_LIVE, RESTING, SockDiag, dropped
from perfkit.attach.socket_owners import Descriptors, descriptors_in_use, other_owners
from perfkit.attach.target import Target
from perfkit.collectors import Raw, Recording
from perfkit.raw import socket_diag
from perfkit.raw.socket_frames import AT, COOKIE, DESCRIPTOR, DUMP, END, FILE, FrameWriter, pack_all

if TYPE_CHECKING:
    import pyarrow as pa

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_STORE_AGAIN_NS = 1_000_000_000
"""A socket of which only the bytes changed is stored once in this time."""
_BUSY_EVENTS = 10
"""From so many destroyed sockets between two readings on, they are taken in batches."""
_BATCH_S = 0.01
_USERS_EVERY_NS = 50_000_000
"""How often to look who waits on a connection that two processes hold, until both were seen."""
_USERS_REST = 50
"""And at most this part of one core goes to it: 1 / 50."""
_ENOUGH_USES = 40
"""From so many sightings of one of them alone on, the other does not use it: see the rule `fork_shared_socket`."""
_NEVER_NS = 1 << 63
_TELLING_TIMERS = (2, 4)
"""Keep-alive and zero-window probe; the retransmission timer runs whenever something is under way."""
_MOST_PEERS = 100_000
"""Ends of other processes' connections that are remembered."""
_KEPT_RESTING_NS = 130_000_000_000
"""Longer than any TIME_WAIT lasts (60 s)."""

_running: set["_Watch"] = set()
"""The readers at work in this process: they share one budget."""


@dataclass(frozen=True, eq=False)
class Sockets:
    """Reads the sockets of one process; see the module for how.

    Options: `max_share`, share of one core that all readers of a recorder may use together;
    `at_least_every_s` and `at_most_every_s`, distance of the readings whatever they cost;
    `counters_every_s`, distance of the readings of the kernel's counters; `owners_every_s`,
    how often to look for other processes that hold the same sockets, and for TIME_WAIT;
    `destroyed` False does not ask the kernel to tell of destroyed sockets, `netlink` False reads /proc only.
    """

    name: str = "sockets"
    group: str = "sockets"
    writes: tuple[str, ...] = ("sockets", "socket_events", "socket_counters", "settings")
    options: Mapping[str, Any] = field(
        default_factory=lambda: {
            "max_share": 0.01,
            "at_most_every_s": 0.1,
            "at_least_every_s": 10.0,
            "counters_every_s": 2.0,
            "owners_every_s": 10.0,
            "destroyed": True,
            "netlink": True,
        }
    )

    def problem(self, target: Target) -> Exception | None:
        """Return why the descriptors of the process cannot be read, or None; touches nothing."""
        try:
            os.listdir(f"/proc/{target.pid}/fd")  # noqa: PTH208 - nothing is done with the names
        except PermissionError:
            return denied(target.pid)
        except OSError:
            return NoSuchProcess(target.pid)
        return None

    @contextmanager
    def record(self, recording: Recording) -> Iterator[None]:
        """Read while the context is open, or until the target is gone."""
        watch = _Watch(recording, {**self.options, **recording.options})
        thread = threading.Thread(target=watch.run, name="perfkit-sockets", daemon=True)
        _running.add(watch)
        thread.start()
        try:
            yield
        finally:
            os.eventfd_write(watch.stop, 1)
            thread.join()
            _running.discard(watch)
            os.close(watch.stop)

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return sockets, socket_events, socket_counters, settings and the row of recording_quality."""
        from perfkit.raw.socket_tables import tables

        return tables(self.name, raw.folder, raw.pid, raw.clock.from_monotonic, raw.until_ns)


@dataclass(slots=True)
class _Seen:
    """What is remembered of a socket between readings.

    `ours` None: it had no descriptor when it was looked for, which may have come too late.
    """

    ours: bool | None
    inode: int
    key: tuple[Any, ...]
    stored_ns: int


class _Watch:
    """Reads sockets in a thread until it is told to stop or the target is gone."""

    def __init__(self, recording: Recording, options: Mapping[str, Any]) -> None:
        self._recording = recording
        self._pid = recording.target.pid
        self._options = options
        self._descriptors = Descriptors(self._pid)
        self._seen: dict[int, _Seen] = {}
        self._ports: set[int] = set()
        self._their_ports: set[int] = set()
        self._peers: set[tuple[bytes, int]] = set()
        self._their_peers: set[tuple[bytes, int]] = set()
        self._resting: dict[bytes, int] = {}
        self._names: set[bytes] = set()
        self._shared: dict[int, dict[int, int]] = {}
        self._uses: dict[int, Counter[int]] = {}
        self._users_due_ns = _NEVER_NS
        self._readings = 0
        self._born = 0
        self._looked_around = False
        self._events = 0
        self._source: SockDiag | None = None
        self.stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def run(self) -> None:
        """Record until stopped; trouble with files or the kernel ends it with a sentence."""
        about: dict[str, Any] = {"began_ns": time.monotonic_ns(), "method": "netlink"}
        try:
            if self._options["netlink"]:
                try:
                    self._source = SockDiag(self._recording.target, destroyed=self._options["destroyed"])
                except OSError as error:
                    about["note"] = f"netlink cannot be used ({error.strerror}), so /proc was read: no bytes, no ages"
            if self._source is None:
                about["method"] = "proc"
            else:
                about |= {"refused": self._source.refused, "port_range": self._source.port_range}
            self._save(about)
            with (self._recording.raw / FILE).open("wb") as file:
                self._watch(FrameWriter(file), about)
        except OSError as error:
            about["note"] = f"it broke off: {error.strerror or error}"
            self._recording.say(f"sockets are not recorded any more: {error.strerror or error}")
        finally:
            if self._source is not None:
                self._source.close()
        about["ended_ns"] = time.monotonic_ns()
        about["cost_ns"] = time.thread_time_ns()
        with suppress(OSError):
            self._save(about)

    def _save(self, about: Mapping[str, Any]) -> None:
        """Write the sidecar."""
        (self._recording.raw / "meta.json").write_text(json.dumps(about), "utf-8")

    def _watch(self, frames: FrameWriter, about: dict[str, Any]) -> None:
        """Take readings and destroyed sockets in turn, so that neither has to wait long."""
        poller = select.poll()
        poller.register(self.stop, select.POLLIN)
        listener = self._source.destroyed if self._source else None
        if listener is not None:
            poller.register(listener, select.POLLIN)
        due_ns = time.monotonic_ns()
        next_counters_ns = next_owners_ns = 0
        stopped = False
        accounted_ns = time.thread_time_ns()
        while not stopped:
            wait_ms = max(0, min(due_ns, self._users_due_ns) - time.monotonic_ns()) / 1e6
            ready = {descriptor for descriptor, _ in poller.poll(wait_ms)}
            stopped = self.stop in ready
            if listener is not None and listener.fileno() in ready and not stopped:
                if self._events > _BUSY_EVENTS:
                    time.sleep(_BATCH_S)
                self._take_destroyed(frames)
            if (now_ns := time.monotonic_ns()) >= self._users_due_ns:
                self._look_for_users(frames, now_ns)
            if now_ns < due_ns and not stopped:
                continue
            if not self._recording.target.is_alive():
                about["note"] = "the process ended"
                stopped = True
            try:
                self._read(frames, now_ns)
                if now_ns >= next_owners_ns or stopped:
                    self._look_around(frames, now_ns, last=stopped)
                    next_owners_ns = now_ns + round(self._options["owners_every_s"] * 1e9)
                if now_ns >= next_counters_ns or stopped:
                    self._count(frames, listener)
                    next_counters_ns = now_ns + round(self._options["counters_every_s"] * 1e9)
            except (FileNotFoundError, ProcessLookupError):
                about["note"] = "the process ended"
                stopped = True
            frames.flush()
            self._events = 0
            used_ns = time.thread_time_ns()
            pause_ns = (used_ns - accounted_ns) * len(_running) / self._options["max_share"]
            accounted_ns = used_ns
            shortest, longest = (self._options[name] * 1e9 for name in ("at_most_every_s", "at_least_every_s"))
            due_ns = now_ns + round(min(max(pause_ns, shortest), longest))

    def _pieces(self, states: int = ALL_LIVE) -> Iterator[bytes]:
        """Yield the sockets of the namespace as rows of messages."""
        for family in _FAMILIES:
            if self._source is not None:
                yield from self._source.dump(family, states)
                continue
            name = "tcp" if family == socket.AF_INET else "tcp6"
            with suppress(FileNotFoundError):
                text = Path(f"/proc/{self._pid}/net/{name}").read_text("ascii")
                yield b"".join(socket_diag.from_proc(text, family, states))

    def _read(self, frames: FrameWriter, at_ns: int) -> None:
        """Take one reading of the namespace and write what is new in it."""
        first = self._readings == 0
        listens = self._source is not None and self._source.destroyed is not None
        self._readings += 1
        seen, alive, changed = self._seen, set(), []
        unknown: list[tuple[int, bytes, tuple[Any, ...]]] = []
        inodes = set()
        born = 0
        for piece in self._pieces():
            for look in socket_diag.looks(piece):
                at, length, _, state, timer, port, peer_port, address, peer, cookie, queues, inode, counted = look
                if timer == socket_diag.RESTS:
                    continue
                alive.add(cookie)
                inodes.add(inode)
                known = seen.get(cookie)
                key = (state, timer, queues, inode, counted)
                if known is None or known.ours is None or (inode and known.inode != inode):
                    if known is None and not first and peer_port:
                        born += 1
                    if known is None and not listens:
                        self._names.add(_name(address, port, peer, peer_port))
                    unknown.append((cookie, piece[at : at + length], look))
                elif known.ours and known.key != key and _is_worth_storing(known, key, at_ns):
                    changed.append(piece[at : at + length])
                    known.key, known.stored_ns, known.inode = key, at_ns, inode
        if unknown:
            changed += self._classify(frames, unknown, inodes, at_ns)
        self._take_destroyed(frames)  # what the kernel told the time of is not found missing below
        gone = [cookie for cookie in seen if cookie not in alive]
        ended = [cookie for cookie in gone if seen.pop(cookie).ours is not False]
        self._born += born
        frames.write(b"dump", at_ns, DUMP.pack(time.monotonic_ns() - at_ns, len(alive), born))
        if changed:
            frames.write(b"sock", at_ns, b"".join(changed))
        if ended:
            frames.write(b"gone", at_ns, pack_all(COOKIE, [(cookie,) for cookie in ended]))

    def _classify(
        self, frames: FrameWriter, unknown: list[tuple[int, bytes, tuple[Any, ...]]], alive: set[int], at_ns: int
    ) -> list[bytes]:
        """Find out whose the sockets are; return the messages of ours."""
        ours = self._owned(frames, at_ns, alive)
        mine, theirs = [], set()
        for _cookie, _message, look in unknown:  # ports first: they tell the roles of all others
            if look[3] == socket_diag.LISTEN:
                (self._ports if look[11] in ours else self._their_ports).add(look[5])
        for cookie, message, look in unknown:
            _, _, family, state, timer, port, peer_port, _, peer, _, queues, inode, counted = look
            known = self._seen.get(cookie)
            ours_now: bool | None
            if inode in ours or (known is not None and known.ours):
                ours_now = True
            elif (known is None or not inode) and self._may_be_ours(port, peer, peer_port):
                # It was closed meanwhile, or is not accepted yet, or is another's: the next reading tells if it
                # is still there, else whose it may have been is settled when the whole recording is known.
                ours_now = None if inode else True
            else:
                ours_now = False
            self._seen[cookie] = _Seen(ours_now, inode, (state, timer, queues, inode, counted), at_ns)
            if ours_now is not False:
                mine.append(message)
            if inode in ours and port not in self._ports:
                self._peers.add((peer, peer_port))
            elif ours_now is False and inode and peer_port and port not in self._their_ports:
                if len(self._their_peers) < _MOST_PEERS:
                    self._their_peers.add((peer, peer_port))
                theirs.add((family, peer, peer_port))
        if theirs:
            frames.write(b"them", at_ns, pack_all(END, theirs))
        return mine

    def _owned(self, frames: FrameWriter, at_ns: int, alive: Iterable[int] = ()) -> dict[int, int]:
        """Return the sockets in the descriptor table by inode, and write those that are new in it."""
        before = self._descriptors.sockets
        now = self._descriptors.refresh(alive)
        if fresh := now.keys() - before.keys():
            frames.write(b"desc", at_ns, pack_all(DESCRIPTOR, [(inode, now[inode]) for inode in fresh]))
        return now

    def _take_destroyed(self, frames: FrameWriter) -> None:
        """Write the destroyed sockets that are ours or may be ours; count all."""
        listener = self._source.destroyed if self._source else None
        if listener is None:
            return
        kept = []
        at_ns = 0
        while True:
            try:
                message = listener.recv(4096)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: some were dropped, which `dropped` counts
                continue
            at_ns = time.monotonic_ns()
            self._events += 1
            [(_, _, _, _, _, port, peer_port, _, peer, cookie, _, _, _)] = socket_diag.looks(message)
            if not peer_port:
                continue  # it was never connected
            known = self._seen.pop(cookie, None)
            if known is None:
                self._born += 1
            if not (self._may_be_ours(port, peer, peer_port) if known is None else known.ours is not False):
                continue
            kept.append(AT.pack(at_ns) + message)
        if kept:
            frames.write(b"dead", at_ns, b"".join(kept))

    def _may_be_ours(self, port: int, peer: bytes, peer_port: int) -> bool:
        """Whether a socket without an owner may be of the process, by the ports and peers that it has."""
        if port in self._ports or (peer, peer_port) in self._peers:
            return True
        return port not in self._their_ports and (peer, peer_port) not in self._their_peers

    def _look_around(self, frames: FrameWriter, at_ns: int, *, last: bool) -> None:
        """Write which of our sockets other processes hold too, and which connections rest in TIME_WAIT."""
        if not last:
            mine = self._owned(frames, at_ns)
            for each in self._seen.values():
                if each.ours is False and each.inode in mine:  # it was handed over
                    each.inode = -1
            held = [each.inode for each in self._seen.values() if each.ours and each.inode]
            self._shared = other_owners(self._pid, held)
            self._users_due_ns = at_ns if self._shared else _NEVER_NS
            rows = [[inode, list(pids)] for inode, pids in self._shared.items()]
            frames.write(b"more", at_ns, json.dumps({"owners": rows}).encode())
        self._look_at_the_resting(frames)

    def _look_for_users(self, frames: FrameWriter, at_ns: int) -> None:
        """Write who waits right now on the sockets that others hold too, this process or they, until that is known.

        Most waits are short, so it looks often, and not in step with what the processes do.
        """
        mine = self._descriptors.sockets
        holders = {
            inode: {self._pid: mine.get(inode, -1)} | owners
            for inode, owners in self._shared.items()
            if len(uses := self._uses.setdefault(inode, Counter())) < 2 and uses.total() < _ENOUGH_USES
        }
        busy = {pid: descriptors_in_use(pid) for pid in sorted({pid for each in holders.values() for pid in each})}
        rows = [
            [inode, pid]
            for inode, owners in holders.items()
            for pid, descriptor in owners.items()
            if descriptor in busy[pid]
        ]
        if rows:
            frames.write(b"more", at_ns, json.dumps({"users": rows}).encode())
        for inode, pid in rows:
            self._uses[inode][pid] += 1
        pause_ns = max(_USERS_EVERY_NS, (time.monotonic_ns() - at_ns) * _USERS_REST)
        self._users_due_ns = at_ns + round(pause_ns * random.uniform(0.5, 1.5)) if holders else _NEVER_NS  # noqa: S311

    def _look_at_the_resting(self, frames: FrameWriter) -> None:
        """Write which connections rest in TIME_WAIT, each once.

        Where the kernel does not tell of destroyed sockets, they count as seen: connections shorter than the
        distance of two readings leave nothing else.
        """
        listens = self._source is not None and self._source.destroyed is not None
        fresh = []
        at_ns = time.monotonic_ns()  # not that of the reading: the kernel says how long they have left from now
        for piece in self._pieces(RESTING):
            for at, _, family, _, timer, port, peer_port, address, peer, *_ in socket_diag.looks(piece):
                if timer != socket_diag.RESTS:
                    continue
                ends = (address, port), (peer, peer_port)
                concerns_us = port in self._ports or peer_port in self._ports or self._peers.intersection(ends)
                if listens and not concerns_us:
                    continue
                name = _name(address, port, peer, peer_port)
                if name not in self._resting:
                    if concerns_us:
                        left_ms = socket_diag.expires_ms(piece, at)
                        fresh.append((family, port, peer_port, address, peer, left_ms))
                    self._born += not listens and self._looked_around and name not in self._names
                self._resting[name] = at_ns
        if fresh:
            frames.write(b"rest", at_ns, pack_all(socket_diag.REST, fresh))
        self._looked_around = True
        if len(self._names) > _MOST_PEERS:
            self._names.clear()
        self._resting = {name: at for name, at in self._resting.items() if at_ns - at < _KEPT_RESTING_NS}

    def _count(self, frames: FrameWriter, listener: socket.socket | None) -> None:
        """Write the kernel's counters of the namespace, and how many sockets of which kind the process has."""
        row: dict[str, Any] = {"born": self._born, "counters": _counters(self._pid)}
        if listener is not None:
            row["dropped"] = dropped(self._pid, listener)
        mine = self._descriptors.sockets
        row["sockets"] = len(mine)
        row["tcp"] = len({each.inode for each in self._seen.values() if each.ours and each.inode})
        row["unix"] = len(mine.keys() & self._unix_inodes())
        frames.write(b"more", time.monotonic_ns(), json.dumps(row).encode())

    def _unix_inodes(self) -> set[int]:
        """Return the inodes of the unix sockets of the namespace; none where they cannot be read."""
        with suppress(OSError, ValueError, IndexError):
            if self._source is not None:
                return self._source.unix_inodes()
            lines = Path(f"/proc/{self._pid}/net/unix").read_text("utf-8", "replace").splitlines()[1:]
            return {int(line.split()[6]) for line in lines}
        return set()


def _is_worth_storing(known: _Seen, key: tuple[Any, ...], at_ns: int) -> bool:
    """Whether a change is more than a few bytes more: a state, a timer, a queue that fills or empties, an owner."""
    state, timer, (unread, _), inode, _ = key
    before_state, before_timer, (before_unread, _), before_inode, _ = known.key
    return (
        state != before_state
        or inode != before_inode
        or (timer in _TELLING_TIMERS) != (before_timer in _TELLING_TIMERS)
        or bool(unread) != bool(before_unread)
        or at_ns - known.stored_ns >= _STORE_AGAIN_NS
    )


def _name(address: bytes, port: int, peer: bytes, peer_port: int) -> bytes:
    """Return both ends of a connection as one key."""
    return address + peer + struct.pack("<HH", port, peer_port)


_WANTED = {
    "Tcp": ("ActiveOpens", "PassiveOpens", "AttemptFails", "EstabResets", "CurrEstab", "RetransSegs"),
    "TcpExt": ("ListenOverflows", "ListenDrops"),
}


def _counters(pid: int) -> dict[str, int]:
    """Return the counters of the process's network namespace that matter here.

    Source: https://docs.kernel.org/networking/snmp_counter.html
    """
    found: dict[str, int] = {}
    for file in ("snmp", "netstat"):
        lines = Path(f"/proc/{pid}/net/{file}").read_text("ascii").splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=False):
            protocol, _, words = names.partition(":")
            if wanted := _WANTED.get(protocol):
                row = dict(zip(words.split(), values.partition(":")[2].split(), strict=False))
                found |= {name: int(row[name]) for name in wanted if name in row}
    for line in Path(f"/proc/{pid}/net/sockstat").read_text("ascii").splitlines():
        cells = line.split()
        if cells[:1] == ["TCP:"]:
            found |= {"TimeWait": int(cells[cells.index("tw") + 1]), "Orphans": int(cells[cells.index("orphan") + 1])}
    return found


COLLECTOR = Sockets()
