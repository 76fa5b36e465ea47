"""The load generator as its own process, against real servers on loopback that answer, stall, cut and refuse."""

import json
import os
import re
import resource
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from perfkit.analysis.latency import summary as latency_summary
from perfkit.clock import Clock
from perfkit.load.options import LoadOptions, Route
from perfkit.load.results import decode
from perfkit.load.rows import FILE, RECORD
from perfkit.load.schedule import Schedule

pytestmark = pytest.mark.quiet

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Server(socketserver.ThreadingTCPServer):
    """Answers each request by the function named after the first part of its path; counts what it saw."""

    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self) -> None:
        self.traces: list[str] = []
        self.gone_early = 0
        self.connections = 0
        self.stall = threading.Lock()
        super().__init__(("127.0.0.1", 0), Visitor)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Visitor(socketserver.BaseRequestHandler):
    """One connection."""

    server: Server

    def handle(self) -> None:
        self.server.connections += 1
        data = b""
        try:
            while True:
                while b"\r\n\r\n" not in data:
                    if not (piece := self.request.recv(65536)):
                        return
                    data += piece
                head, _, data = data.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                while length and len(data) < int(length[1]):
                    if not (piece := self.request.recv(65536)):
                        self.server.gone_early += 1
                        return
                    data += piece
                data = data[int(length[1]) :] if length else data
                trace = re.search(rb"traceparent: 00-([0-9a-f]{32})-", head)
                assert trace is not None
                self.server.traces.append(trace[1].decode())
                with self.server.stall:
                    pass
                if not ANSWERS[head.split(b" ")[1].split(b"/")[1].decode()](self.request):
                    return
        except (ConnectionError, TimeoutError):
            self.server.gone_early += 1


def says(*pieces: bytes, stay: bool = True, delay_s: float = 0.0) -> Callable[[socket.socket], bool]:
    """Return what sends these bytes and keeps the connection open, or closes it."""

    def answer(connection: socket.socket) -> bool:
        time.sleep(delay_s)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.002)
        return stay

    return answer


def resets(connection: socket.socket) -> bool:
    """Close the connection with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    return False


def hangs(connection: socket.socket) -> bool:
    """Wait until the client goes away."""
    connection.settimeout(10)
    if connection.recv(1) == b"":
        raise ConnectionResetError
    return False


ANSWERS: dict[str, Callable[[socket.socket], bool]] = {
    "": says(OK),
    "split": says(OK[:20], OK[20:40], OK[40:]),
    "chunked": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"),
    "close": says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", stay=False),
    "until-close": says(b"HTTP/1.1 200 OK\r\n\r\nall ", b"there is", stay=False),
    "early-hints": says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", OK),
    "unavailable": says(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
    "cut": says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel", stay=False),
    "cut-chunk": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", stay=False),
    "no-answer": says(stay=False),
    "reset": resets,
    "garbage": says(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "endless-head": says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000),
    "hang": hangs,
    "slow": says(OK, delay_s=0.1),
    "slower": says(OK, delay_s=0.3),
}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


class Run:
    """A generator process that said it is ready."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self.process = process
        self.folder = folder
        assert process.stdout is not None
        self.ready: dict[str, Any] = json.loads(process.stdout.readline())

    def summary(self) -> dict[str, Any]:
        """Wait for its end and return its last line."""
        out, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        said: dict[str, Any] = json.loads(out.splitlines()[-1])
        assert said["event"] == "summary"
        return said

    def tables(self) -> dict[str, pa.Table]:
        return decode(self.folder, Clock(self.ready["monotonic_ns"], 0))

    def requests(self) -> pa.Table:
        return self.tables()["requests"]


@contextmanager
def load(options: LoadOptions, tmp_path: Path) -> Iterator[Run]:
    """Run the generator with options; ends it if the test does not."""
    file = tmp_path / "options.json"
    file.write_text(options.to_json())
    command = [sys.executable, "-m", "perfkit.load", "--options", str(file), "-o", str(tmp_path / "load")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Run(process, tmp_path / "load")
        finally:
            if process.poll() is None:
                process.kill()


def at(server: Server, shape: str, path: str = "/", **options: Any) -> LoadOptions:
    return LoadOptions(
        "127.0.0.1", server.port, Schedule.parse(shape, "constant"), (Route("it", "GET", path),), **options
    )


@pytest.mark.parametrize(
    ("answer", "status", "error", "received_bytes", "connections"),
    [
        pytest.param("", 200, None, 5, 1, id="an-answer-with-a-length-keeps-the-connection"),
        pytest.param("split", 200, None, 5, 1, id="an-answer-may-come-in-pieces"),
        pytest.param("chunked", 200, None, 5, 1, id="a-chunked-answer-keeps-the-connection"),
        pytest.param("close", 200, None, 2, 5, id="connection-close-is-obeyed"),
        pytest.param("until-close", 200, None, 12, 5, id="an-answer-without-a-length-ends-with-the-connection"),
        pytest.param("early-hints", 200, None, 5, 1, id="an-interim-answer-is-not-the-answer"),
        pytest.param("unavailable", 503, None, 0, 1, id="a-status-above-499-is-an-answer"),
        pytest.param("cut", 200, "reset", 3, 5, id="an-answer-cut-short-is-an-error"),
        pytest.param("cut-chunk", 200, "reset", 2, 5, id="a-chunk-cut-short-is-an-error"),
        pytest.param("no-answer", None, "reset", 0, 5, id="a-connection-closed-without-answer"),
        pytest.param("reset", None, "reset", 0, 5, id="a-connection-reset-without-answer"),
        pytest.param("garbage", None, "protocol", 0, 5, id="another-protocol"),
        pytest.param("endless-head", None, "protocol", 0, 5, id="a-head-without-end"),
    ],
)
def test_each_request_becomes_one_row(
    server: Server,
    tmp_path: Path,
    answer: str,
    status: int | None,
    error: str | None,
    received_bytes: int,
    connections: int,
) -> None:
    with load(at(server, "50/s for 0.1s", f"/{answer}", max_connections=1), tmp_path) as run:
        summary = run.summary()
    rows = run.requests().to_pylist()
    assert [(row["status"], row["error"], row["received_bytes"]) for row in rows] == [
        (status, error, received_bytes)
    ] * 5
    assert (summary["requests"], summary["connections"]) == (5, pytest.approx(connections, abs=1))
    assert [row["trace_id"] for row in rows] == server.traces
    assert all(0 <= row["dispatched_ns"] - row["intended_ns"] <= row["start_ns"] - row["intended_ns"] for row in rows)


def test_a_stall_is_felt_by_every_request_that_was_due_during_it(server: Server, tmp_path: Path) -> None:
    with load(at(server, "100/s for 2.5s", max_connections=8), tmp_path) as run:
        time.sleep(0.7)
        began_ns = time.monotonic_ns() - run.ready["monotonic_ns"]
        with server.stall:
            time.sleep(1.0)
            ended_ns = time.monotonic_ns() - run.ready["monotonic_ns"]
        summary = run.summary()
    requests = run.requests()
    due = requests["intended_ns"].to_numpy()
    latency = requests["latency_ns"].to_numpy()
    inside = (due > began_ns) & (due < ended_ns)
    assert inside.sum() == pytest.approx(100, abs=5), "an open loop goes on asking while nobody answers"
    assert (due + latency)[inside].min() >= ended_ns - 5e6, "nobody was answered before the stall ended"
    assert latency[inside].mean() == pytest.approx(0.5e9, rel=0.2), "on average they waited half of it"
    assert latency_summary(requests).p99_ms == pytest.approx(1000, rel=0.15)
    assert summary["own_lateness_ms"]["max"] < 300, "the target stalled, not the generator"
    assert summary["saturation"].startswith("the target was too slow for 8 connections")
    assert run.tables()["recording_quality"]["note"].to_pylist() == [summary["note"] or None]


def test_a_generator_that_was_stopped_says_that_it_was_late_itself(server: Server, tmp_path: Path) -> None:
    with load(at(server, "200/s for 2s"), tmp_path) as run:
        time.sleep(0.5)
        os.kill(run.process.pid, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(run.process.pid, signal.SIGCONT)
        summary = run.summary()
    assert summary["requests"] == 400, "what was due is sent all the same"
    assert not summary["kept_schedule"]
    assert summary["own_lateness_ms"]["max"] == pytest.approx(500, rel=0.1)
    assert summary["late_ratio"] == pytest.approx(0.25, abs=0.05)
    tables = run.tables()
    [quality] = tables["recording_quality"].to_pylist()
    assert quality["note"].startswith("the load generator itself was late: 2")
    late = [event for event in tables["events"].to_pylist() if "itself was late" in event["name"]]
    assert max(event["duration_ns"] for event in late) == pytest.approx(0.5e9, rel=0.2)


def test_a_generator_that_cannot_keep_up_says_so_and_ends_all_the_same(server: Server, tmp_path: Path) -> None:
    began = time.monotonic()
    with load(at(server, "400000/s for 0.5s", timeout_s=0.5, max_connections=4), tmp_path) as run:
        summary = run.summary()
    assert time.monotonic() - began < 15, "it gives up what is hopelessly late instead of running on"
    assert summary["due"] == 200_000 == summary["requests"] + summary["unsent"]
    assert summary["unsent"] > 0
    assert "the load generator itself was late" in summary["note"]
    [quality] = run.tables()["recording_quality"].to_pylist()
    assert (quality["expected"], quality["lost"]) == (200_000, summary["unsent"])


@pytest.mark.slow
def test_at_2000_requests_per_second_the_generator_is_on_time(server: Server, tmp_path: Path) -> None:
    options = at(server, "2000/s for 2s")
    runs = []
    for attempt in range(3):  # the best of three: other processes share the machine
        (tmp_path / str(attempt)).mkdir()
        with load(options, tmp_path / str(attempt)) as run:
            runs.append(run.summary())
    assert min(run["own_lateness_ms"]["p99"] for run in runs) < 1.0
    assert min(run["cpu_cores"] for run in runs) < 0.5


def test_waiting_for_a_connection_is_the_target_s_doing_and_counts_as_latency(server: Server, tmp_path: Path) -> None:
    with load(at(server, "100/s for 1s", "/slow", max_connections=5), tmp_path) as run:
        summary = run.summary()
    requests = run.requests()
    waited = pc.subtract(requests["start_ns"], requests["dispatched_ns"]).to_numpy()
    assert server.connections <= 6
    assert waited.max() > 0.3e9, "five connections carry 50 of the 100 requests per second"
    assert (requests["latency_ns"].to_numpy() >= waited + 0.1e9).all()
    assert summary["own_lateness_ms"]["max"] < waited.max() / 1e6 / 2
    assert summary["saturation"].startswith("the target was too slow for 5 connections")
    assert any("waited for one of 5 connections" in event["name"] for event in run.tables()["events"].to_pylist())


def test_a_request_that_is_never_answered_times_out_counted_from_its_intended_start(
    server: Server, tmp_path: Path
) -> None:
    with load(at(server, "20/s for 0.5s", "/hang", max_connections=4, timeout_s=0.4), tmp_path) as run:
        run.summary()
    requests = run.requests()
    assert Counter(requests["error"].to_pylist()) == {"timeout": 8, "no_connection": 2} or Counter(
        requests["error"].to_pylist()
    ) == {"timeout": 10}
    assert requests["latency_ns"].to_numpy() == pytest.approx([0.4e9] * 10, rel=0.15)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_early_with_every_row(server: Server, tmp_path: Path, number: signal.Signals) -> None:
    with load(at(server, "100/s for 30s", "/slow"), tmp_path) as run:
        time.sleep(0.6)
        run.process.send_signal(number)
        summary = run.summary()
    requests = run.requests()
    assert requests.num_rows == summary["requests"] == summary["due"] == pytest.approx(60, abs=15)
    assert set(requests["error"].to_pylist()) == {None}, "those in flight were waited for"


def test_requests_that_outlast_the_end_are_unfinished(server: Server, tmp_path: Path) -> None:
    with load(at(server, "100/s for 30s", "/hang"), tmp_path) as run:
        time.sleep(0.3)
        run.process.terminate()
        summary = run.summary()
    assert set(run.requests()["error"].to_pylist()) == {"unfinished"}
    assert summary["latency_ms"] == {}


def test_a_killed_generator_leaves_what_it_had_written_and_the_gap_is_counted(server: Server, tmp_path: Path) -> None:
    with load(at(server, "200/s for 30s"), tmp_path) as run:
        time.sleep(1.0)
        run.process.kill()
        run.process.wait()
    tables = run.tables()
    [quality] = tables["recording_quality"].to_pylist()
    assert tables["requests"].num_rows == pytest.approx(170, abs=50)
    assert quality["taken"] == tables["requests"].num_rows
    assert quality["lost"] <= 1
    assert "was killed" in quality["note"]


def test_a_load_that_runs_out_of_descriptors_does_not_blame_the_target(server: Server, tmp_path: Path) -> None:
    with load(at(server, "50/s for 1s", "/hang", timeout_s=2), tmp_path) as run:
        in_use = len(list(Path(f"/proc/{run.process.pid}/fd").iterdir()))
        resource.prlimit(run.process.pid, resource.RLIMIT_NOFILE, (in_use + 5, in_use + 5))
        summary = run.summary()
    requests = run.requests()
    assert summary["errors"]["exhausted"] == pytest.approx(40, abs=10)
    assert "ran out of ports or descriptors" in summary["note"]
    assert latency_summary(requests).left_out == summary["errors"]["exhausted"]


def test_a_full_disk_does_not_end_the_load_and_is_said(server: Server, tmp_path: Path) -> None:
    with load(at(server, "100/s for 1s"), tmp_path) as run:
        resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (1500, 1500))
        summary = run.summary()
    [quality] = run.tables()["recording_quality"].to_pylist()
    assert summary["requests"] == len(server.traces) == 100
    assert quality["taken"] == run.requests().num_rows == (1500 - 8) // RECORD.size
    assert quality["lost"] == 100 - quality["taken"]
    assert "rows could not be written: File too large" in quality["note"]


def test_a_file_that_was_cut_anywhere_is_read_up_to_its_last_whole_row(server: Server, tmp_path: Path) -> None:
    with load(at(server, "100/s for 0.2s"), tmp_path) as run:
        run.summary()
    file = run.folder / FILE
    content = file.read_bytes()
    for cut in (0, 3, 8, 9, len(content) - 1, len(content) - RECORD.size):
        file.write_bytes(content[:cut])
        assert run.requests().num_rows == max(0, cut - 8) // RECORD.size
    file.unlink()
    assert run.requests().num_rows == 0


def test_connections_can_be_opened_before_the_schedule_begins(server: Server, tmp_path: Path) -> None:
    with load(at(server, "100/s for 0.3s", max_connections=9, warm_connections=9), tmp_path) as run:
        assert run.summary()["connections"] == server.connections == 9
    assert run.requests()["start_ns"].to_numpy().min() >= 0


def test_the_number_of_requests_is_a_bound(server: Server, tmp_path: Path) -> None:
    with load(at(server, "200/s for 30s", max_requests=25), tmp_path) as run:
        assert run.summary()["requests"] == 25
    assert len(server.traces) == 25


def test_clients_that_go_away_close_their_connection_in_the_middle(server: Server, tmp_path: Path) -> None:
    options = at(server, "100/s for 1s", "/slower", abort_ratio=0.2, abort_after_s=0.02)
    with load(options, tmp_path) as run:
        run.summary()
    requests = run.requests()
    assert Counter(requests["error"].to_pylist()) == {None: 80, "aborted": 20}
    aborted = requests.filter(pc.equal(requests["error"], "aborted"))
    assert aborted["latency_ns"].to_numpy() == pytest.approx([30e6] * 20, abs=20e6)
    summary = latency_summary(requests)
    assert (summary.requests, summary.left_out, summary.errors) == (80, 20, 0), "they say nothing about the target"


def test_clients_that_go_away_while_uploading_send_half_of_the_body(server: Server, tmp_path: Path) -> None:
    options = replace(
        at(server, "50/s for 0.4s", abort_ratio=0.5), routes=(Route("upload", "POST", "/", body_bytes=20_000),)
    )
    with load(options, tmp_path) as run:
        run.summary()
    assert Counter(run.requests()["error"].to_pylist()) == {None: 10, "aborted": 10}
    assert (len(server.traces), server.gone_early) == (10, 10)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_the_target_does_each_request_is_accounted_for_once(server: Server, tmp_path: Path, seed: int) -> None:
    routes = tuple(Route(name or "ok", "GET", f"/{name}") for name in ANSWERS)
    schedule = Schedule.parse("0..300/s for 1s, 300/s for 0.5s", "poisson", seed)
    options = LoadOptions(
        "127.0.0.1", server.port, schedule, routes, max_connections=12, timeout_s=0.25, abort_ratio=0.1
    )
    with load(options, tmp_path) as run:
        summary = run.summary()
    rows = run.requests().to_pylist()
    assert len(rows) + summary["unsent"] == len(list(schedule.offsets_ns())) == summary["due"]
    assert len({row["trace_id"] for row in rows}) == len(rows)
    assert {row["trace_id"] for row in rows if row["status"]} <= set(server.traces)
    assert {row["error"] for row in rows} > {None, "reset", "protocol", "timeout"}
    for row in rows:
        assert (row["error"] is None) <= (row["status"] is not None), "no error means an answer"
        assert (
            0 <= row["dispatched_ns"] - row["intended_ns"] <= row["start_ns"] - row["intended_ns"] <= row["latency_ns"]
        )


def test_a_target_that_goes_away_gives_connect_errors_and_no_row_is_lost(tmp_path: Path) -> None:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        with load(at(server, "100/s for 1s", "/close"), tmp_path) as run:
            time.sleep(0.4)
            server.shutdown()
            server.server_close()
            summary = run.summary()
        thread.join()
    errors = Counter(run.requests()["error"].to_pylist())
    assert summary["requests"] == 100
    assert errors["connect"] == pytest.approx(60, abs=20)
    assert set(errors) <= {None, "connect", "reset"}


def run_command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "perfkit.load", *arguments], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(("http://192.0.2.1:80",), 2, "not an address of this machine's loopback", id="another-machine"),
        pytest.param(("https://127.0.0.1",), 2, "there is no TLS", id="tls"),
        pytest.param(("http://127.0.0.1:80", "--max-connections", "9999999"), 2, "may have", id="too-many-connections"),
        pytest.param(("http://127.0.0.1:80", "--warm-connections", "65"), 2, "between 1 and", id="too-warm"),
        pytest.param((), 2, "no target given", id="no-target"),
        pytest.param(("http://127.0.0.1:80", "--schedule", "fast"), 2, "cannot read the load's shape", id="no-shape"),
        pytest.param(("http://127.0.0.1:80", "--rate", "0", "--duration", "-1"), 2, "cannot read", id="no-time"),
    ],
)
def test_a_load_that_cannot_be_is_refused_with_a_remedy(arguments: tuple[str, ...], code: int, words: str) -> None:
    done = run_command(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_listening_is_said_before_anything_is_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        done = run_command(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert done.returncode == 3
    assert "Start the service first" in done.stderr


def test_the_command_line_turns_an_objective_into_rate_and_connections(server: Server) -> None:
    slo = "100/s, p95 200 ms, errors 0.5%"
    done = run_command(f"127.0.0.1:{server.port}", "--slo", slo, "--duration", "0.3", "--arrivals", "constant")
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["requests"], summary["max_connections"], summary["statuses"]) == (30, 18, {"200": 30})


def test_the_generator_imports_nothing_heavy() -> None:
    code = "import perfkit.load.__main__, sys; print([m for m in ('pyarrow', 'numpy', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"
