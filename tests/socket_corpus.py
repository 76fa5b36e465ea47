"""The corpus of sockets: clients over real libraries in one state each, and what must be said about each."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from perfkit.attach.target import inspect
from perfkit.findings import Finding
from perfkit.profile import Profile, ProfileWriter
from perfkit.recorder import Recorder, Settings, Silent, plan_for

PROGRAMS = Path(__file__).parent / "targets" / "sockets"
RULES = ("connection_churn", "fork_shared_socket", "synchronized_expiry", "unread_reply", "unreaped_peer_close")


@dataclass(frozen=True)
class Case:
    """A client in a state. `rule` None: it is healthy, and no rule may fail. `idle_s`: when the server closes."""

    name: str
    rule: str | None = None
    idle_s: float = 60.0


CASES = (
    Case("urllib3_burst", "unreaped_peer_close", idle_s=2.0),
    Case("requests_small_pool", "connection_churn"),
    Case("httpx_thirty", "connection_churn"),
    Case("lifetime_in_step", "synchronized_expiry"),
    Case("unread_answer", "unread_reply"),
    Case("fork_shared", "fork_shared_socket"),
    Case("urllib3_busy"),
    Case("httpx_ten"),
    Case("aiohttp_burst", idle_s=2.0),
    Case("aiohttp_forced"),
    Case("lifetime_with_jitter"),
    Case("warm_up"),
    Case("slow_download"),
    Case("long_polls"),
    Case("fork_and_close"),
    Case("fork_and_keep"),
    Case("server_closes_first"),
    Case("idle_closed_by_server", idle_s=2.0),
)


@contextmanager
def ready(program: str, *arguments: object) -> Iterator[list[str]]:
    """Yield what a program says when it is ready: its process id and more; it ends with its input."""
    command = [sys.executable, str(PROGRAMS / program), *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        words = process.stdout.readline().split()
        assert words[:1] == ["ready"], f"{arguments} did not start"
        yield words[1:]
        assert process.poll() is None, f"{arguments} ended with {process.returncode}"
        process.stdin.close()
        process.wait(10)


def recorded(folder: Path, duration_s: float, cases: Sequence[Case] = CASES) -> tuple[Profile, dict[str, int]]:
    """Return one recording of all cases at once, and the process id of each."""
    with ExitStack() as stack:
        _, *ports = stack.enter_context(ready("upstream.py", *(case.idle_s for case in cases)))
        pids = {
            case.name: int(stack.enter_context(ready("clients.py", case.name, port))[0])
            for case, port in zip(cases, ports, strict=True)
        }
        settings = Settings(
            output=folder,
            duration_s=duration_s,
            collect=("sockets",),
            options={"sockets": {"max_share": 0.3, "owners_every_s": 4.0}},
        )
        writer = stack.enter_context(_closing(ProfileWriter.create(folder)))
        recorder = Recorder(writer, settings, Silent())
        for pid in pids.values():
            recorder.add(plan_for(inspect(pid), settings))
        recorder.run()
    return recorder.finish(), pids


def failing(findings: Sequence[Finding], pid: int) -> set[str]:
    """Return the rules that fail for a process."""
    return {finding.rule for finding in findings if finding.pid == pid and finding.verdict == "fail"}


@contextmanager
def _closing(writer: ProfileWriter) -> Iterator[ProfileWriter]:
    """Yield the writer, and release its folder in the end."""
    try:
        yield writer
    finally:
        writer.close()
