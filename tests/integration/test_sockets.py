"""Sockets of real processes, seen from outside."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from perfkit.attach.target import inspect_any
from perfkit.checks import check
from perfkit.collectors.sockets import COLLECTOR
from perfkit.errors import CannotRecord
from perfkit.recorder import Settings
from perfkit.recordings import record_pid
from tests.proxy_processes import NGINX, nginx
from tests.socket_corpus import ready
from tests.socket_recordings import Watched, obedient, upstream, watching

pytestmark = [pytest.mark.attach, pytest.mark.timeout(60)]
ways = pytest.mark.parametrize("netlink", [pytest.param(True, id="netlink"), pytest.param(False, id="proc")])


@ways
def test_states_and_queues_are_those_the_kernel_has(tmp_path: Path, netlink: bool) -> None:
    with upstream() as (server, port), obedient() as process:
        process.ask("connect", port, 3)
        accepted = [server.accept()[0] for _ in range(3)]
        accepted[0].send(b"unread")
        accepted[1].close()
        with watching(process.pid, tmp_path, netlink=netlink) as watched:
            watched.until(lambda: sorted(watched.states().values()) == ["close_wait", "established", "established"])
            told = {c.laddr.port: c.status for c in psutil.Process(process.pid).net_connections("tcp")}
        rows = watched.tables()["sockets"]
        assert {int(row["local"].rpartition(":")[2]): row["state"].upper() for row in rows} == told
        assert {row["peer"] for row in rows} == {f"127.0.0.1:{port}"}
        assert {row["role"] for row in rows} == {"upstream"}
        assert {row["recv_q_bytes"] for row in rows if row["state"] == "established"} == {0, 6}
        descriptors = {row["descriptor"]: row["inode"] for row in rows}
        for descriptor, inode in descriptors.items():
            assert os.readlink(f"/proc/{process.pid}/fd/{descriptor}") == f"socket:[{inode}]"
        for each in accepted:
            each.close()


def test_what_it_accepted_is_downstream_and_what_it_opened_is_upstream(tmp_path: Path) -> None:
    with upstream() as (_server, port), obedient() as process:
        with watching(process.pid, tmp_path) as watched:
            own_port = process.ask("listen")
            watched.until(lambda: watched.states("listening"))
            with socket.create_connection(("127.0.0.1", own_port)) as client:
                process.ask("accept")
                process.ask("connect", port)
                watched.until(lambda: watched.states("downstream") and watched.states("upstream"))
                downstream = watched.events(event="birth", role="downstream")
                assert [row["peer"] for row in downstream] == [f"127.0.0.1:{client.getsockname()[1]}"]
        assert [row["local"] for row in watched.events(role="listening")] == [f"127.0.0.1:{own_port}"]


def test_births_and_deaths_lie_in_the_time_they_are_said_to(tmp_path: Path) -> None:
    with upstream() as (_server, port), obedient() as process, watching(process.pid, tmp_path) as watched:
        before_ns = watched.clock.now_ns()
        number = process.ask("connect", port) - 1
        born_ns = watched.clock.now_ns()
        watched.until(lambda: watched.events(event="birth"))
        closing_ns = watched.clock.now_ns()
        process.ask("close", number)
        closed_ns = watched.clock.now_ns()
        watched.until(lambda: watched.events(event="death"))
        [birth], [death] = watched.events(event="birth"), watched.events(event="death")
        assert birth["earliest_ns"] <= born_ns
        assert birth["at_ns"] >= before_ns
        assert death["earliest_ns"] <= closed_ns + 200_000_000
        assert death["at_ns"] >= closing_ns


def test_who_closed_first_is_told(tmp_path: Path) -> None:
    with upstream() as (server, port), obedient() as process, watching(process.pid, tmp_path) as watched:
        for _ in range(2):
            process.ask("connect", port)
        accepted = [server.accept()[0] for _ in range(2)]
        watched.until(lambda: len(watched.events(event="birth")) == 2)
        process.ask("close", 0)
        accepted[1].close()
        watched.until(lambda: "close_wait" in watched.states().values())
        process.ask("close", 1)
        watched.until(lambda: sorted(str(row["closer"]) for row in watched.events(event="death")) == ["local", "peer"])
        accepted[0].close()


def test_connections_too_short_for_any_reading_are_counted(tmp_path: Path) -> None:
    with upstream() as (server, port), obedient() as process:
        process.ask("connect", port)
        with watching(process.pid, tmp_path, at_most_every_s=2.0) as watched:
            if watched.tables()["recording_quality"][0]["note"] and "does not tell" in str(watched.tables()):
                pytest.skip("this kernel does not tell of destroyed sockets")
            process.ask("churn", port, 200)
            for _ in range(201):
                server.accept()[0].close()
            watched.until(lambda: len(watched.events(event="death", role="upstream")) >= 200)
        deaths = watched.events(event="death", role="upstream")
        assert len(deaths) in (200, 201), "the one that stays may be closed by now"
        assert all(row["earliest_ns"] == row["at_ns"] for row in deaths if row["seen_by"] == "destroy")
        [quality] = watched.tables()["recording_quality"]
        assert "connections that the kernel counted in the network namespace" in quality["note"]


@pytest.mark.parametrize("way", [{"destroyed": False}, {"netlink": False}], ids=["netlink", "proc"])
def test_without_the_kernels_word_what_rests_in_time_wait_tells_of_short_connections(
    tmp_path: Path, way: dict[str, bool]
) -> None:
    with obedient() as server, obedient() as process:
        port = server.ask("serve")
        process.ask("connect", port)
        with watching(process.pid, tmp_path, at_most_every_s=1.0, **way) as watched:
            watched.until(lambda: watched.tables()["socket_counters"])
            process.ask("churn", port, 100)
            # Now and then one of a hundred leaves nothing in TIME_WAIT.
            watched.until(lambda: len(watched.events(event="death", role="upstream")) >= 95)
        deaths = watched.events(event="death", role="upstream")
        assert len(deaths) <= 101, "the one that stays may be closed by now"
        assert {row["closer"] for row in deaths if row["seen_by"] == "time_wait"} == {"local"}
        births = {row["cookie"]: row for row in watched.events(event="birth")}
        assert all(births[row["cookie"]]["earliest_ns"] <= row["at_ns"] for row in deaths)


def test_a_socket_that_a_child_inherited_is_reported_with_both_owners(tmp_path: Path) -> None:
    with upstream() as (_server, port), obedient() as process, watching(process.pid, tmp_path) as watched:
        process.ask("connect", port)
        watched.until(lambda: watched.events(event="birth"))
        child = process.ask("fork")
        watched.until(lambda: len(watched.events(event="shared")) >= 2)
        assert {row["other_pid"] for row in watched.events(event="shared")} == {child}


def test_unix_sockets_are_counted(tmp_path: Path) -> None:
    code = "import socket; pairs = [socket.socketpair() for _ in range(3)]; print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with watching(process.pid, tmp_path) as watched:
            watched.until(lambda: watched.tables()["socket_counters"])
        assert watched.tables()["socket_counters"][-1]["unix_sockets"] == 6
        process.communicate("\n")


def test_a_program_that_is_not_python_is_recorded_too(tmp_path: Path) -> None:
    with upstream() as (server, port):
        command = ["bash", "-c", f"exec 7<>/dev/tcp/127.0.0.1/{port}; echo ready; read"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            settings = Settings(output=tmp_path / "bash", duration_s=1.0, collect=("sockets", "process"))
            profile = record_pid(process.pid, settings)
            with pytest.raises(CannotRecord, match="is not a Python process"):
                record_pid(process.pid, Settings(output=tmp_path / "other", duration_s=1.0))
            process.communicate("\n")
        server.accept()[0].close()
    assert profile.manifest.targets[0]["python"] is None
    [row] = profile.sql("select distinct descriptor, peer, state, role from sockets").to_dict("records")
    assert row == {"descriptor": 7, "peer": f"127.0.0.1:{port}", "state": "established", "role": "upstream"}
    assert not [finding for finding in check(profile) if finding.verdict == "fail"]


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_a_proxy_that_is_not_python_has_both_sides_told_apart(tmp_path: Path) -> None:
    def ask(port: int) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as client:
            while not done.is_set():
                client.request("GET", "/")
                client.getresponse().read()

    done = threading.Event()
    with ready("upstream.py", 60) as [_, upstream_port], nginx(tmp_path, int(upstream_port)) as port:
        clients = [threading.Thread(target=ask, args=(port,)) for _ in range(4)]
        for client in clients:
            client.start()
        pid = int((tmp_path / "pid").read_text())
        profile = record_pid(pid, Settings(output=tmp_path / "profile", duration_s=4.0, collect=("sockets",)))
        done.set()
        for client in clients:
            client.join()
    ends = profile.sql("select distinct role, local, peer from sockets").to_dict("records")
    assert {row["local"] for row in ends if row["role"] == "downstream"} == {f"127.0.0.1:{port}"}
    assert {row["peer"] for row in ends if row["role"] == "upstream"} == {f"127.0.0.1:{upstream_port}"}
    assert len([row for row in ends if row["role"] == "downstream"]) >= 4
    assert not [finding.title for finding in check(profile) if finding.verdict == "fail"]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root to make a network namespace")
def test_a_process_in_another_network_namespace_is_seen_there(tmp_path: Path) -> None:
    name = f"perfkit-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name]).returncode:
        pytest.skip("network namespaces cannot be made here")
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        with obedient("ip", "netns", "exec", name) as process, watching(process.pid, tmp_path) as watched:
            port = process.ask("listen")
            process.ask("connect", port)
            process.ask("accept")
            process.ask("churn", port, 5)
            watched.until(lambda: watched.states("upstream") and watched.states("downstream"))
            watched.until(lambda: len(watched.events(event="death", role="upstream")) == 5)
        counted = watched.tables()["socket_counters"][-1]
        assert counted["active_opens"] == counted["passive_opens"] == 6, "nobody else lives in it"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_a_recorder_that_is_killed_leaves_what_it_saw(tmp_path: Path) -> None:
    with upstream() as (_server, port), obedient() as process:
        process.ask("connect", port, 4)
        code = (
            "import sys, time; from pathlib import Path; from tests.socket_recordings import watching\n"
            f"with watching({process.pid}, Path({str(tmp_path)!r})): print('on', flush=True); time.sleep(60)\n"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as recorder:
            assert recorder.stdout is not None
            recorder.stdout.readline()
            os.kill(recorder.pid, signal.SIGKILL)
        with (tmp_path / "sockets.bin").open("ab") as file:
            file.write(b"sock\0\0\0")  # a frame that was being written
        watched = Watched(process.pid, tmp_path)
        watched.clock = type(watched.clock)(0, 0)
        assert list(watched.states().values()) == ["established"] * 4


def test_a_target_that_ends_is_noted(tmp_path: Path) -> None:
    with upstream() as (_server, port), obedient() as process:
        process.ask("connect", port)
        with watching(process.pid, tmp_path) as watched:
            assert process.process.stdin is not None
            process.process.stdin.close()
            process.process.wait(10)
            watched.until(lambda: "ended_ns" in (tmp_path / "meta.json").read_text())
        [quality] = watched.tables()["recording_quality"]
        assert "The process ended." in quality["note"]


def test_a_process_that_is_gone_is_a_problem_said_in_advance() -> None:
    with obedient() as process:
        target = inspect_any(process.pid)
        assert COLLECTOR.problem(target) is None
    assert COLLECTOR.problem(target) is not None


@pytest.mark.quiet
def test_a_thousand_idle_sockets_cost_two_percent_of_a_core_at_most(tmp_path: Path) -> None:
    with upstream() as (server, port), obedient() as process:
        process.ask("connect", port, 500)
        accepted = [server.accept()[0] for _ in range(500)]
        with watching(process.pid, tmp_path, max_share=0.01, counters_every_s=2.0, owners_every_s=10.0) as watched:
            began = time.monotonic()
            time.sleep(10)
            watched.until(lambda: len(watched.states()) == 500)
            seconds = time.monotonic() - began
        cost_s = json.loads((tmp_path / "meta.json").read_text())["cost_ns"] / 1e9
        assert cost_s / seconds < 0.02 + 0.05 / seconds, "the first reading looks up every descriptor"
        for each in accepted:
            each.close()
