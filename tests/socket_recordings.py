"""Records sockets of real processes by hand and gives the decoded tables as rows."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfkit.attach.target import inspect_any
from perfkit.clock import Clock
from perfkit.collectors import Raw, Recording
from perfkit.collectors.sockets import COLLECTOR
from perfkit.symbols import Symbols

PLAIN = Path(__file__).parent / "targets" / "sockets" / "plain.py"


@dataclass
class Watched:
    """A recording of sockets that goes on, or went on."""

    pid: int
    raw: Path
    clock: Clock = field(default_factory=Clock.start)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return what was recorded so far as rows."""
        raw = Raw(self.raw, self.pid, self.clock, Symbols(), self.clock.now_ns())
        return {name: table.to_pylist() for name, table in COLLECTOR.decode(raw).items()}

    def states(self, role: str | None = None) -> dict[int, str]:
        """Return the last state of each socket by cookie."""
        return {row["cookie"]: row["state"] for row in self.tables()["sockets"] if role in (None, row["role"])}

    def events(self, **wanted: object) -> list[dict[str, Any]]:
        """Return the rows of socket_events with these cells."""
        rows = self.tables()["socket_events"]
        return [row for row in rows if all(row[name] == value for name, value in wanted.items())]

    def until(self, condition: Callable[[], object], within_s: float = 10.0) -> None:
        """Wait until the recording shows something: what happened takes a reading to be seen."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, self.tables()["socket_events"]
            time.sleep(0.05)


@contextmanager
def watching(pid: int, raw: Path, **options: Any) -> Iterator[Watched]:
    """Record the sockets of a process while the context is open, ten times a second whatever it costs."""
    watched = Watched(pid, raw)

    def no_session() -> None:
        raise AssertionError("this collector never injects")

    options = {"max_share": 1.0, "counters_every_s": 0.2, "owners_every_s": 0.3} | options
    settings = Recording(inspect_any(pid), raw, watched.clock, no_session, print, 10.0, options)  # type: ignore[arg-type]
    with COLLECTOR.record(settings):
        watched.until(lambda: (raw / "sockets.bin").exists() and (raw / "sockets.bin").stat().st_size)
        yield watched


@dataclass
class Obedient:
    """A process of `targets/sockets/plain.py`."""

    process: "subprocess.Popen[str]"
    pid: int

    def ask(self, *words: object) -> int:
        """Have it do something; return its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def obedient(*prefix: str, python: str = sys.executable) -> Iterator[Obedient]:
    """Yield a process that does with sockets what it is told; `prefix` is a command that starts it."""
    command = [*prefix, python, str(PLAIN)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        word, pid = process.stdout.readline().split()
        assert word == "ready"
        yield Obedient(process, int(pid))
        process.stdin.close()
        assert process.wait(10) == 0


@contextmanager
def upstream() -> Iterator[tuple[socket.socket, int]]:
    """Yield a listening socket of ours and its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        yield server, server.getsockname()[1]
