"""What the real proxy does with real requests: forwarding, framing of responses, failures of the upstream."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.proxy_processes import Running, answers, ask, proxy, upstream


class Scripted:
    """An upstream that answers each request, whatever it is, with the next of the given bytes, then closes if told."""

    def __init__(self) -> None:
        self.script: Callable[[socket.socket, bytes, int], bool] = lambda *_: False
        self.requests: list[bytes] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            served = 0
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    piece = connection.recv(65_536)
                    if not piece:
                        return
                    data += piece
                self.requests.append(data)
                if not self.script(connection, data, served):
                    return
                data = b""
                served += 1

    def close(self) -> None:
        self._listener.close()

    def answers_with(self, *data: bytes, close: bool = True) -> None:
        """Send these bytes for each request, one after the other as separate pieces."""

        def script(connection: socket.socket, request: bytes, served: int) -> bool:
            for piece in data:
                connection.sendall(piece)
            return not close

        self.script = script


@pytest.fixture(scope="module")
def origin() -> Iterator[Running]:
    with upstream() as running:
        yield running


@pytest.fixture(scope="module", params=["stream", "buffered"])
def front(request: Any, origin: Running, tmp_path_factory: Any) -> Iterator[Running]:
    with proxy(tmp_path_factory.mktemp("p"), origin.port, proxy={"forwarding": request.param}) as running:
        yield running


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.close()


@pytest.fixture(scope="module")
def before_scripted(scripted: Scripted, tmp_path_factory: Any) -> Iterator[Running]:
    timeouts = {"response_s": 0.6, "header_s": 0.4, "body_s": 0.4, "idle_s": 0.8, "linger_s": 0.3}
    with proxy(tmp_path_factory.mktemp("p"), scripted.port, timeouts=timeouts) as running:
        yield running


def talk(port: int, raw: bytes, *more: bytes) -> bytes:
    """Send bytes and return everything that comes until the proxy closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(raw)
        got = b""
        for piece in more:
            got += connection.recv(65_536)
            connection.sendall(piece)
        with contextlib.suppress(ConnectionResetError):
            while data := connection.recv(65_536):
                got += data
    return got


def get(path: str = "/", version: str = "1.1", fields: str = "", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/{version}\r\nHost: app\r\nConnection: close\r\n{fields}\r\n".encode()


# Forwarding ---------------------------------------------------------------------------------------


def test_the_upstream_gets_the_request_with_where_it_came_from(front: Running) -> None:
    status, body = ask(front.port, "GET", "/echo?a=1", headers={"X-Mine": "1", "X-Forwarded-For": "192.0.2.1"})
    echo = json.loads(body)
    fields = dict(echo["headers"])
    assert (status, echo["method"], echo["target"]) == (200, "GET", "/echo?a=1")
    assert fields["x-mine"] == "1"
    assert fields["x-forwarded-for"] == "192.0.2.1, 127.0.0.1"
    assert fields["via"] == "1.1 perfkit"
    assert fields["host"] == f"127.0.0.1:{front.port}"
    assert fields["traceparent"].split("-")[1] == fields["x-proxy-trace"]
    assert "connection" not in fields


def test_the_client_learns_the_trace_id(front: Running) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    got = talk(front.port, get(fields=f"traceparent: {parent}\r\n"))
    assert b"\r\nX-Proxy-Trace: 4bf92f3577b34da6a3ce929d0e0e4736\r\n" in got


@pytest.mark.parametrize("size", [0, 1, 70_000, 1_000_000])
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_a_body_arrives_as_it_was_sent(front: Running, coding: str, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    if coding == "chunked":
        pieces = [content[at : at + 10_000] for at in range(0, size, 10_000)]
        raw = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
        head = "Transfer-Encoding: chunked\r\n"
    else:
        raw, head = content, f"Content-Length: {size}\r\n"
    got = talk(front.port, get("/echo", fields=head, method="PUT") + raw)
    assert got.startswith(b"HTTP/1.1 200 "), got[:200]
    body = got.partition(b"\r\n\r\n")[2]
    assert json.loads(body)["body"] == content.decode("latin-1")


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [0, 1000, 3_000_000])
def test_a_response_arrives_whole(front: Running, framing: str, size: int, version: str) -> None:
    got = talk(front.port, get(f"/?framing={framing}&size_bytes={size}", version))
    head, _, body = got.partition(b"\r\n\r\n")
    if b"Transfer-Encoding: chunked" in head:
        assert version == "1.1"
        content = b""
        while (line := body.partition(b"\r\n"))[0] != b"0":
            length = int(line[0], 16)
            content += line[2][:length]
            body = line[2][length + 2 :]
        body = content
    assert len(body) == size


@pytest.mark.parametrize(
    ("method", "path"),
    [("HEAD", "/?size_bytes=5"), ("GET", "/?status=204"), ("GET", "/?status=304"), ("HEAD", "/none")],
)
def test_a_response_without_content_leaves_the_connection_usable(front: Running, method: str, path: str) -> None:
    first = f"{method} {path} HTTP/1.1\r\nHost: app\r\n\r\n".encode()
    got = talk(front.port, first + get("/echo"))
    assert got.count(b"HTTP/1.1 ") == 2
    assert got.endswith(b"}\n")


def test_pipelined_requests_are_answered_in_order(front: Running) -> None:
    requests = [f"GET /echo?n={n} HTTP/1.1\r\nHost: app\r\n\r\n".encode() for n in range(50)]
    got = talk(front.port, b"".join(requests) + get("/echo?n=50"))
    targets = [json.loads(part.partition(b"\r\n\r\n")[2].strip())["target"] for part in got.split(b"HTTP/1.1 200")[1:]]
    assert targets == [f"/echo?n={n}" for n in range(51)]


def test_trailers_of_a_response_reach_a_client_that_takes_them(front: Running) -> None:
    got = talk(front.port, get("/?framing=chunked&trailer=1&size_bytes=200000", fields="TE: trailers\r\n"))
    # A body that was read whole goes out with its length, and so without trailers.
    assert got.endswith(b"X-Checksum: 42\r\n\r\n") is (b"Transfer-Encoding: chunked" in got)


def test_options_with_no_forwards_left_is_answered_here(front: Running) -> None:
    got = talk(front.port, get(method="OPTIONS", fields="Max-Forwards: 0\r\n"))
    assert got.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nAllow: " in got


def test_options_with_forwards_left_travels_on_with_one_less(front: Running) -> None:
    got = talk(front.port, get("/echo", method="OPTIONS", fields="Max-Forwards: 3\r\n"))
    assert ["max-forwards", "2"] in json.loads(got.partition(b"\r\n\r\n")[2])["headers"]


def test_a_body_larger_than_the_limit_is_refused(front: Running) -> None:
    got = talk(front.port, get(method="POST", fields=f"Content-Length: {1 << 40}\r\n"))
    assert got.startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_that_grows_beyond_the_limit_is_refused(origin: Running, tmp_path: Path) -> None:
    with proxy(tmp_path, origin.port, limits={"body_bytes": 100_000}) as running:
        body = (b"2710\r\n" + b"a" * 10_000 + b"\r\n") * 11
        got = talk(running.port, get(method="POST", fields="Transfer-Encoding: chunked\r\n") + body)
        assert got.startswith(b"HTTP/1.1 413 ")


# What upstreams do ----------------------------------------------------------------------------------


def test_interim_responses_are_passed_on(scripted: Scripted, before_scripted: Running) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    scripted.answers_with(hints, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    got = talk(before_scripted.port, get())
    assert got.startswith(hints + b"HTTP/1.1 200 OK")


def test_interim_responses_are_kept_from_a_client_of_http_1_0(scripted: Scripted, before_scripted: Running) -> None:
    scripted.answers_with(b"HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert talk(before_scripted.port, get(version="1.0")).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok", id="two-framings"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", id="two-lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\nContent-Length: 2\r\n\r\nok", id="bare-LF"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", id="a-switch-nobody-asked-for"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="a-bad-chunk-at-once"),
        pytest.param(b"HTTP/1.1 103 x\r\n\r\n" * 40, id="interim-responses-without-end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-", id="the-end-within-the-head"),
        pytest.param(b"", id="the-end-at-once"),
    ],
)
def test_a_response_that_cannot_be_believed_is_answered_502(
    data: bytes, scripted: Scripted, before_scripted: Running
) -> None:
    scripted.answers_with(data)
    got = talk(before_scripted.port, get(method="POST", fields="Content-Length: 0\r\n"))
    assert got[got.rfind(b"HTTP/1.1 ") :].startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param((b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",), id="length"),
        pytest.param((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",), id="chunked"),
    ],
)
def test_a_response_that_breaks_off_breaks_off_for_the_client_too(
    pieces: tuple[bytes, ...], scripted: Scripted, before_scripted: Running
) -> None:
    scripted.answers_with(*pieces)
    got = talk(before_scripted.port, get())
    assert got.startswith(b"HTTP/1.1 200 OK")
    assert b"abc" in got
    assert not got.endswith(b"0\r\n\r\n")


def test_bytes_after_a_response_never_become_the_next_response(scripted: Scripted, before_scripted: Running) -> None:
    smuggled = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    scripted.answers_with(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + smuggled, close=False)
    for _ in range(3):
        assert b"evil" not in talk(before_scripted.port, get())


def test_an_upstream_that_says_nothing_is_answered_504(scripted: Scripted, before_scripted: Running) -> None:
    scripted.script = lambda connection, *_: bool(connection.recv(1)) and False
    assert talk(before_scripted.port, get()).startswith(b"HTTP/1.1 504 ")


def test_an_idempotent_request_is_sent_again_when_a_kept_connection_had_died(
    scripted: Scripted, before_scripted: Running
) -> None:
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    def script(connection: socket.socket, request: bytes, served: int) -> bool:
        if served:
            return False  # closes on the second request, as a server whose patience just ended
        connection.sendall(ok)
        return True

    scripted.script = script
    assert talk(before_scripted.port, get()).endswith(b"ok")
    before = before_scripted.stats()["retries_total"]
    assert talk(before_scripted.port, get()).endswith(b"ok")
    assert before_scripted.stats()["retries_total"] == before + 1


def test_a_request_that_is_not_idempotent_is_never_sent_twice(scripted: Scripted, before_scripted: Running) -> None:
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    scripted.script = lambda connection, _, served: not served and connection.sendall(ok) is None
    assert talk(before_scripted.port, get()).endswith(b"ok")
    seen = len(scripted.requests)
    got = talk(before_scripted.port, get(method="POST", fields="Content-Length: 0\r\n"))
    assert got.startswith(b"HTTP/1.1 502 ")
    assert len(scripted.requests) == seen + 1


def test_an_early_answer_ends_the_request(scripted: Scripted, before_scripted: Running) -> None:
    scripted.answers_with(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno", close=False)
    got = talk(before_scripted.port, get(method="POST", fields="Content-Length: 1000000\r\n") + b"a" * 1000)
    assert got.startswith(b"HTTP/1.1 413 ")
    assert got.endswith(b"no")


# What clients do ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(b"GET / HT", "408", id="a-head-that-stops"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab", "408", id="a-body-that-stops"),
        pytest.param(b"", "close", id="nothing"),
    ],
)
def test_patience_with_a_client_ends(raw: bytes, status: str, scripted: Scripted, before_scripted: Running) -> None:
    scripted.script = lambda connection, *_: bool(connection.recv(100)) and bool(connection.recv(100))
    assert answers(before_scripted.port, raw, 1) == [status]


def test_a_client_that_goes_away_frees_its_upstream_connection(scripted: Scripted, before_scripted: Running) -> None:
    scripted.script = lambda connection, *_: bool(connection.recv(1)) and False
    with socket.create_connection(("127.0.0.1", before_scripted.port)) as connection:
        connection.sendall(get())
        while not before_scripted.stats()["pools"]["app"]["in_use"]:
            pass
    while before_scripted.stats()["pools"]["app"]["in_use"]:
        pass


def test_no_upstream_is_answered_502(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with proxy(tmp_path, port) as running:
        assert ask(running.port, "GET", "/")[0] == 502


def test_a_pool_that_stays_exhausted_is_answered_503(origin: Running, tmp_path: Path) -> None:
    pool = {"maximum_size": 1, "acquire_timeout_s": 0.2}
    with (
        proxy(tmp_path, origin.port, pool=pool) as running,
        socket.create_connection(("127.0.0.1", running.port)) as busy,
    ):
        busy.sendall(get("/?latency_ms=2000"))
        while not running.stats()["pools"]["app"]["in_use"]:
            pass
        assert ask(running.port, "GET", "/")[0] == 503


def test_a_path_without_a_route_is_answered_404_and_the_connection_kept(origin: Running, tmp_path: Path) -> None:
    with proxy(tmp_path, origin.port, routes=[{"upstream": "app", "prefix": "/api"}]) as running:
        refused = b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n"
        assert answers(running.port, refused * 3 + get("/api"), 4) == ["404", "404", "404", "200"]


def test_more_clients_than_allowed_are_refused(origin: Running, tmp_path: Path) -> None:
    with proxy(tmp_path, origin.port, limits={"connections": 2}) as running:
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            while running.stats()["clients"] < 2:
                pass
            assert answers(running.port, b"", 1) == ["503"]
        while running.stats()["clients"]:
            pass
        assert ask(running.port, "GET", "/")[0] == 200


def test_an_upstream_that_does_not_take_the_body_is_answered_504(scripted: Scripted, before_scripted: Running) -> None:
    gone = threading.Event()
    scripted.script = lambda *_: gone.wait(10) and False
    with socket.create_connection(("127.0.0.1", before_scripted.port), timeout=5) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000000\r\n\r\n")
        connection.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            for _ in range(1_000):
                connection.sendall(b"a" * 65_536)
        connection.settimeout(5)
        assert connection.recv(100).startswith(b"HTTP/1.1 504 ")
    gone.set()
