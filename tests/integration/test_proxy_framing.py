"""Every request that servers disagree about, against the real proxy and, for comparison, a real nginx."""

import runpy
import socket
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import h11
import pytest

from tests.proxy_processes import NGINX, Recorder, Running, nginx, outcome, proxy, recorder

CASES = runpy.run_path(str(Path(__file__).parents[1] / "data" / "framing_cases.py"))["CASES"]
each_case = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])


@pytest.fixture(scope="module")
def seen() -> Iterator[Recorder]:
    with recorder() as running:
        yield running


@pytest.fixture(scope="module", params=["stream", "buffered"])
def front(request: Any, seen: Recorder, tmp_path_factory: Any) -> Iterator[tuple[str, Running]]:
    folder = tmp_path_factory.mktemp("proxy")
    with proxy(folder, seen.port, proxy={"forwarding": request.param}) as running:
        yield request.param, running


@pytest.fixture(scope="module")
def separate_port(tmp_path_factory: Any) -> Iterator[int]:
    """What is sent piece by piece reaches an upstream of its own: parts of it may arrive late."""
    with recorder() as other, proxy(tmp_path_factory.mktemp("proxy"), other.port) as running:
        yield running.port


@pytest.fixture(scope="module")
def nginx_port(seen: Recorder, tmp_path_factory: Any) -> Iterator[int]:
    if NGINX is None:
        pytest.skip("nginx is not installed")
    with nginx(tmp_path_factory.mktemp("nginx"), seen.port) as port:
        yield port


@each_case
def test_the_proxy_answers(case: Any, front: tuple[str, Running], seen: Recorder) -> None:
    forwarding, running = front
    # A body read whole has a known length.
    expected = case.ours.replace("+TE", "+CL") if forwarding == "buffered" else case.ours
    assert outcome(running.port, case.raw, seen, expected) == expected


@each_case
def test_nginx_answers(case: Any, nginx_port: int, seen: Recorder) -> None:
    assert outcome(nginx_port, case.raw, seen, case.nginx) == case.nginx


@each_case
def test_the_proxy_answers_the_same_when_bytes_come_one_by_one(case: Any, separate_port: int) -> None:
    if len(case.raw) > 4_000:
        pytest.skip("large heads are refused as soon as they are too large")
    expected = case.ours.partition(">")[0].split("/")
    got = b""
    with socket.create_connection(("127.0.0.1", separate_port), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for byte in case.raw:
                connection.send(bytes([byte]))
        except OSError:
            pass  # refused before the end
        while got.count(b"HTTP/1.1 ") < len(expected):
            data = connection.recv(65_536)
            if not data:
                break
            got += data
    assert [part[:3].decode() for part in got.split(b"HTTP/1.1 ")[1:]] == expected


def test_a_body_that_turns_bad_later_never_ends_for_the_upstream(front: tuple[str, Running], seen: Recorder) -> None:
    forwarding, running = front
    if forwarding == "buffered":
        pytest.skip("nothing is forwarded before the whole body is read")
    seen.take()
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        while running.stats()["pools"]["app"]["in_use"] == 0:
            pass
        connection.sendall(b"3 \r\nabc\r\n0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    while not (words := seen.take()):
        pass
    assert words == ["POST+TE+PART"]


PIECES = [
    b" ",
    b"\r\n",
    b"\n",
    b"\r",
    b":",
    b"\0",
    b"\t",
    b"chunked",
    b"Content-Length: 5\r\n",
    b"0\r\n\r\n",
    b"\xff",
    b",",
    b";",
    b"GET ",
]


def mutated(random: Random) -> bytes:
    """Return a request of the table, changed in a few places, with a plain one behind it."""
    raw = bytearray(random.choice(CASES).raw[:600])
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(raw) + 1)
        raw[at : at + random.randint(0, 3)] = random.choice(PIECES)
    return bytes(raw) + b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_sent_only_clean_requests_reach_the_upstream(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    with recorder() as upstream, proxy(tmp_path, upstream.port, timeouts={"header_s": 0.2, "body_s": 0.2}) as running:
        for _ in range(150):
            with socket.create_connection(("127.0.0.1", running.port), timeout=5) as connection:
                raw = mutated(random)
                connection.sendall(raw)
                got = b""
                while data := receive(connection):
                    got += data
            assert got.startswith(b"HTTP/1.1 "), raw
        for head in upstream.heads:
            parser = h11.Connection(h11.SERVER)
            parser.receive_data(head + b"\r\n")
            request = parser.next_event()
            assert isinstance(request, h11.Request), head
            names = [name for name, _ in request.headers]
            assert names.count(b"host") == names.count(b"traceparent") == names.count(b"via") == 1, head
            assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1, head
        assert running.stats()["pools"]["app"]["in_use"] == 0


def receive(connection: socket.socket) -> bytes:
    """Return the next bytes, or nothing at the end, however it comes."""
    try:
        return connection.recv(65_536)
    except ConnectionResetError:
        return b""
