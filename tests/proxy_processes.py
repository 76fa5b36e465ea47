"""Real processes for the proxy's tests: the proxy, its upstream, nginx, and an upstream that takes notes."""

import contextlib
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NGINX = shutil.which("nginx") or ("/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else None)


class Running:
    """A process that said it is ready."""

    def __init__(self, process: "subprocess.Popen[str]", said: Mapping[str, Any]) -> None:
        self.process = process
        self.pid = process.pid
        self.port: int = said["port"]
        self.control_port: int = said.get("control_port", 0)

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON answer of the control endpoint."""
        status, answer = ask(self.control_port, method, path, None if body is None else json.dumps(body).encode())
        assert status == 200, (status, answer)
        return json.loads(answer)

    def stats(self) -> Any:
        return self.control("GET", "/stats")

    def rss_bytes(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]

    def terminate(self) -> int:
        """Ask it to end and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


def ask(
    port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """Return status and content of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()


@contextlib.contextmanager
def started(*command: str, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Yield a process of perfkit's lab, once it says that it is ready; it may not have failed inside when it ends."""
    complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read and closed at the end
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", *command], stdout=subprocess.PIPE, stderr=complaints, text=True, env=env
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"{command} ended with {process.wait()}"
        yield Running(process, json.loads(line))
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert process.stdout is not None
        process.stdout.close()
        with complaints:
            complaints.seek(0)
            said = complaints.read()
            # The fault `descriptors` is to be noticed, also by the interpreter.
            said = re.sub(r".*ResourceWarning: unclosed file <_io.FileIO name='/dev/null'.*", "", said)
    assert not re.search(r"Traceback|Exception|Warning|Error", said), said


@contextlib.contextmanager
def upstream(**settings: Any) -> Iterator[Running]:
    """Yield the lab's upstream."""
    flags = [word for key, value in settings.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    with started("-m", "perfkit.proxy.upstream", *flags) as running:
        yield running


def toml(tree: Mapping[str, Any], where: str = "") -> str:
    """Return a tree of tables as TOML."""
    values = [f"{k} = {json.dumps(v)}" for k, v in tree.items() if not isinstance(v, Mapping | list)]
    tables = []
    for key, value in tree.items():
        name = f"{where}{key}"
        if isinstance(value, Mapping):
            tables.append(f"[{name}]\n{toml(value, name + '.')}")
        elif isinstance(value, list):
            tables += [f"[[{name}]]\n{toml(entry, name + '.')}" for entry in value]
    return "\n".join([*values, *tables])


@contextlib.contextmanager
def proxy(folder: Path, upstream_port: int, **tables: Any) -> Iterator[Running]:
    """Yield the proxy in front of one upstream; `folder` keeps its configuration as proxy.toml."""
    tree = {"upstreams": {"app": {"address": f"127.0.0.1:{upstream_port}"}}, **tables}
    config = folder / "proxy.toml"
    config.write_text(toml(tree))
    with started("-m", "perfkit.proxy", "--config", str(config)) as running:
        yield running


@contextlib.contextmanager
def nginx(folder: Path, upstream_port: int) -> Iterator[int]:
    """Yield the port of an nginx that passes everything on, one process."""
    assert NGINX is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    parts = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{part}_temp_path {folder}/{part};\n" for part in parts)
    config = folder / "nginx.conf"
    config.write_text(f"""
        daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 512; }}
        http {{
            access_log off; {paths}
            upstream app {{ server 127.0.0.1:{upstream_port}; keepalive 32; }}
            server {{
                listen 127.0.0.1:{port};
                location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }}
            }}
        }}
    """)
    process = subprocess.Popen([NGINX, "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:  # nginx has no handshake: it is ready when it accepts
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            assert time.monotonic() < deadline, "nginx did not start"
            assert process.poll() is None, (folder / "error.log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(10)


class Recorder:
    """An upstream of the plainest kind, which notes what it was sent: `POST+CL`, `GET`, `POST+TE+PART`."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.heads: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def take(self) -> list[str]:
        """Return what was seen since the last time."""
        seen, self.seen = self.seen, []
        return seen

    def close(self) -> None:
        """Stop."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as stream:
            while self._serve_one(connection, stream):
                pass

    def _serve_one(self, connection: socket.socket, stream: Any) -> bool:
        lines = []
        while (line := stream.readline()) not in (b"\r\n", b"\n", b""):
            lines.append(line)
        if not lines:
            return False
        self.heads.append(b"".join(lines))
        method = lines[0].split()[0].decode("latin-1")
        fields = {n.strip().lower(): v.strip() for n, _, v in (ln.partition(b":") for ln in lines[1:])}
        if b"expect" in fields:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        word, whole = method, True
        if b"transfer-encoding" in fields:
            word += "+TE"
            whole = self._read_chunks(stream)
        elif int(fields.get(b"content-length", b"0")):
            word += "+CL"
            whole = len(stream.read(int(fields[b"content-length"]))) == int(fields[b"content-length"])
        self.seen.append(word if whole else word + "+PART")
        if not whole:
            return False
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if method == "HEAD" else b"ok"))
        return lines[0].rstrip().endswith(b"1.1")

    def _read_chunks(self, stream: Any) -> bool:
        while True:
            size = stream.readline()
            if not size.endswith(b"\r\n"):
                return False
            if int(size, 16) == 0:
                while (line := stream.readline()) not in (b"\r\n", b""):
                    pass
                return bool(line)
            if len(stream.read(int(size, 16) + 2)) < int(size, 16) + 2:
                return False


@contextlib.contextmanager
def recorder() -> Iterator[Recorder]:
    """Yield a recording upstream."""
    server = Recorder()
    try:
        yield server
    finally:
        server.close()


_STATUS = re.compile(rb"HTTP/1\.[01] (\d\d\d)[^\r\n]*\r\n")


def answers(port: int, raw: bytes, expected: int, patience_s: float = 5.0) -> list[str]:
    """Return the statuses that come back for raw bytes; `wait` if nothing comes, `close` if only the end does.

    Args:
        port: where to send.
        raw: what to send.
        expected: number of answers to wait for; a little longer, to see if more come.
        patience_s: when to give up.
    """
    got = b""
    statuses: list[str] = []
    with socket.create_connection(("127.0.0.1", port), timeout=patience_s) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(raw)
        while True:
            try:
                data = connection.recv(65_536)
            except TimeoutError:
                return statuses or ["wait"]
            except ConnectionResetError:
                return statuses or ["close"]
            got += data
            statuses = [found.decode() for found in _STATUS.findall(got)]
            if not data:
                return statuses or ["close"]
            if len(statuses) >= expected:
                connection.settimeout(0.05)


def outcome(port: int, raw: bytes, seen: Recorder, expected: str) -> str:
    """Return what came back and what reached the upstream, in the words of `framing_cases.py`."""
    seen.take()
    statuses = answers(port, raw, expected.partition(">")[0].count("/") + 1)
    words = seen.take()
    if "PART" in expected and not words:
        deadline = time.monotonic() + 2
        while not (words := seen.take()) and time.monotonic() < deadline:
            time.sleep(0.01)
    return "/".join(statuses) + (">" + ",".join(words) if words else "")
