"""Recordings of sockets in numbers: connections with a life each, from which the tables are made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from perfkit.profile import Profile
from tests.builders import PID, SECOND_NS, make_profile

UPSTREAM = "10.0.0.7:5432"
HERE = "10.0.0.2"


@dataclass
class Sockets:
    """The sockets of one process over `seconds`; every method adds what one kind of connection does."""

    seconds: float = 60.0
    states: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    cookies: int = 0

    def connection(
        self,
        *,
        born_s: float | None = None,
        died_s: float | None = None,
        peer: str = UPSTREAM,
        role: str = "upstream",
        exchanges: int = 1,
        closer: str | None = "local",
        idle_s: float = 0.0,
        states: tuple[tuple[float, str], ...] | None = None,
        **row: Any,
    ) -> int:
        """Add a connection; `states` are `(from, state)`, `row` holds cells of all its rows; returns its cookie."""
        self.cookies += 1
        local = f"{HERE}:{40_000 + self.cookies}" if role == "upstream" else f"{HERE}:8080"
        ends = {"cookie": self.cookies, "local": local, "peer": peer, "role": role}
        born = 0.0 if born_s is None else born_s
        total = {"sent_bytes": 100 * exchanges, "received_bytes": 900 * exchanges}
        total |= {"segments_out": exchanges, "segments_in": exchanges, "retransmits": 0}
        for at_s, state in states or ((born, "established"),):
            self.row(at_s, ends | {"state": state}, total | row if at_s > born or born_s is None else row)
        if born_s is None and states is None:  # used while it was recorded
            self.row(self.seconds - 1, ends | {"state": "established"}, {k: 2 * v for k, v in total.items()} | row)
        seen = {"seen_by": "dump", "owner": "descriptor"}
        event = "found" if born_s is None else "birth"
        self.events.append(ends | seen | self._at(born) | {"event": event})
        if died_s is not None:
            died = {"event": "death", "closer": closer, "idle_ns": int(idle_s * SECOND_NS)} | total
            self.events.append(ends | seen | {"seen_by": "destroy"} | self._at(died_s) | died)
        return self.cookies

    def row(self, at_s: float, *cells: dict[str, Any]) -> None:
        """Add one reading of a socket."""
        row: dict[str, Any] = {
            "at_ns": int(at_s * SECOND_NS), "recv_q_bytes": 0, "send_q_bytes": 0, "inode": 7_000 + self.cookies,
            "descriptor": 5, "last_sent_ns": 1_000_000, "last_received_ns": 500_000, "sent_bytes": 0,
            "received_bytes": 0, "segments_out": 0, "segments_in": 0,
        }  # fmt: skip
        for each in cells:
            row |= each
        self.states.append(row)

    def shared(self, cookie: int, at_s: float, other_pid: int) -> None:
        """Add that another process was seen to hold a socket."""
        self._seen(cookie, at_s, other_pid, "shared")

    def used(self, cookie: int, at_s: float, by_pid: int) -> None:
        """Add that a process was seen to wait on a socket."""
        self._seen(cookie, at_s, by_pid, "used")

    def _seen(self, cookie: int, at_s: float, pid: int, event: str) -> None:
        """Add a sighting."""
        [birth] = [row for row in self.events if row["cookie"] == cookie and row["event"] in ("birth", "found")]
        self.events.append(birth | self._at(at_s) | {"event": event, "other_pid": pid})

    def _at(self, at_s: float) -> dict[str, int]:
        """Return the time cells of an event that is known exactly."""
        return {"at_ns": int(at_s * SECOND_NS), "earliest_ns": int(at_s * SECOND_NS)}

    def record(self, path: Path, pools: Mapping[str, Any] = MappingProxyType({})) -> Profile:
        """Return the profile; `pools` are the tables of a pool that was recorded, too."""
        until_ns = int(self.seconds * SECOND_NS)
        quality = {"collector": "sockets", "from_ns": 0, "until_ns": until_ns, "taken": 600, "lost": 0}
        return make_profile(
            path,
            duration_s=self.seconds,
            quality=[quality | {"pid": PID}, *pools.get("quality", ())],
            others={"sockets": self.states, "socket_events": self.events},
            **{name: rows for name, rows in pools.items() if name != "quality"},
        )
