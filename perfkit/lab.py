"""The only place that starts the lab: upstream, proxy and load, each a process of its own.

They are found out by handshake (one line of JSON on standard output once they are ready), never by
waiting a while, and they die with the process that started them, however that one ends.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import IO, Any

from perfkit.errors import CannotRecord
from perfkit.scenarios import Scenario

_READY_S = 20.0
_STOP_S = 10.0
_HURRY_S = 2.0
_LAST_LINES = 8

# Runs before the part itself, in the same process: asks the kernel to end it when its parent dies, and
# lets any process of the same user attach to it where Yama would only let its parent (ptrace_scope 1).
# A preexec_fn could do this too, but is not safe in a process with threads such as a Jupyter kernel.
_GUARD = """
import ctypes, os, sys
prctl = ctypes.CDLL(None).prctl
prctl(1, 15)
prctl(0x59616D61, ctypes.c_ulong(-1))
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class LabFailed(CannotRecord):
    """A part of the lab did not start, or ended by itself."""

    def __init__(self, part: str, problem: str, last_lines: str, log: Path) -> None:
        super().__init__(f"the lab's {part} {problem}" + (f":\n{last_lines}" if last_lines else ""))
        self.hint = f"Its whole output is in {log}." if log.exists() else "Try again on a machine with less to do."
        self.part = part
        self.last_lines = last_lines


class Part:
    """One process of the lab, from its start to the line that says it is ready, to its end.

    The processes are children of the thread that makes them: they end with it. Make them in a
    thread that lives as long as the lab, which the main thread does.
    """

    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        self.name = name
        self._log = folder / f"{name}.stderr"
        self._lines: Queue[str | None] = Queue()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                guarded(command),
                process_group=0,  # Ctrl-C is for the recorder, which then ends the lab in order
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        assert self._process.stdout is not None
        self._reader = Thread(
            target=self._read, args=(self._process.stdout, folder / f"{name}.stdout"), name=f"lab-{name}", daemon=True
        )
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def ready(self, within_s: float = _READY_S) -> dict[str, Any]:
        """Return what the part says about itself once it is ready.

        Raises:
            LabFailed: it ended or said nothing in time.
        """
        try:
            line = self._lines.get(timeout=within_s)
        except Empty:
            raise self._failed(f"was not ready within {within_s:g} s") from None
        if line is None:
            raise self._failed(f"ended with exit code {self._process.wait()} before it was ready")
        with suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict):
                return said
        raise self._failed(f"said {line.strip()!r} instead of a line of JSON")

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def stop(self) -> list[str]:
        """End it and return the lines it said after it was ready; kills it if it does not listen."""
        for within_s in (_STOP_S, _HURRY_S):  # the first request may drain, the second one asks not to
            if self.is_running():
                self._process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(within_s)
        return self.wait(_HURRY_S)

    def wait(self, within_s: float) -> list[str]:
        """Wait for its end, which is brought about after `within_s`, and return its remaining lines."""
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_HURRY_S)
        lines = []
        with suppress(Empty):
            while (line := self._lines.get_nowait()) is not None:
                lines.append(line)
        return lines

    def _read(self, stdout: IO[str], copy: Path) -> None:
        """Keep reading what it says, so that it never waits for a reader."""
        with stdout, copy.open("w", encoding="utf-8") as file:
            for line in stdout:
                file.write(line)
                file.flush()
                self._lines.put(line)
        self._lines.put(None)

    def _failed(self, problem: str) -> LabFailed:
        """Return the error, with what the process said last."""
        with suppress(OSError):
            lines = self._log.read_text("utf-8", errors="replace").splitlines()
            return LabFailed(self.name, problem, "\n".join(lines[-_LAST_LINES:]), self._log)
        return LabFailed(self.name, problem, "", self._log)


class RunningLab:
    """A lab whose proxy and upstream are up; the load starts when it is told to."""

    def __init__(self, scenario: Scenario, folder: Path, upstream: Part, proxy: Part, ports: Mapping[str, int]) -> None:
        self.scenario = scenario
        self.folder = folder
        self.upstream_pid = upstream.pid
        self.upstream_port = ports["upstream"]
        self.proxy_pid = proxy.pid
        self.proxy_port = ports["proxy"]
        self.control_port = ports["control"]
        self.load_pid: int | None = None
        self._proxy = proxy
        self._load: Part | None = None

    def start_load(self, folder: Path, length_s: float | None = None) -> None:
        """Start the scenario's load and return once its schedule began.

        Args:
            folder: where the load writes one row per request; `perfkit.load.results.decode` reads it.
            length_s: how long it lasts unless it is stopped, in seconds; None: an hour.

        Raises:
            LabFailed: it did not start, or there is one already.
        """
        if self._load is not None and self._load.is_running():
            raise LabFailed("load", "runs already", "", self.folder)
        options = self.folder / "load.options.json"
        options.write_text(self.scenario.load.options("127.0.0.1", self.proxy_port, length_s).to_json(), "utf-8")
        self._load = Part(
            "load", module_command("perfkit.load", "--options", str(options), "-o", str(folder)), self.folder
        )
        self.load_pid = self._load.pid
        self._load.ready()

    def stop_load(self) -> dict[str, Any]:
        """End the load and return its summary; empty when none was started or it died."""
        return _summary(self._load.stop()) if self._load is not None else {}

    def wait_for_load(self, within_s: float) -> dict[str, Any]:
        """Return the summary of the load once its schedule ended; ends it after `within_s` seconds."""
        return _summary(self._load.wait(within_s)) if self._load is not None else {}

    def is_healthy(self) -> bool:
        """Whether the proxy still runs."""
        return self._proxy.is_running()


@contextmanager
def lab(scenario: Scenario, folder: Path) -> Iterator[RunningLab]:
    """Yield the reference proxy and its upstream, running as the scenario says; all ends with the context.

    The processes are ended in the order load, proxy, upstream. What they said stays in `folder`,
    beside the configuration they were given.

    Raises:
        LabFailed: a part did not start; the others are ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        upstream = Part("upstream", module_command("perfkit.proxy.upstream", *_flags(scenario.upstream)), folder)
        stack.callback(upstream.stop)
        upstream_port = _port(upstream, upstream.ready(), "port")
        config = folder / "proxy.toml"
        config.write_text(to_toml(scenario.proxy_config(f"127.0.0.1:{upstream_port}")), "utf-8")
        proxy = Part("proxy", module_command("perfkit.proxy", "--config", str(config)), folder)
        stack.callback(proxy.stop)
        said = proxy.ready()
        ports = {
            "upstream": upstream_port,
            "proxy": _port(proxy, said, "port"),
            "control": _port(proxy, said, "control_port"),
        }
        running = RunningLab(scenario, folder, upstream, proxy, ports)
        stack.callback(running.stop_load)
        yield running


def to_toml(tree: Mapping[str, Any]) -> str:
    """Return a tree of strings, numbers, booleans, lists and tables as TOML.

    >>> print(to_toml({"proxy": {"port": 0}, "faults": {"sessions": True}}))
    proxy = { "port" = 0 }
    faults = { "sessions" = true }
    <BLANKLINE>
    """
    return "".join(f"{_key(name)} = {_toml(value)}\n" for name, value in tree.items())


def _toml(value: Any) -> str:
    """Return one value as TOML; tables are written inline."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_toml(item)}" for name, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)  # TOML writes strings, numbers and booleans as JSON does


def _key(name: str) -> str:
    """Return a key, quoted where it has to be."""
    return name if name.isidentifier() else json.dumps(name)


@contextmanager
def load_on(url: str, per_s: float, folder: Path, options: Sequence[str] = ()) -> Iterator[Part]:
    """Yield a load on an address, which has begun; it lasts as long as the context, an hour at most.

    Args:
        url: where requests go.
        per_s: how many per second.
        folder: where it writes what became of them.
        options: more options of `perfkit load`.

    Raises:
        LabFailed: it could not start.
    """
    arguments = (url, "--rate", str(per_s), "--duration", "3600", "-o", str(folder), *options)
    part = Part("load", module_command("perfkit.load", *arguments), folder)
    try:
        part.ready()
        yield part
    finally:
        part.stop()


def guarded(command: Sequence[str]) -> list[str]:
    """Return a command that is asked to end when the process that starts it ends, however that happens.

    It has to begin with the path of a program.
    """
    return [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid()), *command]


def module_command(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a module with this interpreter, whatever the current folder holds."""
    return [sys.executable, "-P", "-m", name, *arguments]


def _flags(options: Mapping[str, Any]) -> list[str]:
    """Return options as command-line flags: `latency_ms = 5` is `--latency-ms 5`."""
    return [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def _port(part: Part, said: Mapping[str, Any], name: str) -> int:
    """Return a port from what a part said."""
    port = said.get(name)
    if not isinstance(port, int):
        raise LabFailed(part.name, f"did not say its {name}, only {dict(said)}", "", Path())
    return port


def _summary(lines: list[str]) -> dict[str, Any]:
    """Return the load's last words."""
    for line in reversed(lines):
        with suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict) and said.get("event") == "summary":
                return said
    return {}
