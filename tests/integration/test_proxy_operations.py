"""Running the real proxy: memory under slow readers, drain, reload, control, pool life-cycle."""

import contextlib
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.proxy_processes import Running, ask, proxy, started, toml, upstream

MIB = 1 << 20


@pytest.fixture(scope="module")
def origin() -> Iterator[Running]:
    with upstream() as running:
        yield running


def until(condition: Callable[[], Any], within_s: float = 10.0) -> Any:
    """Return the first true value of `condition`."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
    return value


def send_until_stuck(connection: socket.socket, data: bytes) -> None:
    """Send again and again until nothing more is taken."""
    with contextlib.suppress(TimeoutError):
        for _ in range(100_000):
            connection.sendall(data)
        pytest.fail("everything was taken")


# Memory -------------------------------------------------------------------------------------------


def test_it_is_small_when_idle(origin: Running, tmp_path: Path) -> None:
    with proxy(tmp_path, origin.port) as running:
        ask(running.port, "GET", "/")
        # Half of what Envoy takes, see benchmarks/proxy_peers.py.
        assert running.rss_bytes() < 31 * MIB


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_slow_reader_costs_no_memory(framing: str, origin: Running, tmp_path: Path) -> None:
    size = 64 * MIB
    with proxy(tmp_path, origin.port) as running:
        ask(running.port, "GET", f"/?size_bytes={MIB}&framing={framing}")
        before = running.rss_bytes()
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            connection.sendall(f"GET /?size_bytes={size}&framing={framing} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            taken = len(connection.recv(1000))
            moved = -1
            while moved != (moved := running.stats()["response_body_bytes_total"]):
                time.sleep(0.1)  # until nothing moves any more
            assert running.rss_bytes() - before < 2 * MIB
            while taken < size:
                taken += len(connection.recv(MIB))
        assert running.rss_bytes() - before < 4 * MIB


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_many_slow_readers_cost_little_each_and_get_what_was_sent(
    framing: str, origin: Running, tmp_path: Path
) -> None:
    size, clients = 8 * MIB, 30
    path = f"/?size_bytes={size}&framing={framing}"
    with proxy(tmp_path, origin.port) as running, contextlib.ExitStack() as stack:
        status, whole = ask(running.port, "GET", path)
        assert (status, len(whole)) == (200, size)
        before = running.rss_bytes()
        readers = [http.client.HTTPConnection("127.0.0.1", running.port, timeout=20) for _ in range(clients)]
        for reader in readers:
            stack.callback(reader.close)
            reader.request("GET", path)
        moved = -1
        while moved != (moved := running.stats()["response_body_bytes_total"]):
            time.sleep(0.1)  # until nothing moves any more
        assert running.rss_bytes() - before < clients * 450_000
        for reader in readers:
            assert reader.getresponse().read() == whole
            reader.request("GET", "/?size_bytes=5")
            assert len(reader.getresponse().read()) == 5
        assert running.stats()["pools"]["app"]["in_use"] == 0


def test_a_slow_upstream_costs_no_memory(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as slow, proxy(tmp_path, slow.getsockname()[1]) as running:
        before = running.rss_bytes()
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.settimeout(0.5)
            connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (60 * MIB))
            send_until_stuck(connection, b"a" * 65_536)
            assert running.rss_bytes() - before < 2 * MIB


def test_a_client_that_pipelines_without_reading_gets_no_further(origin: Running, tmp_path: Path) -> None:
    with proxy(tmp_path, origin.port) as running:
        ask(running.port, "GET", "/")
        before = running.rss_bytes()
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.settimeout(0.5)
            send_until_stuck(connection, b"GET /?size_bytes=60000 HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
            assert running.rss_bytes() - before < 3 * MIB


# Drain --------------------------------------------------------------------------------------------


def test_a_request_under_way_ends_before_the_proxy_does(origin: Running, tmp_path: Path) -> None:
    with proxy(tmp_path, origin.port) as running:
        idle = socket.create_connection(("127.0.0.1", running.port), timeout=10)
        busy = socket.create_connection(("127.0.0.1", running.port), timeout=10)
        with idle, busy:
            until(lambda: running.stats()["clients"] == 2)
            busy.sendall(b"GET /?latency_ms=300 HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: running.stats()["pools"]["app"]["in_use"])
            running.process.send_signal(signal.SIGTERM)
            assert idle.recv(1) == b"", "an idle connection is closed"
            answer = b""
            while data := busy.recv(65_536):
                answer += data
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"\r\nConnection: close\r\n" in answer
        assert running.process.wait(10) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", running.port))


def test_a_drain_does_not_last_for_ever(origin: Running, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(proxy(tmp_path, origin.port, timeouts={"drain_s": 0.3}))
        with socket.create_connection(("127.0.0.1", running.port)) as busy:
            busy.sendall(b"GET /?latency_ms=20000 HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: running.stats()["pools"]["app"]["in_use"])
            assert running.control("POST", "/drain") == {"draining": True}
            assert ask(running.control_port, "GET", "/health")[0] == 503
            assert running.process.wait(5) == 0


def test_a_second_signal_ends_it_at_once(origin: Running, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(proxy(tmp_path, origin.port))
        with socket.create_connection(("127.0.0.1", running.port)) as busy:
            busy.sendall(b"GET /?latency_ms=20000 HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: running.stats()["pools"]["app"]["in_use"])
            running.process.send_signal(signal.SIGTERM)
            until(lambda: running.stats()["draining"])
            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(5) == 0


# Reload -------------------------------------------------------------------------------------------


def rewrite(folder: Path, **tables: Any) -> None:
    (folder / "proxy.toml").write_text(toml(tables))


def test_a_reload_changes_where_requests_go_and_drops_no_connection(origin: Running, tmp_path: Path) -> None:
    with upstream(status=299) as other, proxy(tmp_path, origin.port) as running:
        kept = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
        busy = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
        try:
            kept.request("GET", "/")
            assert kept.getresponse().read()
            busy.request("GET", "/?latency_ms=500")
            until(lambda: running.stats()["pools"]["app"]["in_use"])
            rewrite(tmp_path, upstreams={"app": {"address": f"127.0.0.1:{other.port}"}})
            running.process.send_signal(signal.SIGHUP)
            until(lambda: running.stats()["reloads_total"])
            kept.request("GET", "/")
            assert kept.getresponse().status == 299
            assert busy.getresponse().status == 200
        finally:
            kept.close()
            busy.close()
        assert running.stats()["connections_total"] == 2


def test_a_reload_keeps_the_pool_of_an_upstream_that_stays(origin: Running, tmp_path: Path) -> None:
    with proxy(tmp_path, origin.port) as running:
        ask(running.port, "GET", "/")
        rewrite(tmp_path, upstreams={"app": {"address": f"127.0.0.1:{origin.port}"}}, pool={"maximum_size": 7})
        assert running.control("POST", "/reload") == {"reloaded": True, "needs_restart": []}
        pool = running.stats()["pools"]["app"]
        assert (pool["idle"], pool["maximum"]) == (1, 7)


def test_a_bad_configuration_is_not_put_into_force(origin: Running, tmp_path: Path) -> None:
    with proxy(tmp_path, origin.port) as running:
        rewrite(tmp_path, upstreams={"app": {"address": "nonsense"}})
        status, body = ask(running.control_port, "POST", "/reload")
        assert status == 400
        assert "upstreams.app.address" in json.loads(body)["error"]
        running.process.send_signal(signal.SIGHUP)
        assert ask(running.port, "GET", "/")[0] == 200


def test_a_port_cannot_change_without_a_restart(origin: Running, tmp_path: Path) -> None:
    with proxy(tmp_path, origin.port) as running:
        rewrite(tmp_path, upstreams={"app": {"address": f"127.0.0.1:{origin.port}"}}, proxy={"port": 1})
        assert running.control("POST", "/reload")["needs_restart"] == ["port"]


# Control ------------------------------------------------------------------------------------------


def test_settings_change_on_the_running_process(origin: Running, tmp_path: Path) -> None:
    with proxy(tmp_path, origin.port) as running:
        changed = running.control(
            "PATCH", "/settings", {"forwarding": "buffered", "pool": {"maximum_size": 3}, "limits": {"body_bytes": 10}}
        )
        assert changed["forwarding"] == "buffered"
        assert running.stats()["pools"]["app"]["maximum"] == 3
        assert ask(running.port, "POST", "/", b"a" * 11)[0] == 413


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("GET", "/nothing", None, 404, "/stats"),
        ("DELETE", "/stats", None, 405, "GET"),
        ("PATCH", "/settings", b'{"pool": {"max_size": 1}}', 400, "maximum_size"),
        ("PATCH", "/settings", b'{"routes": []}', 400, "cannot be changed"),
        ("PATCH", "/settings", b'{"pool": 3}', 400, "pool: is not a table"),
        ("PATCH", "/settings", b'{"forwarding": 3}', 400, "not a string"),
        ("PUT", "/faults", b'{"session": true}', 400, "sessions"),
        ("PUT", "/faults", b"[1]", 400, "JSON object"),
        ("PUT", "/faults", b"{", 400, "JSON object"),
    ],
)
def test_the_control_endpoint_says_what_it_does_not_take(
    method: str, path: str, body: bytes | None, status: int, said: str, origin: Running, tmp_path: Path
) -> None:
    with proxy(tmp_path, origin.port) as running:
        got, answer = ask(running.control_port, method, path, body)
        assert (got, said in json.loads(answer)["error"]) == (status, True), answer


def test_a_web_page_cannot_call_the_control_endpoint_by_another_name(origin: Running, tmp_path: Path) -> None:
    with proxy(tmp_path, origin.port) as running:
        assert ask(running.control_port, "GET", "/stats", headers={"Host": "evil.example:80"})[0] == 421


@pytest.mark.parametrize(
    ("text", "said"),
    [("upstreams = 3", "upstreams: is not a table"), ("[upstreamz]", "did you mean 'upstreams'"), ("[", "is not TOML")],
)
def test_a_configuration_that_cannot_be_used_ends_with_exit_code_2(text: str, said: str, tmp_path: Path) -> None:
    import subprocess
    import sys

    config = tmp_path / "proxy.toml"
    config.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "perfkit.proxy", "--config", str(config)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, said in done.stderr, done.stdout) == (2, True, ""), done.stderr


def test_a_file_is_not_needed_for_one_upstream(origin: Running) -> None:
    command = ("-m", "perfkit.proxy", "--upstream", f"127.0.0.1:{origin.port}", "--fault", "sessions")
    with started(*command) as running:
        assert ask(running.port, "GET", "/")[0] == 200
        assert running.control("GET", "/faults")["left_behind"]["sessions"] == 1
        assert ask(running.control_port, "POST", "/reload")[0] == 400, "there is nothing to read again"


def test_it_runs_on_the_loop_of_the_standard_library_too(origin: Running, tmp_path: Path) -> None:
    config = tmp_path / "proxy.toml"
    config.write_text(toml({"upstreams": {"app": {"address": f"127.0.0.1:{origin.port}"}}}))
    environment = {**os.environ, "PERFKIT_LOOP": "asyncio"}
    with started("-m", "perfkit.proxy", "--config", str(config), env=environment) as running:
        for size in (10, 3_000_000):
            assert len(ask(running.port, "GET", f"/?size_bytes={size}")[1]) == size
        assert running.terminate() == 0


# The pool's life-cycle, for real ----------------------------------------------------------------------


def test_connections_are_replaced_at_the_end_of_their_life_and_checked_while_idle(tmp_path: Path) -> None:
    pool = {"minimum_idle": 2, "maximum_lifetime_s": 0.4, "keepalive_s": 0.1, "housekeeping_s": 0.05}
    with upstream() as origin, proxy(tmp_path, origin.port, pool=pool) as running:
        until(lambda: running.stats()["pools"]["app"]["closed_by"].get("lifetime", 0) >= 4)
        settings = json.loads(ask(origin.port, "GET", "/settings")[1])
        assert settings["requests_total"] > 4, "idle connections are checked"
        assert running.stats()["pools"]["app"]["closed_by"].keys() == {"lifetime"}


def test_an_upstream_that_closes_after_each_request_is_seen_as_churn(tmp_path: Path) -> None:
    with upstream(requests_per_connection=1) as origin, proxy(tmp_path, origin.port) as running:
        for _ in range(5):
            assert ask(running.port, "GET", "/")[0] == 200
        pool = running.stats()["pools"]["app"]
        assert (pool["created_total"], pool["closed_by"]) == (5, {"response": 5})


def test_an_upstream_that_closes_idle_connections_is_noticed_at_once(tmp_path: Path) -> None:
    with upstream(idle_ms=100) as origin, proxy(tmp_path, origin.port) as running:
        ask(running.port, "GET", "/")
        until(lambda: running.stats()["pools"]["app"]["closed_by"] == {"peer": 1})
        assert running.stats()["pools"]["app"]["total"] == 0


def test_a_slow_request_is_suspected_of_a_leak_until_it_ends(origin: Running, tmp_path: Path) -> None:
    with proxy(tmp_path, origin.port, pool={"leak_detection_s": 0.1}) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as busy:
            busy.sendall(b"GET /slow?latency_ms=1000 HTTP/1.1\r\nHost: a\r\n\r\n")
            [suspect] = until(lambda: running.stats()["pools"]["app"]["suspects"])
            assert "GET /slow" in suspect["holder"]
            busy.recv(100)
        pool = running.stats()["pools"]["app"]
        assert pool["suspects"] == []
        assert [s["returned"] for s in pool["returned_suspects"]] == [True]
