"""Each planted fault does, in the real proxy, what its ground truth says; without faults nothing stays."""

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfkit.proxy.faults import FAULTS
from tests.proxy_processes import Running, proxy, upstream

BURST = 200


@pytest.fixture(scope="module")
def origin() -> Iterator[Running]:
    with upstream() as running:
        yield running


def burst(running: Running, requests: int = BURST, body: bytes = b"a" * 3000) -> None:
    """Send requests, each with a body, on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    for number in range(requests):
        connection.request("POST", f"/items/{number}", body)
        connection.getresponse().read()
    connection.close()


HOLDING = [name for name, fault in FAULTS.items() if fault.held_by and name != "checkout_leak"]


@pytest.mark.parametrize("name", HOLDING)
def test_each_request_leaves_something_behind(name: str, origin: Running, tmp_path: Path) -> None:
    with proxy(tmp_path, origin.port, faults={name: True}) as running:
        burst(running)
        running.control("POST", "/collect")
        left = running.control("GET", "/faults")["left_behind"]
        assert left == {**dict.fromkeys(left, 0), name: BURST}
        running.control("PUT", "/faults", {name: False})
        burst(running, 10)
        assert running.control("GET", "/faults")["left_behind"][name] == BURST, "switched off, it grows no more"


@pytest.mark.parametrize("name", ["request_bodies", "sessions", "decoder_cache", "forgotten_tasks"])
def test_what_is_left_behind_has_the_size_that_was_asked_for(name: str, origin: Running, tmp_path: Path) -> None:
    size, requests = 20_000, 1_000
    with proxy(tmp_path, origin.port) as running:
        burst(running, requests, b"a" * size)
        running.control("PUT", "/faults", {name: {"size_bytes": size}})
        before = running.rss_bytes()
        burst(running, requests, b"a" * size)
        grown = running.rss_bytes() - before
        assert 0.9 < grown / (size * requests) < 1.3


def test_cyclic_garbage_is_there_until_it_is_collected(origin: Running, tmp_path: Path) -> None:
    with proxy(tmp_path, origin.port, faults={"cyclic_garbage": True}) as running:
        running.control("POST", "/collect")
        burst(running, 50)
        first = running.control("POST", "/collect")["unreachable"]
        assert first >= 50 * 3  # a context, its list and its span each
        assert running.control("POST", "/collect")["unreachable"] < 50


def test_a_client_that_aborts_leaves_its_connection_checked_out(origin: Running, tmp_path: Path) -> None:
    pool = {"leak_detection_s": 0.2}
    with proxy(tmp_path, origin.port, faults={"checkout_leak": True}, pool=pool) as running:
        burst(running, 3)
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", running.port)) as connection:
                leaked = running.stats()["pools"]["app"]["in_use"]
                connection.sendall(b"GET /?latency_ms=200 HTTP/1.1\r\nHost: a\r\n\r\n")
                while running.stats()["pools"]["app"]["in_use"] == leaked:
                    pass
        while running.stats()["clients"]:
            pass
        burst(running, 3)
        while running.stats()["pools"]["app"]["suspected"] < 3:
            pass
        assert running.stats()["pools"]["app"]["in_use"] == 3


def test_manual_collect_collects_after_each_request(origin: Running, tmp_path: Path) -> None:
    with proxy(tmp_path, origin.port, faults={"manual_collect": True}) as running:
        burst(running, 20)
        # Nothing is left to collect but what the two control requests made.
        assert running.control("POST", "/collect")["unreachable"] < 100


@pytest.mark.parametrize("forwarding", ["stream", "buffered"])
def test_a_healthy_proxy_keeps_nothing(forwarding: str, origin: Running, tmp_path: Path) -> None:
    with proxy(tmp_path, origin.port, proxy={"forwarding": forwarding}) as running:
        burst(running, 2_000)
        before = running.rss_bytes()
        burst(running, 3_000)
        assert running.rss_bytes() - before < 256 * 1024, "under 90 bytes per request"
        assert not any(running.control("GET", "/faults")["left_behind"].values())
        assert running.control("POST", "/collect")["unreachable"] < 200, "requests leave no cycles"
