"""An experiment on the pool of a real process: the right answer, and every setting is back, however it ended."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perfkit.attach.session import Session
from perfkit.attach.target import inspect
from perfkit.collectors.pool_events import COLLECTOR as POOL_EVENTS
from perfkit.decode import open_profile
from perfkit.findings import Finding, Verdict
from perfkit.profile import Profile
from perfkit.rules.pool_tuning import RULE
from tests.attach_targets import eventually
from tests.integration.test_gc_experiment import load_of
from tests.pool_servers import postgresql
from tests.proxy_processes import Running, ask, proxy, upstream

pytestmark = [pytest.mark.attach, pytest.mark.slow, pytest.mark.timeout(180)]
PROGRAM = Path(__file__).parents[1] / "targets" / "pools" / "tunable.py"
QUICK = ("--window", "0.5s", "--washout", "0.3s", "-q")


@dataclass(frozen=True)
class Tunable:
    """A process with a pool, and a way to ask it for the settings that it sees itself."""

    pid: int
    look: Callable[[], dict[str, Any]]

    def settings(self) -> dict[str, Any]:
        """Return the settings alone: what is open changes all the time."""
        return {name: value for name, value in self.look().items() if name not in ("open", "idle")}


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgresql() as url:
        yield url


@contextmanager
def pooled(library: str, size: int, workers: int, url: str, wait_s: float = 5.0) -> Iterator[Tunable]:
    """Yield a process whose workers use a pool of that size."""
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), library, str(size), str(workers), url, str(wait_s)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None

    def look() -> dict[str, Any]:
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        return json.loads(process.stdout.readline())  # type: ignore[union-attr, no-any-return]

    try:
        assert process.stdout.readline().startswith("ready")
        yield Tunable(process.pid, look)
        assert process.poll() is None, "the target must survive everything"
    finally:
        process.kill()
        process.communicate()


@contextmanager
def experimenting(pid: int, output: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Yield a running `perfkit experiment pool`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "perfkit", "experiment", "pool", "--pid", str(pid), "-o", str(output), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finished(pid: int, output: Path, *arguments: str) -> Finding:
    """Return what an experiment that runs to its end finds."""
    with experimenting(pid, output, *arguments) as process:
        _out, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    [finding] = RULE.check(Profile(output))
    return finding


@pytest.mark.recording
@pytest.mark.parametrize(("library", "name"), [("sqlalchemy", "pool_size"), ("psycopg_pool", "max_size")])
def test_a_pool_that_is_too_small_waits_less_when_it_is_larger(
    library: str, name: str, database: str, tmp_path: Path
) -> None:
    with pooled(library, 2, 8, database) as target:
        before = target.settings()
        finding = finished(target.pid, tmp_path / "e", *QUICK, "--sizes", "10")
        assert target.settings() == before
        assert eventually(lambda: target.look()["open"] <= 2, within_s=5), "what was opened beyond is closed"
    assert finding.verdict is Verdict.FAIL
    assert finding.evidence["setting"] == f"{name}=10"
    tried = finding.evidence["experiment"]
    assert tried["settings"][f"{name}=10"]["effects"]["wait_ms"]["high"] < -5, "8 workers, 16 ms each, on 2 connections"
    assert tried["restored"] is True
    read_back = {
        row["setting"]: json.loads(row["read_back"])["settings"][name]
        for row in Profile(tmp_path / "e").table("experiment_windows").to_pylist()
    }
    assert read_back == {"as it is now": 2, "as it is now, again": 2, f"{name}=10": 10}


@pytest.mark.recording
def test_a_pool_that_is_large_enough_is_not_called_too_small(database: str, tmp_path: Path) -> None:
    with pooled("sqlalchemy", 8, 4, database) as target:
        before = target.settings()
        finding = finished(target.pid, tmp_path / "e", *QUICK, "--sizes", "6,16")
        assert target.settings() == before
    assert finding.verdict is Verdict.PASS
    assert finding.evidence["experiment"]["restored"] is True


def test_a_lifetime_that_is_too_short_for_its_use_makes_connections_anew(database: str, tmp_path: Path) -> None:
    with pooled("sqlalchemy", 4, 4, database) as target:
        before = target.settings()
        arguments = ("--lifetimes", "0.2", "--window", "0.8s", "--washout", "0.2s", "-q")
        finding = finished(target.pid, tmp_path / "e", *arguments)
        assert target.settings() == before
    effects = finding.evidence["experiment"]["settings"]["max_lifetime_s=0.2"]["effects"]
    assert effects["created_ratio"]["low"] > 0.02
    assert finding.verdict is Verdict.PASS, "nothing is better than what it has"


@pytest.mark.parametrize(
    "how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["ctrl-c", "terminated", "recorder-killed"]
)
@pytest.mark.parametrize("library", ["sqlalchemy", "psycopg_pool"])
def test_settings_are_back_when_it_is_cut_off(how: signal.Signals, library: str, database: str, tmp_path: Path) -> None:
    with pooled(library, 2, 8, database) as target:
        before = target.settings()
        with experimenting(target.pid, tmp_path / "e", *QUICK, "--sizes", "10") as process:
            assert eventually(lambda: target.settings() != before, within_s=60)
            process.send_signal(how)
            process.communicate(timeout=60)
            assert eventually(lambda: target.settings() == before, within_s=10)
            assert eventually(lambda: target.look()["open"] <= 2, within_s=5)
    assert not [finding for finding in RULE.check(open_profile(tmp_path / "e")) if finding.verdict is Verdict.FAIL]


@contextmanager
def proxied(folder: Path, size: int, latency_ms: float) -> Iterator[Running]:
    """Yield the reference proxy with a pool of that size to an upstream that takes that long."""
    pool = {"maximum_size": size, "maximum_lifetime_s": 900.0}
    with upstream(latency_ms=latency_ms) as behind:
        upstreams = {"app": {"address": f"127.0.0.1:{behind.port}", "pool": pool}}
        with proxy(folder, behind.port, upstreams=upstreams) as front:
            yield front


def size_of(front: Running) -> int:
    """Return the size of the proxy's pool, as the proxy says."""
    return int(front.stats()["pools"]["app"]["maximum"])


@pytest.mark.recording
def test_requests_through_the_proxy_feel_the_size_of_its_pool(tmp_path: Path) -> None:
    # One connection is busy for about half of the time: closer to saturation a hiccup of the machine outlasts a window.
    with proxied(tmp_path, 1, 4) as front:
        arguments = ("--sizes", "8", "--window", "1.8s", "--washout", "0.4s", "-q")
        load = ("--load", f"http://127.0.0.1:{front.port}/", "--rate", "120")
        finding = finished(front.pid, tmp_path / "e", *arguments, *load)
        assert size_of(front) == 1
    assert finding.verdict is Verdict.FAIL
    assert finding.evidence["experiment"]["settings"]["max_size=8"]["effects"]["wait_ms"]["high"] < 0
    assert finding.evidence["setting"] == "max_size=8"
    assert finding.evidence["experiment"]["restored"] is True


def test_the_proxy_has_its_size_back_when_the_load_dies(tmp_path: Path) -> None:
    with proxied(tmp_path, 4, 2) as front:
        load = ("--load", f"http://127.0.0.1:{front.port}/", "--rate", "50")
        with experimenting(front.pid, tmp_path / "e", *QUICK, "--sizes", "9", *load) as process:
            assert eventually(lambda: size_of(front) == 9, within_s=60)
            died = load_of(process)
            assert died is not None
            os.kill(died, signal.SIGKILL)
            assert eventually(lambda: size_of(front) == 4, within_s=10)
            time.sleep(1.5)  # it must stay so: nothing is tried any more
            assert size_of(front) == 4
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
    [finding] = RULE.check(open_profile(tmp_path / "e"))
    assert "the load ended" in finding.title
    assert finding.verdict is Verdict.UNDECIDED


def test_a_setting_that_cannot_be_changed_is_refused_with_the_reason(database: str, tmp_path: Path) -> None:
    with pooled("sqlalchemy", 4, 1, database) as target:
        with experimenting(target.pid, tmp_path / "e", *QUICK, "--idle-times", "10") as process:
            _out, errors = process.communicate(timeout=60)
        assert process.returncode == 3
        assert "SQLAlchemy has no time for idle connections" in errors
        with experimenting(target.pid, tmp_path / "e", *QUICK, "--lifetimes", "30") as process:
            _out, errors = process.communicate(timeout=60)
        assert process.returncode == 2
        assert "cannot show a time of 30 s" in errors
    assert not (tmp_path / "e").exists()


@contextmanager
def in_hand(target: Tunable, folder: Path, **limits: Any) -> Iterator[Session]:
    """Yield a session that can change the pool of a process."""
    parts: dict[str, Any] = POOL_EVENTS.parts()
    with Session.open(inspect(target.pid)) as session:
        session.start("pools", stream=folder / "pools", every_s=0.1, **parts)
        session.start("pool_settings", stream=folder / "rows", **limits)
        yield session


def test_a_pool_that_opens_too_much_is_put_back_at_once(database: str, tmp_path: Path) -> None:
    with (
        pooled("sqlalchemy", 2, 8, database) as target,
        in_hand(target, tmp_path, pool="sqlalchemy QueuePool", max_open=4) as session,
    ):
        before = target.settings()
        session.call("pool_settings", values={"size": 10})
        assert eventually(lambda: target.settings() == before, within_s=5)
        told = session.call("pool_settings", values={"size": 10})
        assert "more than 4 connections were open" in told["ended"]
        assert target.settings() == before, "nothing is tried any more"


def test_acquisitions_that_fail_end_it(database: str, tmp_path: Path) -> None:
    with (
        pooled("psycopg_pool", 20, 60, database, wait_s=0.05) as target,
        in_hand(target, tmp_path, pool="psycopg_pool pool-1") as session,
    ):
        before = target.settings()
        session.call("pool_settings", values={})
        session.call("pool_settings", values={"size": 1})
        assert eventually(lambda: target.settings() == before, within_s=10)
        assert "acquisitions failed" in session.call("pool_settings", keep=True)["ended"]


def test_what_the_program_sets_itself_is_respected(tmp_path: Path) -> None:
    with proxied(tmp_path, 4, 2) as front:
        ask(front.port, "GET", "/")
        target = Tunable(front.pid, dict)
        [name] = [each["name"] for each in pools_in(front)]
        with in_hand(target, tmp_path, pool=name) as session:
            assert session.call("pool_settings", values={"size": 9})["settings"]["max_size"] == 9
            front.control("PATCH", "/settings", {"pool": {"maximum_size": 7}})
            told = session.call("pool_settings", values={"size": 11})
            assert "itself" in told["ended"]
        assert size_of(front) == 7


def pools_in(front: Running) -> list[dict[str, Any]]:
    """Return the pools of the proxy as an experiment finds them."""
    parts: dict[str, Any] = POOL_EVENTS.parts()
    with Session.open(inspect(front.pid)) as session:
        session.start("pools", **parts)
        session.start("pool_settings")
        found: list[dict[str, Any]] = session.call("pool_settings", look={})
        return found
