"""Sockets from outside and pools from inside, of one real process: what neither alone could decide."""

import socket
import threading
import time
from pathlib import Path

import pytest

from perfkit.findings import Finding, Verdict
from perfkit.recorder import Settings
from perfkit.recordings import record_pid
from perfkit.rules import rules
from tests.proxy_processes import Running, ask, proxy, upstream
from tests.socket_corpus import ready

pytestmark = [pytest.mark.attach, pytest.mark.slow, pytest.mark.timeout(120)]


def found(pid: int, folder: Path, seconds: float, *names: str) -> dict[str, Finding]:
    """Return what rules say of a process after a recording of its sockets and pools."""
    profile = record_pid(pid, Settings(output=folder, duration_s=seconds, collect=("sockets", "pool_events")))
    return {name: rules()[name].check(profile)[0] for name in names}


def test_answers_in_connections_that_were_leaked_are_the_leaks(tmp_path: Path) -> None:
    with upstream() as behind, proxy(tmp_path, behind.port, faults={"checkout_leak": True}) as front:
        over = threading.Event()

        def visit() -> None:
            number = 0
            while not over.wait(0.05):
                ask(front.port, "GET", "/")
                number += 1
                if number % 40 == 0 and number < 200:
                    leave(front)

        visitor = threading.Thread(target=visit)
        visitor.start()
        try:
            said = found(front.pid, tmp_path / "p", 34.0, "unread_reply", "checkout_leak")
        finally:
            over.set()
            visitor.join()
    assert said["checkout_leak"].verdict is Verdict.FAIL
    assert said["unread_reply"].verdict is Verdict.PASS, said["unread_reply"].title
    assert "taken from the pool and not given back" in said["unread_reply"].title


def leave(front: Running) -> None:
    """Ask for something, and go away before the answer comes."""
    with socket.create_connection(("127.0.0.1", front.port)) as connection:
        connection.sendall(b"GET /?latency_ms=300 HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.1)


def test_a_session_for_each_request_is_churn_with_its_line(tmp_path: Path) -> None:
    with ready("upstream.py", 60.0) as (_pid, port), ready("clients.py", "requests_without_session", port) as (pid,):
        said = found(int(pid), tmp_path / "p", 12.0, "connection_churn")["connection_churn"]
    assert said.verdict is Verdict.FAIL, said.title
    assert "makes a new pool for nearly each use" in said.title
    assert said.site is not None
    assert said.site.file is not None
    assert said.site.file.endswith("clients.py")


def test_a_pool_that_is_told_to_close_is_none(tmp_path: Path) -> None:
    with ready("upstream.py", 60.0) as (_pid, port), ready("clients.py", "aiohttp_forced", port) as (pid,):
        said = found(int(pid), tmp_path / "p", 12.0, "connection_churn")["connection_churn"]
    assert said.verdict is Verdict.PASS, said.title
    assert "force_close" in said.title
