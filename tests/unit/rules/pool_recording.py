"""Recordings of one connection pool, written use by use: what a holder did, when, and whether it is still there."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfkit.profile import Profile
from tests.builders import MAIN, SECOND_NS, Row, Stack, make_profile

LOAD: Stack = (*MAIN, ("load_order", "/srv/app/orders.py", 31))
REPORT: Stack = (*MAIN, ("report", "/srv/app/reports.py", 12))
PRICE: Stack = (*LOAD, ("fetch_price", "/srv/app/prices.py", 7))


@dataclass
class PoolRecording:
    """A pool of at most `limit` connections, recorded for `seconds`."""

    limit: int | None = 10
    seconds: float = 30.0
    settings: dict[str, Any] = field(default_factory=dict)
    events: list[Row] = field(default_factory=list)
    holders: list[Row] = field(default_factory=list)
    ghosts: int | None = None
    waiting: int = 0
    lost: int = 0
    recorded: bool = True
    _uses: list[tuple[float, float]] = field(default_factory=list)

    def event(self, kind: str, at_s: float, **cells: Any) -> None:
        """Add one event."""
        self.events.append({"pool": "db", "event": kind, "at_ns": int(at_s * SECOND_NS), **cells})

    def use(
        self,
        at_s: float,
        held_s: float | None,
        *,
        stack: Stack = LOAD,
        holder: int = 1,
        connection: int = 1,
        wait_s: float = 0.0,
        how: str = "released",
        active_at_end: int | None = 2,
    ) -> None:
        """Add a use that ends after `held_s`, None: it does not."""
        at_ns = int(at_s * SECOND_NS)
        shared = {"connection": connection, "holder": holder, "stack": stack}
        self.event("acquired", at_s, wait_ns=int(wait_s * SECOND_NS), **shared)
        self._uses.append((at_s, self.seconds if held_s is None else at_s + held_s))
        if held_s is not None:
            held_ns = int(held_s * SECOND_NS)
            self.events.append(
                {"pool": "db", "event": how, "at_ns": at_ns + held_ns, "held_ns": held_ns,
                 "active_frames": active_at_end, **shared}
            )  # fmt: skip

    def look(
        self,
        at_s: float,
        taken_s: float,
        *,
        holder: int = 1,
        connection: int = 1,
        finished: bool | None = False,
        active: int | None = 2,
        silent_s: float | None = None,
        answered: bool | None = True,
        stack: Stack = LOAD,
        where: Stack | None = None,
    ) -> None:
        """Add a look at who holds a connection."""
        held_ns = int((at_s - taken_s) * SECOND_NS)
        self.holders.append(
            {"pool": "db", "at_ns": int(at_s * SECOND_NS), "connection": connection, "holder": holder,
             "held_ns": held_ns, "taken_stack": stack, "finished": finished, "frames": 3, "active_frames": active,
             "silent_ns": held_ns if silent_s is None else int(silent_s * SECOND_NS), "answered": answered,
             "stack": where or stack}
        )  # fmt: skip

    def requests(self, *, every_s: float = 0.2, held_s: float = 0.02, stack: Stack = LOAD) -> None:
        """Add the usual: short uses that come back."""
        for number in range(int(self.seconds / every_s) - 1):
            self.use(number * every_s, held_s, holder=1000 + number, connection=900 + number % 3, stack=stack)

    def wish(self, event: str, at_s: float, waited_s: float, *, holder: int = 1, stack: Stack = LOAD) -> None:
        """Add a wish that was not granted; of one that still waits, `waited_s` is ignored."""
        if event == "waiting":
            self.event(event, at_s, holder=holder, stack=stack)
        else:
            self.event(event, at_s + waited_s, wait_ns=int(waited_s * SECOND_NS), holder=holder, stack=stack)

    def profile(self, folder: Path) -> Profile:
        """Return it as a profile."""
        return make_profile(folder, duration_s=self.seconds, **self.parts())

    def parts(self) -> dict[str, Any]:
        """Return its tables, to be joined with others."""
        moments = [number * 0.5 for number in range(1, int(self.seconds * 2))]
        states = []
        for at_s in moments:
            in_use = sum(begin <= at_s < end for begin, end in self._uses)
            in_use = in_use if self.limit is None else min(in_use, self.limit)
            states.append({"pool": "db", "at_ns": int(at_s * SECOND_NS), "max": self.limit, "open": in_use,
                           "in_use": in_use, "idle": 0, "waiting": self.waiting, "ghosts": self.ghosts})  # fmt: skip
        quality = {"collector": "pool_events", "from_ns": 0, "until_ns": int(self.seconds * SECOND_NS),
                   "taken": len(self.events), "lost": self.lost}  # fmt: skip
        settings = [
            {"at_ns": 0, "name": f"pool.db.{name}", "value": json.dumps(value)} for name, value in self.settings.items()
        ]
        return {
            "pool_events": sorted(self.events, key=lambda row: row["at_ns"]),
            "pool_states": states if self.events else (),
            "pool_holders": self.holders,
            "settings": settings,
            "quality": [quality] if self.recorded else (),
        }
