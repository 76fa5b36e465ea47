"""The file of the collector `sockets` -> the tables sockets, socket_events and socket_counters.

A socket that no reading showed and of which only the death was told has no owner in the kernel's
message. It is taken for the process's when it was accepted on a port that the process listens on, or
connected to a peer that the process is connected to and, as far as was seen, nobody else.
"""

import json
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfkit.raw.socket_diag import (
    CLOSE_WAIT,
    CLOSING,
    FIN_WAIT1,
    FIN_WAIT2,
    LAST_ACK,
    LISTEN,
    REST,
    STATES,
    TIMERS,
    Message,
    endpoint,
    messages,
    parse,
    remains,
    swapped,
)
from perfkit.raw.socket_frames import AT, COOKIE, DESCRIPTOR, END, FILE, frames

if TYPE_CHECKING:
    import pyarrow as pa

_PEER_FIRST = (CLOSE_WAIT, LAST_ACK)
_LOCAL_FIRST = (FIN_WAIT1, FIN_WAIT2, CLOSING)
_TIME_WAIT_NS = 60_000_000_000
"""TCP_TIMEWAIT_LEN of Linux. Source: include/net/tcp.h"""
_MS, _US = 1_000_000, 1_000


@dataclass(slots=True)
class _Life:
    """What is known of one socket."""

    message: Message
    owner: str
    born_ns: int
    born_earliest_ns: int
    born: str
    born_by: str = "dump"
    died_ns: int | None = None
    died_earliest_ns: int = 0
    died_by: str = ""
    closer: str | None = None
    data_at_ns: int | None = None


@dataclass
class _Decoder:
    """Goes through the frames once, then settles what only the whole recording tells."""

    pid: int
    time: Callable[[int], int]
    until_ns: int
    told: bool = True
    rows: list[dict[str, Any]] = field(default_factory=list)
    counters: list[dict[str, Any]] = field(default_factory=list)
    shared: list[dict[str, Any]] = field(default_factory=list)
    lives: dict[int, _Life] = field(default_factory=dict)
    maybe: list[tuple[int, Message]] = field(default_factory=list)
    resting: list[tuple[int, str, str]] = field(default_factory=list)
    theirs: set[tuple[int, bytes, int]] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)
    listeners: set[int] = field(default_factory=set)
    descriptors: dict[int, int] = field(default_factory=dict)
    dumps: list[int] = field(default_factory=list)
    destroyed: int = 0
    dropped: int = 0
    born: int = 0

    def read(self, file: Path) -> None:
        """Take in the file, until the end of the recording."""
        for word, monotonic_ns, content in frames(file):
            at_ns = self.time(monotonic_ns)
            if at_ns > self.until_ns:
                break
            match word:
                case b"dump":
                    self.dumps.append(at_ns)
                case b"sock":
                    self._states(at_ns, [parse(each) for each in messages(content)])
                case b"gone":
                    self._gone(at_ns, [cookie for (cookie,) in COOKIE.iter_unpack(content)])
                case b"desc":
                    self.descriptors |= dict(DESCRIPTOR.iter_unpack(content))
                case b"dead":
                    self._dead(content)
                case b"rest":
                    self._rest(at_ns, content)
                case b"them":
                    self.theirs.update(END.iter_unpack(content))
                case b"more":
                    self._more(at_ns, json.loads(content))

    def role(self, message: Message) -> str:
        """Return what the process is to the other side."""
        if message.cookie in self.listeners:
            return "listening"
        return "downstream" if message.local_port in self.ports else "upstream"

    def _before(self, at_ns: int) -> int:
        """Return the time of the reading before the one at `at_ns`; its own time for the first."""
        return self.dumps[-2] if len(self.dumps) > 1 and self.dumps[-1] == at_ns else self.dumps[-1]

    def _states(self, at_ns: int, found: list[Message]) -> None:
        """Take in messages of a reading."""
        listening = [each for each in found if each.state == LISTEN]
        self.ports |= {each.local_port for each in listening}
        self.listeners |= {each.cookie for each in listening}
        for each in found:
            life = self.lives.get(each.cookie)
            if life is None:
                first = len(self.dumps) <= 1
                earliest = at_ns if first else self._before(at_ns)
                owner = "port" if each.local_port in self.ports else "peer"
                life = _Life(each, owner, at_ns, earliest, "found" if first else "birth")
                self.lives[each.cookie] = life
            elif life.died_ns is not None and life.died_by == "dump" and (each.inode or not life.message.inode):
                life.died_ns = None  # a reading had missed it
            self._closer(life, each.state)
            if life.died_ns is not None:
                continue  # closed by the process, but not ended yet
            had_inode = life.message.inode
            life.data_at_ns = _last_data_ns(each, at_ns) if each.info else life.data_at_ns
            life.message = each
            if each.inode in self.descriptors:
                life.owner = "descriptor"
            if not each.inode and (had_inode or life.owner == "peer"):
                self._die(life, at_ns, self._before(at_ns), "dump")  # the process let go of it
            self.rows.append(self._row(at_ns, each))

    def _closer(self, life: _Life, state: int) -> None:
        """Note who closed first, where a state tells it."""
        if life.closer is None and state in _PEER_FIRST:
            life.closer = "peer"
        elif life.closer is None and state in _LOCAL_FIRST:
            life.closer = "local"

    def _die(self, life: _Life, at_ns: int, earliest_ns: int, seen_by: str) -> None:
        """Note a death."""
        life.died_ns, life.died_earliest_ns, life.died_by = at_ns, min(earliest_ns, at_ns), seen_by

    def _gone(self, at_ns: int, cookies: list[int]) -> None:
        """Note the deaths of sockets that a reading did not have any more."""
        for cookie in cookies:
            life = self.lives.get(cookie)
            if life is not None and life.died_ns is None:
                self._die(life, at_ns, self._before(at_ns), "dump")

    def _dead(self, content: bytes) -> None:
        """Take in messages of destroyed sockets."""
        for at_ns, each in self._timed(content):
            if at_ns > self.until_ns:
                return
            self.destroyed += 1
            life = self.lives.get(each.cookie)
            if life is None:
                self.maybe.append((at_ns, each))
                continue
            if each.info is not None:
                life.message, life.data_at_ns = each, _last_data_ns(each, at_ns)
            if life.died_ns is None or life.died_earliest_ns <= at_ns <= life.died_ns:
                self._die(life, at_ns, at_ns, "destroy")

    def _timed(self, content: bytes) -> Iterator[tuple[int, Message]]:
        """Yield `(time, message)` of a frame of destroyed sockets."""
        at = 0
        while at + AT.size < len(content):
            [monotonic_ns] = AT.unpack_from(content, at)
            [message] = [*messages(content[at + AT.size : at + AT.size + _length(content, at + AT.size)])]
            yield self.time(monotonic_ns), parse(message)
            at += AT.size + len(message)

    def _rest(self, at_ns: int, content: bytes) -> None:
        """Take in connections in TIME_WAIT."""
        for family, port, peer_port, source, destination, left_ms in REST.iter_unpack(content):
            began_ns = at_ns - max(0, _TIME_WAIT_NS - left_ms * _MS)
            ends = endpoint(family, source, swapped(port)), endpoint(family, destination, swapped(peer_port))
            self.resting.append((began_ns, *ends))

    def _more(self, at_ns: int, row: dict[str, Any]) -> None:
        """Take in counters, or the other processes that hold our sockets."""
        cookie_of = {life.message.inode: cookie for cookie, life in self.lives.items() if life.died_ns is None}
        for inode, pids in row.get("owners", ()):
            if inode in cookie_of:
                self.shared += [
                    {"at_ns": at_ns, "cookie": cookie_of[inode], "other_pid": pid, "event": "shared"} for pid in pids
                ]
        for inode, pid in row.get("users", ()):
            if inode in cookie_of:
                self.shared.append({"at_ns": at_ns, "cookie": cookie_of[inode], "other_pid": pid, "event": "used"})
        if "counters" not in row:
            return
        counted = row["counters"]
        self.dropped, self.born = row.get("dropped", 0), row["born"]
        self.counters.append(
            {
                "pid": self.pid,
                "at_ns": at_ns,
                "active_opens": counted.get("ActiveOpens", 0),
                "passive_opens": counted.get("PassiveOpens", 0),
                "seen_born": row["born"],
                "attempt_fails": counted.get("AttemptFails"),
                "resets": counted.get("EstabResets"),
                "established": counted.get("CurrEstab"),
                "time_wait": counted.get("TimeWait"),
                "orphans": counted.get("Orphans"),
                "retransmits": counted.get("RetransSegs"),
                "listen_overflows": counted.get("ListenOverflows"),
                "tcp_sockets": row["tcp"],
                "unix_sockets": row["unix"],
                "other_sockets": max(0, row["sockets"] - row["tcp"] - row["unix"]),
            }
        )

    def _row(self, at_ns: int, each: Message) -> dict[str, Any]:
        """Return the row of the table sockets; its role is settled at the end."""
        info = each.info if each.state != LISTEN else None
        row: dict[str, Any] = {
            "pid": self.pid,
            "at_ns": at_ns,
            "cookie": each.cookie,
            "local": each.local,
            "peer": each.peer,
            "role": each,
            "state": STATES.get(each.state, str(each.state)),
            "recv_q_bytes": each.recv_q_bytes,
            "send_q_bytes": each.send_q_bytes,
            "timer": TIMERS.get(each.timer),
            "timer_ns": each.expires_ms * _MS if each.timer else None,
            "inode": each.inode,
            "descriptor": self.descriptors.get(each.inode),
        }
        if info is not None:
            row |= {
                "last_sent_ns": info.last_sent_ms * _MS,
                "last_received_ns": info.last_received_ms * _MS,
                "rtt_ns": info.rtt_us * _US,
                "unacked": info.unacked,
            } | _totals(info)
        return row

    def settle(self) -> None:
        """Decide what only the whole recording tells: roles, owners of sockets seen only dead, closers."""
        known = [life for life in self.lives.values() if life.owner == "descriptor"]
        ours = {life.message.peer for life in known if self.role(life.message) == "upstream"}
        ours -= {endpoint(family, address, swapped(port)) for family, address, port in self.theirs}
        self.lives = {
            cookie: life for cookie, life in self.lives.items() if life.owner != "peer" or life.message.peer in ours
        }
        self.rows = [row for row in self.rows if row["cookie"] in self.lives]
        for at_ns, each in self.maybe:
            owner = "port" if each.local_port in self.ports else "peer"
            if owner == "peer" and each.peer not in ours:
                continue
            earlier = [at for at in self.dumps if at < at_ns][-1:]  # it was in no reading, so it came after the last
            life = _Life(each, owner, at_ns, earlier[0] if earlier else at_ns, "birth", "destroy")
            life.data_at_ns = _last_data_ns(each, at_ns)
            self._die(life, at_ns, at_ns, "destroy")
            self.lives[each.cookie] = life
        if not self.told:
            self._add_resting(ours)
        self._closers()

    def _add_resting(self, ours: set[str]) -> None:
        """Add connections that no reading showed: without the kernel's word, what rests is their only trace."""
        seen = {(life.message.local, life.message.peer) for life in self.lives.values()}
        for died_ns, *ends in self.resting:
            for (local, peer), closer in ((ends, "local"), (ends[::-1], "peer")):
                each = remains(local, peer)
                earlier = self.dumps[: bisect_left(self.dumps, died_ns)][-1:]
                if (local, peer) in seen or not earlier:
                    continue
                if each.local_port not in self.ports and peer not in ours:
                    continue
                owner = "port" if each.local_port in self.ports else "peer"
                life = _Life(each, owner, died_ns, earlier[0], "birth", "time_wait", closer=closer)
                self._die(life, died_ns, died_ns, "time_wait")
                self.lives[each.cookie] = life

    def _closers(self) -> None:
        """Who rests in TIME_WAIT has closed first; on loopback the other side may be seen resting."""
        rested = {(local, peer): at_ns for at_ns, local, peer in self.resting}
        for life in self.lives.values():
            if life.died_ns is None or life.closer is not None:
                continue
            ends = life.message.local, life.message.peer
            if ends in rested:
                life.closer = "local"
            elif ends[::-1] in rested:
                life.closer = "peer"

    def events(self) -> list[dict[str, Any]]:
        """Return the rows of socket_events."""
        rows = []
        for cookie, life in self.lives.items():
            shared = {
                "pid": self.pid,
                "cookie": cookie,
                "local": life.message.local,
                "peer": life.message.peer,
                "role": self.role(life.message),
                "owner": life.owner,
            }
            times = {"at_ns": life.born_ns, "earliest_ns": life.born_earliest_ns}
            rows.append(shared | times | {"event": life.born, "seen_by": life.born_by})
            if life.died_ns is not None:
                rows.append(shared | self._death(life, life.died_ns))
        for row in self.shared:
            life = self.lives[row["cookie"]]
            rows.append(
                {
                    "pid": self.pid,
                    "earliest_ns": row["at_ns"],
                    "local": life.message.local,
                    "peer": life.message.peer,
                    "role": self.role(life.message),
                    "seen_by": "descriptors",
                    "owner": "descriptor",
                }
                | row
            )
        return rows

    def _death(self, life: _Life, died_ns: int) -> dict[str, Any]:
        """Return the cells of a death."""
        row: dict[str, Any] = {
            "event": "death",
            "at_ns": died_ns,
            "earliest_ns": life.died_earliest_ns,
            "seen_by": life.died_by,
            "closer": life.closer,
        }
        if life.message.info is not None:
            idle_ns = None if life.data_at_ns is None else max(0, died_ns - life.data_at_ns)
            row |= {"idle_ns": idle_ns} | _totals(life.message.info)
        return row


def tables(collector: str, folder: Path, pid: int, time: Callable[[int], int], until_ns: int) -> dict[str, "pa.Table"]:
    """Return the tables of one recorded process, with the row of recording_quality.

    Args:
        collector: its name, for recording_quality.
        folder: where it wrote.
        pid: the process.
        time: recording time of a reading of the monotonic clock.
        until_ns: end of the recording.
    """
    from perfkit.tables import RECORDING_QUALITY, SETTINGS, SOCKET_COUNTERS, SOCKET_EVENTS, SOCKETS

    try:
        about = json.loads((folder / "meta.json").read_text("utf-8"))
    except (OSError, ValueError):
        about = {}
    told = not about.get("refused") and about.get("method") != "proc"
    decoder = _Decoder(pid, time, until_ns, told)
    decoder.read(folder / FILE)
    decoder.settle()
    rows = [row | {"role": decoder.role(row["role"])} for row in decoder.rows]
    began_ns = time(about["began_ns"]) if "began_ns" in about else 0
    ended_ns = time(about["ended_ns"]) if "ended_ns" in about else max([began_ns, *decoder.dumps[-1:]])
    quality = {
        "collector": collector,
        "pid": pid,
        "from_ns": began_ns,
        "until_ns": min(ended_ns, until_ns),
        "taken": len(decoder.dumps) + decoder.destroyed,
        "lost": decoder.dropped,
        "note": " ".join(_notes(about, decoder)) or None,
    }
    return {
        "sockets": SOCKETS.from_rows(rows),
        "socket_events": SOCKET_EVENTS.from_rows(decoder.events()),
        "socket_counters": SOCKET_COUNTERS.from_rows(decoder.counters),
        "settings": SETTINGS.from_rows(_settings(about, pid, began_ns)),
        "recording_quality": RECORDING_QUALITY.from_rows([quality]),
    }


def _settings(about: dict[str, Any], pid: int, at_ns: int) -> Iterator[dict[str, Any]]:
    """Yield the settings of the namespace that bound its connections."""
    if ports := about.get("port_range"):
        yield {"pid": pid, "at_ns": at_ns, "name": "net.ipv4.ip_local_port_range", "value": json.dumps(ports)}


def _notes(about: dict[str, Any], decoder: _Decoder) -> Iterator[str]:
    """Yield what a reader of the numbers should know."""
    if note := about.get("note"):
        yield f"{note[0].upper()}{note[1:]}."
    if refused := about.get("refused"):
        yield f"{refused[0].upper()}{refused[1:]}: connections shorter than {_period_s(decoder):.2g} s may be missed."
    if len(decoder.counters) > 1:
        first, last = decoder.counters[0], decoder.counters[-1]
        opened = sum(last[name] - first[name] for name in ("active_opens", "passive_opens"))
        seen = last["seen_born"] - first["seen_born"]
        if opened > 0:
            yield (
                f"Of {opened:,} connections that the kernel counted in the network namespace, all its processes "
                f"together, {min(seen, opened):,} were seen ({min(seen / opened, 1):.1%})."
            )
    if decoder.dropped:
        yield f"{decoder.dropped:,} messages of destroyed sockets were dropped by the kernel."


def _period_s(decoder: _Decoder) -> float:
    """Return the usual distance of two readings in seconds."""
    steps = sorted(after - before for before, after in zip(decoder.dumps, decoder.dumps[1:], strict=False))
    return steps[len(steps) // 2] / 1e9 if steps else 0.0


def _last_data_ns(message: Message, at_ns: int) -> int | None:
    """Return when data was last sent or received."""
    if message.info is None:
        return None
    return at_ns - min(message.info.last_sent_ms, message.info.last_received_ms) * _MS


def _totals(info: Any) -> dict[str, int]:
    """Return what was counted over a connection's whole life."""
    names = ("sent_bytes", "received_bytes", "segments_out", "segments_in", "retransmits")
    return {name: getattr(info, name) for name in names}


def _length(content: bytes, at: int) -> int:
    """Return the length of the netlink message at `at`."""
    return int.from_bytes(content[at : at + 4], "little")
