"""The recorder's end of the connection to a probe."""

import itertools
import json
import queue
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from perfkit.attach.errors import ProbeFailed, ProbeSilent, TargetGone
from perfkit.attach.inject import inject
from perfkit.attach.permission import preflight
from perfkit.attach.rendezvous import connect, probe_source, rendezvous
from perfkit.attach.target import Target

_LENGTH = struct.Struct(">I")
_LIVENESS_S = 0.2
_MAX_MESSAGE_BYTES = 64 << 20


class Session:
    """A probe inside a target: starts and stops what it records, and takes its data.

    Everything the probe did is undone when the session closes, or dies with this process.

    `method` says how the probe got in: blocked_call, pending_call, remote_exec, launched or imported;
    `stopped_ns` for how long the target's main thread was held for it.
    """

    def __init__(self, target: Target, connection: socket.socket, *, method: str, stopped_ns: int) -> None:
        self.target = target
        self.method = method
        self.stopped_ns = stopped_ns
        self.failures: dict[str, ProbeFailed] = {}
        self._connection = connection
        self._numbers = itertools.count(1)
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self._streams: dict[str, BinaryIO] = {}
        self._loaded: set[str] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._reader = threading.Thread(target=self._read, name=f"perfkit session {target.pid}", daemon=True)
        self._reader.start()

    @classmethod
    def open(cls, target: Target, *, timeout_s: float = 10.0) -> Self:
        """Return a session with a probe inside a running process.

        A process that imports `perfkit.probe` is connected to; any other is injected into.

        Raises:
            AttachDenied, AlreadyTraced, UnsupportedInterpreter, TargetGone, ...: why not; nothing was touched.
            AttachTimeout: the target did not run our code in time; it was left as it was.
        """
        if connection := connect(target):
            return cls(target, connection, method="imported", stopped_ns=0)
        if problem := preflight(target):
            raise problem
        with rendezvous(target) as meeting:
            attached = inject(target, meeting, timeout_s=timeout_s)
        return cls(
            target,
            attached.connection,
            method=attached.injection.method,
            stopped_ns=attached.injection.stopped_ns,
        )

    def start(self, name: str, *, stream: Path | None = None, timeout_s: float = 30.0, **options: Any) -> Any:
        """Start a recorder (a module of `perfkit.probe`); return what it says at its start.

        Args:
            name: name of the module.
            stream: file that gets its rows as they come, one JSON object per line.
            timeout_s: how long to wait for its answer.
            options: its settings.

        Raises:
            ProbeFailed: it could not start.
            TargetGone: the target ended or did not answer.
        """
        if stream is not None:
            self._streams[name] = stream.open("ab", buffering=0)
        if name not in self._loaded:
            self._ask("load", name, timeout_s, source=probe_source(name).decode())
            self._loaded.add(name)
        return self._ask("start", name, timeout_s, options=options)

    def stop(self, name: str, *, timeout_s: float = 30.0) -> dict[str, Any]:
        """Stop a recorder; return what it says at its end, with `dropped`, the number of rows lost.

        Raises:
            ProbeFailed: it does not run, or could not stop.
            TargetGone: the target ended; everything it sent before is in its stream.
        """
        try:
            value: dict[str, Any] = self._ask("stop", name, timeout_s)
            return value
        finally:
            if file := self._streams.pop(name, None):
                file.close()

    def call(self, name: str, *, timeout_s: float = 30.0, **arguments: Any) -> Any:
        """Return what a running recorder answers to a question.

        Raises:
            ProbeFailed, TargetGone: as for `start`.
        """
        return self._ask("call", name, timeout_s, arguments=arguments)

    def costs(self, *, timeout_s: float = 30.0) -> dict[str, int]:
        """Return the CPU time that each running recorder has used in the probe's thread, nanoseconds.

        Raises:
            TargetGone: the target ended or did not answer.
        """
        costs: dict[str, int] = self._ask("costs", "", timeout_s)
        return costs

    def pace(self, name: str, factor: float, *, timeout_s: float = 30.0) -> None:
        """Let a recorder wait so many times as long between its readings as it would.

        Raises:
            ProbeFailed, TargetGone: as for `start`.
        """
        self._ask("pace", name, timeout_s, factor=factor)

    @property
    def is_open(self) -> bool:
        """Whether the probe is still connected."""
        return not self._closed.is_set()

    def close(self) -> None:
        """Let go of the target: the probe undoes everything it did and ends."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._reader.join(timeout=5.0)
        self._connection.close()
        for file in self._streams.values():
            file.close()
        self._streams.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, do: str, name: str, timeout_s: float, **more: Any) -> Any:
        """Send a request and return the value of its answer."""
        number = next(self._numbers)
        answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._answers[number] = answers
        data = json.dumps({"id": number, "do": do, "name": name, **more}).encode()
        try:
            with self._lock:
                self._connection.sendall(_LENGTH.pack(len(data)) + data)
            # The reader may have ended before it could see that we wait.
            answer = None if self._closed.is_set() else answers.get(timeout=timeout_s)
        except (OSError, queue.Empty):
            answer = None
        finally:
            self._answers.pop(number, None)
        if answer is None:
            if self.target.is_alive() and not self._closed.is_set():
                raise ProbeSilent(self.target.pid, timeout_s)
            raise TargetGone(self.target.pid)
        if "error" in answer:
            raise ProbeFailed(self.target.pid, name, answer["error"], answer["message"])
        return answer["value"]

    def _read(self) -> None:
        """Take what the probe sends until it is gone (runs in a thread of its own)."""
        received = bytearray()
        self._connection.settimeout(_LIVENESS_S)
        with suppress(OSError, ValueError):
            while True:
                try:
                    data = self._connection.recv(1 << 18)
                except TimeoutError:
                    # A forked child that inherited the socket would keep it open for a dead target.
                    if not self.target.is_alive():
                        break
                    continue
                if not data:
                    break
                received += data
                while len(received) >= 4 and len(received) - 4 >= (length := _LENGTH.unpack_from(received)[0]):
                    self._take(bytes(received[4 : 4 + length]))
                    del received[: 4 + length]
                if len(received) >= 4 and _LENGTH.unpack_from(received)[0] > _MAX_MESSAGE_BYTES:
                    break
        self._closed.set()
        for answers in list(self._answers.values()):
            answers.put(None)

    def _take(self, data: bytes) -> None:
        """Give one message to whom it is for."""
        message = json.loads(data)
        if "stream" in message:
            if file := self._streams.get(message["stream"]):
                file.write(json.dumps(message["row"], separators=(",", ":")).encode() + b"\n")
        elif "failed" in message:
            name = message["failed"]
            self.failures[name] = ProbeFailed(self.target.pid, name, message["error"], message["message"])
        elif answers := self._answers.get(message["id"]):
            answers.put(message)
