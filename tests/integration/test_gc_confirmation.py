"""An experiment's setting on processes that are started with it: no line of the program's is touched."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perfkit.attach.launch import CommandFailed
from perfkit.confirmation import Trying, confirmed
from perfkit.errors import UsageError
from perfkit.findings import Verdict
from perfkit.profile import Profile
from tests.attach_targets import eventually, interpreter, running
from tests.pool_servers import free_port

SERVICES = Path(__file__).parents[1] / "targets" / "gc" / "services"
KNEE = str(SERVICES / "above_knee.py")
SETTING = "gc.set_threshold(10000)"
SHORT = {"starts": 1, "warm_up_s": 0.5, "measure_s": 3.0}

pytestmark = [pytest.mark.attach, pytest.mark.slow, pytest.mark.timeout(150)]


@pytest.fixture(autouse=True)
def open_input(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let services live as long as they are not told to end: they end with their standard input."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monkeypatch.setattr(subprocess, "Popen", with_input(theirs))
        yield


def with_input(stdin: socket.socket) -> "type[subprocess.Popen[bytes]]":
    """Return `Popen` with a standard input that nobody writes to, unless another is given."""

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: object, **named: object) -> None:
            super().__init__(*args, **{"stdin": stdin, **named})  # type: ignore[call-overload]

    return Popen


def left_over(program: str) -> list[int]:
    """Return the processes that still run a program."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if program.encode() in words:
            found.append(int(entry.parent.name))
    return found


@contextmanager
def a_copy(folder: Path, text: str = "") -> Iterator[str]:
    """Yield a program that does what the service does and that nobody else runs, nor anybody afterwards."""
    program = folder / "service.py"
    folder.mkdir()
    for each in ("above_knee", "paced"):
        (folder / f"{each}.py").write_text((SERVICES / f"{each}.py").read_text())
    program.write_text(f"{text}\nimport above_knee\n")
    yield str(program)
    assert left_over(str(program)) == []


@pytest.mark.parametrize("version", ["3.11", "3.13"])
def test_a_setting_that_helps_holds_from_the_first_line_on(version: str, tmp_path: Path) -> None:
    note = tmp_path / "note"
    look = f"import gc, os\nopen({str(note)!r}, 'a').write(f'{{gc.get_threshold()[0]}} {{sorted(os.environ)}}\\n')"
    with a_copy(tmp_path / "app", look) as program:
        trying = Trying((str(interpreter(version)), program), **SHORT)
        found = confirmed(SETTING, 0.1, trying, tmp_path / "e")
    assert found.verdict is Verdict.PASS, found.title
    [(without, with_it)] = found.pairs
    assert without.time_ratio > 0.05 > with_it.time_ratio
    first, second = note.read_text().splitlines()
    assert first.split()[0] in ("700", "2000")
    assert second.split()[0] == "10000"
    assert "PERFKIT" not in first + second
    assert (tmp_path / with_it.profile / "manifest.json").exists()


def test_a_setting_that_does_nothing_does_not_hold(tmp_path: Path) -> None:
    with a_copy(tmp_path / "app") as program:
        trying = Trying((str(interpreter("3.11")), program), **SHORT)
        found = confirmed("gc.set_threshold(701)", 0.1, trying, tmp_path / "e")
    assert found.verdict is Verdict.FAIL, found.title


def test_a_program_that_sets_its_own_is_noticed(tmp_path: Path) -> None:
    with a_copy(tmp_path / "app", "import gc; gc.set_threshold(700, 10, 10)") as program:
        trying = Trying((str(interpreter("3.11")), program), **SHORT)
        found = confirmed(SETTING, 0.1, trying, tmp_path / "e")
    assert found.verdict is Verdict.UNDECIDED
    assert "itself changes the setting" in found.title


def test_freezing_is_done_after_the_start_up(tmp_path: Path) -> None:
    with a_copy(tmp_path / "app") as program:
        trying = Trying((str(interpreter("3.11")), program), **SHORT)
        found = confirmed("gc.freeze(); gc.set_threshold(10000)", 0.1, trying, tmp_path / "e")
    assert found.verdict is Verdict.PASS, found.title


def test_a_command_that_ends_at_once_says_so(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="exit code 3"):
        confirmed(SETTING, 0.1, Trying((sys.executable, "-c", "raise SystemExit(3)"), **SHORT), tmp_path / "e")
    assert list(tmp_path.iterdir()) == []


def test_requests_are_sent_to_where_it_answers(tmp_path: Path) -> None:
    port = free_port()
    command = (sys.executable, "-m", "perfkit.proxy.upstream", "--port", str(port))
    url = f"http://127.0.0.1:{port}/"
    found = confirmed(SETTING, 0.1, Trying(command, url, load_per_s=150.0, **SHORT), tmp_path / "e")
    assert found.verdict is Verdict.UNDECIDED
    assert "too little" in found.title
    for start in found.pairs[0]:
        assert start.p99_ms is not None
        assert start.in_force
        requests = Profile(tmp_path / start.profile).table("requests")
        assert requests.num_rows > 300
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_nothing_is_left_running_when_perfkit_is_killed(tmp_path: Path) -> None:
    with a_copy(tmp_path / "app") as program:
        command = (str(interpreter("3.11")), program)
        code = (
            "from pathlib import Path; from perfkit.confirmation import *; "
            f"confirmed({SETTING!r}, 0.1, Trying({command!r}, warm_up_s=60.0), Path({str(tmp_path / 'e')!r}))"
        )
        with subprocess.Popen([sys.executable, "-c", code]) as perfkit:
            assert eventually(lambda: left_over(program) != [], within_s=20)
            perfkit.kill()
            perfkit.wait()
        assert eventually(lambda: left_over(program) == [], within_s=10)


def test_the_live_process_is_not_taken_for_the_fresh_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer = subprocess.Popen(
            [sys.executable, "-m", "perfkit.proxy.upstream", "--port", "0"], stdout=subprocess.PIPE, text=True
        )
        try:
            assert answer.stdout is not None
            url = f"http://127.0.0.1:{json.loads(answer.stdout.readline())['port']}/"
            with pytest.raises(UsageError, match="answers at"):
                confirmed(SETTING, 0.1, Trying((sys.executable, KNEE), url, **SHORT), tmp_path / "e")
        finally:
            answer.terminate()
            answer.communicate()
        assert server.fileno() >= 0


def test_the_command_line_goes_all_the_way(tmp_path: Path) -> None:
    python = interpreter("3.11")
    with running("../gc/services/above_knee.py", python=python) as target, a_copy(tmp_path / "app") as program:
        done = subprocess.run(
            [
                sys.executable, "-m", "perfkit", "experiment", "gc", "--pid", str(target.target.pid), "--json", "-q",
                "-o", str(tmp_path / "e"), "--window", "1s", "--washout", "0.2s", "--blocks", "6",
                "--thresholds", "10000", "--confirm", f"{python} {program}", "--confirm-starts", "1",
                "--confirm-for", "3s", "--confirm-warm-up", "1s",
            ],
            capture_output=True, text=True, timeout=140, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["findings"][0]["class"] == "raise_threshold"
    assert said["confirmation"]["verdict"] == "pass", said["confirmation"]
    assert said["confirmation"]["setting"] == SETTING
