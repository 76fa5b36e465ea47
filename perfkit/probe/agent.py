"""What runs inside a target: one thread that does what the recorder at the other end of a socket asks for.

Sent as source text and run in a namespace of its own: standard library only, self-contained,
written for Python 3.10, and gone without a trace when the socket closes, whoever closed it.
Everything it does is done in its one thread, a step at a time, so nothing in it needs a lock.

A message is four bytes of length and that much JSON. From the recorder: `{"id", "do", "name", ...}`
with `do` one of load, start, stop, call, pace (wait that many times as long between readings) and
costs (of all that run). To the recorder: `{"id", "value"}` or `{"id", "error", "message"}` in answer,
`{"stream", "row"}` for data, `{"failed", "error", "message"}` when a recorder broke down by itself.

What there is to record is in further modules of this folder, sent when first asked for, each as one
source with what it imports of the others (`probe_source`). Each defines a class `Recorder` like this:

```
class Recorder:
    def __init__(self, probe): ...  # probe.emit(row), probe.spawn(steps)
    def start(self, **options): ...  # returns what JSON can hold
    def stop(self): ...  # undoes all of it; also called when the socket closes
    def call(self, **arguments): ...  # optional
```
"""

from __future__ import annotations

import json
import time
from collections import deque
from contextlib import suppress
from heapq import heappop, heappush

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing may take the target 5 ms
    from collections.abc import Iterator
    from typing import Any

MAX_WAITING_BYTES = 8 << 20
"""Data that the recorder is too slow to take is dropped, and counted, beyond this."""

_MAX_MESSAGE_BYTES = 64 << 20
_RETRY_S = 0.05
_BETWEEN_READINGS_S = 0.04
"""Shorter waits are rests within one reading, which a slower pace must not draw out."""
_GRID_S, _ON_GRID_S = 0.1, 0.075
"""Readings that are at least the second apart are made at the nearest multiple of the first, so that several are made
in one go: being woken, and getting the GIL from a busy target, costs more than most readings."""


class Closed(Exception):
    """The other end is gone."""


class Handle:
    """What one recorder gets to work with."""

    def __init__(self, probe: Probe, name: str) -> None:
        self.name = name
        self.dropped = 0
        self.cost_ns = 0
        self.pace = 1.0
        self._probe = probe
        self._steps: list[Iterator[float]] = []

    def emit(self, row: Any) -> None:
        """Send a row; it is dropped, and counted, when the recorder does not keep up."""
        if not self._probe.send({"stream": self.name, "row": row}, optional=True):
            self.dropped += 1

    def spawn(self, steps: Iterator[float], last: bool = False) -> None:
        """Run a generator a step at a time; it yields how many seconds to wait before the next.

        Args:
            steps: the generator.
            last: whether its steps come after those of others that are due at that time: whatever waits for them in
                the target is not kept waiting by the others.
        """
        self._steps.append(steps)
        self._probe.schedule(self, steps, 0.0, last)

    def is_running(self, steps: Iterator[float]) -> bool:
        """Whether a generator was not cancelled."""
        return any(other is steps for other in self._steps)

    def other(self, name: str) -> Any:
        """Return the recorder of that name that runs beside this one, None: it does not."""
        return self._probe.recorder(name)

    def cancel(self) -> None:
        """End all generators of this recorder, letting their `finally` run."""
        steps, self._steps = self._steps, []
        for one in steps:
            one.close()  # type: ignore[attr-defined]


class Probe:
    """The one thread in the target."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._received = bytearray()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._classes: dict[str, Any] = {}
        self._recorders: dict[str, tuple[Any, Handle]] = {}
        self._due: list[tuple[float, bool, int, Handle, Iterator[float]]] = []
        self._count = 0

    def run(self) -> None:
        """Serve until the other end is gone, then undo everything."""
        try:
            while True:
                self._flush()
                self._receive(self._patience_s())
                for message in self._messages():
                    self._answer(message)
                self._step()
        except (Closed, OSError):
            return
        finally:
            for name in list(self._recorders):
                with suppress(Exception):  # nobody is left to tell; the others must be stopped too
                    self._stop(name)
            self._connection.close()

    def send(self, message: Any, optional: bool = False) -> bool:
        """Queue a message; return whether there was room for it."""
        data = json.dumps(message).encode()
        if optional and self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
            return False
        self._waiting.append(len(data).to_bytes(4, "big") + data)
        self._waiting_bytes += len(data) + 4
        return True

    def recorder(self, name: str) -> Any:
        """Return a running recorder, None: it does not run."""
        return self._recorders[name][0] if name in self._recorders else None

    def schedule(self, handle: Handle, steps: Iterator[float], delay_s: float, last: bool) -> None:
        """Run the next step of a generator after a delay; where that is long, at the nearest time of the grid."""
        self._count += 1
        due_s = time.monotonic() + delay_s
        if delay_s >= _ON_GRID_S:
            due_s = round(due_s / _GRID_S) * _GRID_S
        heappush(self._due, (due_s, last, self._count, handle, steps))

    def _patience_s(self) -> float | None:
        """Return how long to wait for the recorder: seconds, None for as long as it takes."""
        waits = [max(0.0, self._due[0][0] - time.monotonic())] if self._due else []
        return min([*waits, _RETRY_S] if self._waiting else waits, default=None)

    def _flush(self) -> None:
        """Send what is queued as far as the other end takes it; never wait for it."""
        self._connection.settimeout(0.0)
        while self._waiting:
            data = self._waiting[0]
            try:
                sent = self._connection.send(data)
            except BlockingIOError:
                return
            self._waiting_bytes -= sent
            if sent == len(data):
                self._waiting.popleft()
            else:
                self._waiting[0] = data[sent:]

    def _receive(self, patience_s: float | None) -> None:
        """Wait for something from the recorder."""
        self._connection.settimeout(patience_s)
        try:
            data = self._connection.recv(1 << 16)
        except (TimeoutError, BlockingIOError, InterruptedError):
            return
        if not data:
            raise Closed
        self._received += data

    def _messages(self) -> Iterator[dict[str, Any]]:
        """Yield the messages that have arrived completely."""
        while len(self._received) >= 4:
            length = int.from_bytes(self._received[:4], "big")
            if length > _MAX_MESSAGE_BYTES:
                raise Closed
            if len(self._received) < 4 + length:
                return
            data = bytes(self._received[4 : 4 + length])
            del self._received[: 4 + length]
            yield json.loads(data)

    def _answer(self, message: dict[str, Any]) -> None:
        """Do what a message asks for, and answer."""
        began_ns = time.thread_time_ns()
        try:
            value = self._do(**message)
            self.send({"id": message["id"], "value": value})
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the recorder's to know, not the target's
            self.send({"id": message["id"], "error": type(error).__name__, "message": str(error)})
        if running := self._recorders.get(message["name"]):
            running[1].cost_ns += time.thread_time_ns() - began_ns

    def _do(self, id: int, do: str, name: str, **more: Any) -> Any:  # noqa: A002
        """Return the value of one request."""
        if do == "costs":
            return {running: handle.cost_ns for running, (_recorder, handle) in self._recorders.items()}
        if do == "load":
            namespace = {"__name__": "perfkit probe " + name, "__builtins__": __builtins__}
            exec(compile(more["source"], "<perfkit probe>", "exec"), namespace)  # noqa: S102
            self._classes[name] = namespace["Recorder"]
            return None
        if do == "start":
            if name in self._recorders:
                raise RuntimeError(name + " is running already")
            handle = Handle(self, name)
            recorder = self._classes[name](handle)
            value = recorder.start(**more["options"])
            self._recorders[name] = (recorder, handle)
            return value
        if do == "stop":
            return self._stop(name)
        if do == "pace":
            self._recorders[name][1].pace = more["factor"]
            return None
        return self._recorders[name][0].call(**more["arguments"])

    def _stop(self, name: str) -> Any:
        """Stop a recorder; return what it has to say at the end, and how much was dropped."""
        recorder, handle = self._recorders.pop(name)
        handle.cancel()
        return {**(recorder.stop() or {}), "dropped": handle.dropped}

    def _step(self) -> None:
        """Run one step of each generator whose time has come."""
        now = time.monotonic()
        ready = []
        while self._due and self._due[0][0] <= now:
            ready.append(heappop(self._due))
        for _due, last, _count, handle, steps in ready:
            if not handle.is_running(steps):
                continue
            began_ns = time.thread_time_ns()
            try:
                delay_s = next(steps)
                delay_s *= handle.pace if delay_s > _BETWEEN_READINGS_S else 1.0
                self.schedule(handle, steps, delay_s, last)
            except StopIteration:
                pass
            except Exception as error:  # noqa: BLE001 - as above
                self.send({"failed": handle.name, "error": type(error).__name__, "message": str(error)})
            handle.cost_ns += time.thread_time_ns() - began_ns


def serve(connection: Any) -> None:
    """Serve one recorder on a connected socket until it is gone."""
    Probe(connection).run()
