"""PostgreSQL and Redis for tests: own processes in a folder of their own, on a free port of loopback."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _program(name: str) -> str | None:
    """Return the path of a server's program, in Debian's folders too."""
    folders = [str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    return shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", ""), "/usr/bin"]))


def _answers(port: int, process: "subprocess.Popen[bytes]", within_s: float = 20.0) -> None:
    """Wait until a server listens."""
    until = time.monotonic() + within_s
    while True:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < until, "the server does not listen"
        time.sleep(0.02)


@contextmanager
def postgresql() -> Iterator[str]:
    """Yield the address of an empty database, as `postgresql://user@host:port/name`."""
    server, initdb = _program("postgres"), _program("initdb")
    if server is None or initdb is None:
        pytest.skip("PostgreSQL is not installed")
    # It refuses to run as root.
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    account = pwd.getpwnam(user)
    as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    folder = tempfile.mkdtemp(prefix="perfkit-pg-", dir="/tmp")
    port = free_port()
    try:
        os.chown(folder, account.pw_uid, account.pw_gid)
        data = f"{folder}/data"
        subprocess.run(
            [initdb, "-D", data, "-U", "shop", "-A", "trust", "-N", "--no-locale", "-E", "UTF8"],
            check=True, capture_output=True, cwd=folder, timeout=60, **as_user,
        )  # fmt: skip
        process = subprocess.Popen(
            [server, "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder, "-c", "fsync=off",
             "-c", "max_connections=200", "-c", "shared_buffers=16MB"],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_user,
        )  # fmt: skip
        try:
            _answers(port, process)
            yield f"postgresql://shop@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(2)  # fast shutdown: open connections do not delay it
            process.wait(20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def redis() -> Iterator[str]:
    """Yield the address of an empty Redis, as `redis://host:port`."""
    server = _program("redis-server")
    if server is None:
        pytest.skip("Redis is not installed")
    with tempfile.TemporaryDirectory(prefix="perfkit-redis-") as folder:
        port = free_port()
        process = subprocess.Popen(
            [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder, "--daemonize", "no"],
            stdout=subprocess.DEVNULL,
        )
        try:
            _answers(port, process)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)
