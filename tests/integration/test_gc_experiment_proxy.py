"""An experiment on the reference proxy under load: however it ends, the proxy serves on, its collector set as it was.

What the proxy says of its collector is asked of itself, over a pipe that perfkit knows nothing of.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from perfkit.attach.target import inspect
from perfkit.decode import open_profile
from perfkit.rules.gc_tuning import RULE
from tests.attach_targets import Running, eventually
from tests.collecting import ask
from tests.integration.test_gc_experiment import answering, experimenting, load_of
from tests.proxy_processes import ask as request

PROGRAM = Path(__file__).parents[1] / "targets" / "gc" / "proxy.py"
ARMS = ("--thresholds", "5000", "--freeze")
QUICK = ("--window", "0.6s", "--washout", "0.2s", "-q", "--rate", "150", *ARMS)

pytestmark = [pytest.mark.attach, pytest.mark.slow, pytest.mark.timeout(150)]


@contextmanager
def proxy(*, set_up: str = "") -> Iterator[tuple[Running, str]]:
    """Yield the proxy in front of an upstream, and its address; it must end well when it is told to."""
    with answering() as upstream:
        where = upstream.removeprefix("http://").rstrip("/")
        command = [sys.executable, "-P", str(PROGRAM), "--upstream", where]
        if set_up:
            command[1:3] = ["-P", "-c", f"{set_up}\nimport runpy, sys\nrunpy.run_path({str(PROGRAM)!r})"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            port = json.loads(process.stdout.readline())["port"]
            yield Running(process, inspect(process.pid)), f"http://127.0.0.1:{port}/"
            assert request(port, "GET", "/")[0] == 200
        finally:
            process.terminate()
            process.communicate(timeout=20)
    assert process.returncode == 0


def is_changed(target: Running, before: dict[str, Any]) -> bool:
    """Whether the experiment has both a threshold of its own and objects frozen in the process."""
    seen = ask(target, "look")
    return bool(seen["thresholds"] != before["thresholds"] and seen["frozen"] > before["frozen"])


def is_back(target: Running, before: dict[str, Any]) -> Callable[[], bool]:
    """Return what tells whether the proxy's collector is set as before."""
    return lambda: bool(ask(target, "look") == before)


@pytest.mark.parametrize(
    "set_up",
    [
        pytest.param("", id="as-it-comes"),
        pytest.param("import gc; gc.set_threshold(1234, 7, 8)", id="with-thresholds-of-its-own"),
    ],
)
def test_settings_are_back_at_the_end(set_up: str, tmp_path: Path) -> None:
    with proxy(set_up=set_up) as (target, url):
        before = ask(target, "look")
        with experimenting(target, tmp_path / "e", *QUICK, "--blocks", "2", "--load", url) as process:
            assert eventually(lambda: is_changed(target, before), within_s=60)
            _output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert ask(target, "look") == before
    profile = open_profile(tmp_path / "e")
    [finding] = RULE.check(profile)
    assert finding.evidence["experiment"]["restored"] is True
    requests = profile.sql("select count(*) as n, count(*) filter (where status = 200) as good from requests").iloc[0]
    assert requests["n"] > 500
    assert requests["good"] >= requests["n"] - 5  # those that were under way when the load was told to end


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_settings_are_back_when_the_recorder_is_told_to_end_or_killed(how: signal.Signals, tmp_path: Path) -> None:
    with proxy() as (target, url):
        before = ask(target, "look")
        with experimenting(target, tmp_path / "e", *QUICK, "--blocks", "3", "--load", url) as process:
            assert eventually(lambda: is_changed(target, before), within_s=60)
            load = load_of(process)
            assert load is not None
            process.send_signal(how)
            process.communicate(timeout=60)
            assert eventually(is_back(target, before), within_s=10)
        assert eventually(lambda: not Path(f"/proc/{load}").exists(), within_s=10), "the load must not be left behind"
        time.sleep(1.0)  # nothing is tried any more
        assert ask(target, "look") == before
    assert RULE.check(open_profile(tmp_path / "e"))[0].verdict != "fail"


def test_settings_are_back_when_the_load_dies(tmp_path: Path) -> None:
    with proxy() as (target, url):
        before = ask(target, "look")
        with experimenting(target, tmp_path / "e", *QUICK, "--blocks", "3", "--load", url) as process:
            assert eventually(lambda: is_changed(target, before), within_s=60)
            load = load_of(process)
            assert load is not None
            os.kill(load, signal.SIGKILL)
            of_gc = {name: before[name] for name in ("thresholds", "enabled", "frozen")}
            assert eventually(lambda: ask(target, "look") | of_gc == ask(target, "look"), within_s=10)
            time.sleep(1.5)
            assert ask(target, "look") | of_gc == ask(target, "look"), "nothing is tried any more"
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        assert eventually(is_back(target, before), within_s=10)
    [finding] = RULE.check(open_profile(tmp_path / "e"))
    assert "the load ended" in finding.title
