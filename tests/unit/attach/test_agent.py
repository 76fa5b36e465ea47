"""The probe's agent, at the other end of a socket pair."""

import json
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from perfkit.attach.rendezvous import probe_source
from perfkit.probe import agent


class Recorder:
    """The recorder's end."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._count = 0

    def ask(self, do: str, name: str, **more: Any) -> dict[str, Any]:
        """Return the answer, without the rows that came before it."""
        self._count += 1
        data = json.dumps({"id": self._count, "do": do, "name": name, **more}).encode()
        self.connection.sendall(len(data).to_bytes(4, "big") + data)
        while True:
            message = self.read()
            if message.get("id") == self._count:
                return message

    def read(self) -> dict[str, Any]:
        """Return the next message."""
        length = int.from_bytes(self._exactly(4), "big")
        message: dict[str, Any] = json.loads(self._exactly(length))
        return message

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += self.connection.recv(count - len(data)) or pytest.fail("the agent closed the connection")
        return data


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    thread = threading.Thread(target=agent.serve, args=(theirs,))
    thread.start()
    yield Recorder(ours)
    ours.close()
    thread.join(5)
    assert not thread.is_alive()


def load(recorder: Recorder) -> None:
    recorder.ask("load", "echo", source=probe_source("echo").decode())


def test_a_question_is_answered(recorder: Recorder) -> None:
    load(recorder)
    assert recorder.ask("start", "echo", options={"rows": 0})["value"] == {"rows": 0}
    assert recorder.ask("call", "echo", arguments={"a": 1})["value"] == {"a": 1}
    assert recorder.ask("stop", "echo")["value"] == {"emitted": 0, "dropped": 0}


def test_an_error_is_an_answer(recorder: Recorder) -> None:
    load(recorder)
    answer = recorder.ask("start", "echo", options={"nonsense": 1})
    assert answer["error"] == "TypeError"
    assert "nonsense" in answer["message"]


def test_starting_twice_is_an_error(recorder: Recorder) -> None:
    load(recorder)
    recorder.ask("start", "echo", options={})
    assert recorder.ask("start", "echo", options={})["error"] == "RuntimeError"


def test_a_recorder_that_does_not_read_costs_rows_not_memory() -> None:
    ours, theirs = socket.socketpair()
    theirs.settimeout(0.0)
    probe = agent.Probe(theirs)
    handle = agent.Handle(probe, "rows")
    for _row in range(200):
        handle.emit("x" * 100_000)
    assert 0 < handle.dropped < 200
    assert handle.dropped == 200 - agent.MAX_WAITING_BYTES // 100_038
    ours.close()
    theirs.close()


def test_a_recorder_that_breaks_down_says_so(recorder: Recorder) -> None:
    source = (
        "class Recorder:\n"
        "    def __init__(self, probe): self.probe = probe\n"
        "    def start(self): self.probe.spawn(self.steps())\n"
        "    def steps(self):\n"
        "        yield 0.0\n"
        "        raise ValueError('of itself')\n"
        "    def stop(self): pass\n"
    )
    recorder.ask("load", "bad", source=source)
    recorder.ask("start", "bad", options={})
    assert recorder.read() == {"failed": "bad", "error": "ValueError", "message": "of itself"}
    assert recorder.ask("stop", "bad")["value"] == {"dropped": 0}


BUSY = (
    "import time\n"
    "class Recorder:\n"
    "    def __init__(self, probe): self.probe = probe\n"
    "    def start(self, wait_s): self.probe.spawn(self.steps(wait_s))\n"
    "    def steps(self, wait_s):\n"
    "        while True:\n"
    "            until = time.thread_time() + 0.002\n"
    "            while time.thread_time() < until: pass\n"
    "            self.probe.emit(1)\n"
    "            yield wait_s\n"
    "    def stop(self): pass\n"
)


def test_what_each_recorder_costs_is_known_while_it_runs(recorder: Recorder) -> None:
    load(recorder)
    recorder.ask("load", "busy", source=BUSY)
    recorder.ask("start", "busy", options={"wait_s": 0.001})
    recorder.ask("start", "echo", options={"rows": 0})
    costs: dict[str, int] = {}
    while costs.get("busy", 0) < 20_000_000:
        costs = recorder.ask("costs", "")["value"]
    assert costs["echo"] < costs["busy"] / 2
    recorder.ask("stop", "busy")
    assert recorder.ask("costs", "")["value"].keys() == {"echo"}


def test_a_slower_pace_draws_out_the_waits_between_readings_only(recorder: Recorder) -> None:
    recorder.ask("load", "busy", source=BUSY)
    for wait_s, comes in ((0.05, False), (0.001, True)):
        recorder.ask("start", "busy", options={"wait_s": wait_s})
        recorder.ask("pace", "busy", factor=1000.0)
        recorder.connection.settimeout(0.5)
        rows = 0
        try:
            while rows < 5:
                rows += "stream" in recorder.read()
        except TimeoutError:
            pass
        recorder.connection.settimeout(10)
        assert (rows == 5) == comes
        recorder.ask("stop", "busy")


NOTES = (
    "import time\n"
    "class Recorder:\n"
    "    def __init__(self, probe): self.probe = probe\n"
    "    def start(self, last): self.probe.spawn(self.steps(), last)\n"
    "    def steps(self):\n"
    "        while True:\n"
    "            self.probe.emit(time.monotonic())\n"
    "            yield 0.1\n"
    "    def stop(self): pass\n"
)


def test_readings_that_are_due_at_about_the_same_time_are_made_in_one_go_in_their_order(recorder: Recorder) -> None:
    for name, last in (("after", True), ("before", False)):
        recorder.ask("load", name, source=NOTES)
        recorder.ask("start", name, options={"last": last})
        time.sleep(0.02)  # so that they are not in step by themselves
    rows = [recorder.read() for _ in range(24)][2:]
    first = next(number for number, row in enumerate(rows) if row["stream"] == "before")
    rows = rows[first : first + 20]
    assert [row["stream"] for row in rows] == ["before", "after"] * 10
    apart_s = [after["row"] - before["row"] for before, after in zip(rows[::2], rows[1::2], strict=True)]
    assert statistics.median(apart_s) < 0.002
