"""A web service over a real database that leaks connections, judged by its process id alone."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.pool_servers import free_port, postgresql

PROGRAM = Path(__file__).parents[1] / "targets" / "pools" / "fastapi_shop.py"
SECONDS = 14

pytestmark = [pytest.mark.attach, pytest.mark.slow, pytest.mark.timeout(180)]


@contextmanager
def shop(*options: str) -> Iterator[int]:
    """Yield the process id of the shop, under the load of three visitors."""
    with postgresql() as url:
        port = free_port()
        command = [sys.executable, str(PROGRAM), url, str(port), *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        stop = threading.Event()

        def visit(first: int) -> None:
            with requests.Session() as session:
                for number in range(first, first + 1500):
                    if stop.wait(0.08):
                        return
                    try:
                        if number % 4:
                            session.get(f"http://127.0.0.1:{port}/items/{number}", timeout=10)
                        else:
                            session.post(f"http://127.0.0.1:{port}/orders/{number // 4}", timeout=10)
                    except requests.ConnectionError:  # it has begun, but does not listen yet
                        continue

        visitors = [threading.Thread(target=visit, args=(1000 * number,)) for number in range(3)]
        try:
            assert process.stdout is not None
            assert process.stdout.readline().split()[:1] == ["ready"]
            for visitor in visitors:
                visitor.start()
            yield process.pid
            assert process.poll() is None
        finally:
            stop.set()
            for visitor in visitors:
                visitor.join()
            process.terminate()
            process.wait(20)
            process.stdout.close()


def findings(pid: int, folder: Path) -> dict[str, dict[str, Any]]:
    """Return what each rule says, by its name."""
    perfkit = [sys.executable, "-m", "perfkit"]
    record = [*perfkit, "record", "--pid", str(pid), "--duration", f"{SECONDS}s", "--collect", "pools", "-q", "-o"]
    subprocess.run([*record, str(folder)], check=True, timeout=120)
    answer = subprocess.run([*perfkit, "check", str(folder), "--json"], capture_output=True, text=True, timeout=60)
    return {each["rule"]: each for each in json.loads(answer.stdout)["findings"]}


def test_the_line_that_keeps_connections_is_named(tmp_path: Path) -> None:
    with shop("leak") as pid:
        said = findings(pid, tmp_path / "profile")
    leak = said["checkout_leak"]
    lines = PROGRAM.read_text().splitlines()
    assert leak["verdict"] == "fail"
    assert leak["site"]["function"] == "open_audit"
    assert "Audit(engine.connect())" in lines[leak["site"]["line"] - 1]
    assert leak["evidence"]["path"][-2].startswith("place_order")


def test_the_same_service_without_the_mistake_is_well(tmp_path: Path) -> None:
    with shop() as pid:
        said = findings(pid, tmp_path / "profile")
    assert said["checkout_leak"]["verdict"] == "pass"
    assert not [rule for rule, finding in said.items() if finding["verdict"] == "fail"]
