"""A recording of sockets decoded without any process, whole and damaged."""

import json
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from perfkit.raw import socket_diag
from perfkit.raw.socket_frames import FILE, frames
from perfkit.raw.socket_tables import tables

LOOPBACK = Path(__file__).parents[2] / "data" / "sockets" / "loopback"
BEGAN_NS = json.loads((LOOPBACK / "meta.json").read_text())["began_ns"]
TO_THE_END_NS = 1 << 60


def decoded(folder: Path = LOOPBACK, until_ns: int = TO_THE_END_NS) -> dict[str, list[dict[str, Any]]]:
    """Return the tables as rows; the recording began with the collector."""
    found = tables("sockets", folder, 7, lambda at_ns: at_ns - BEGAN_NS, until_ns)
    return {name: table.to_pylist() for name, table in found.items()}


def last_of(rows: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Return the last row of each socket."""
    return {row["cookie"]: row for row in rows}


def test_what_was_there_at_the_start_is_found_and_not_born() -> None:
    found = [row for row in decoded()["socket_events"] if row["event"] == "found"]
    assert Counter(row["role"] for row in found) == {"upstream": 3, "listening": 1}
    assert all(row["owner"] == "descriptor" for row in found)


def test_unread_data_and_a_close_of_the_peer_are_seen_while_they_last() -> None:
    rows = [row for row in decoded()["sockets"] if row["role"] == "upstream" and row["inode"]]
    assert [row["recv_q_bytes"] for row in last_of(rows).values() if row["state"] == "established"].count(6) == 1
    assert "close_wait" in {row["state"] for row in rows}
    assert all(row["descriptor"] is not None for row in rows)


def test_connections_shorter_than_a_reading_are_attributed_by_their_peer() -> None:
    deaths = [row for row in decoded()["socket_events"] if row["event"] == "death" and row["owner"] == "peer"]
    assert len(deaths) == 20
    births = {row["cookie"]: row for row in decoded()["socket_events"] if row["event"] == "birth"}
    for death in deaths:
        birth = births[death["cookie"]]
        assert birth["earliest_ns"] <= birth["at_ns"] <= death["at_ns"]
        assert death["earliest_ns"] <= death["at_ns"]


def test_an_accepted_connection_is_downstream() -> None:
    [birth] = [row for row in decoded()["socket_events"] if row["role"] == "downstream" and row["event"] == "birth"]
    [listener] = [row for row in decoded()["socket_events"] if row["role"] == "listening"]
    assert birth["local"] == listener["local"]


def test_who_closed_first_is_known_from_what_rests() -> None:
    deaths = [row for row in decoded()["socket_events"] if row["event"] == "death" and row["owner"] == "descriptor"]
    assert "local" in {row["closer"] for row in deaths if row["role"] == "upstream"}


def test_the_kernels_counters_say_how_much_was_seen() -> None:
    rows = decoded()["socket_counters"]
    opened = sum(rows[-1][name] - rows[0][name] for name in ("active_opens", "passive_opens"))
    assert opened == 42
    assert rows[-1]["seen_born"] - rows[0]["seen_born"] == 42
    [quality] = decoded()["recording_quality"]
    assert "all its processes together, 42 were seen (100.0%)" in quality["note"]


def test_what_came_after_the_end_of_the_recording_is_left_out() -> None:
    until_ns = 1_000_000_000
    found = decoded(until_ns=until_ns)
    assert found["sockets"]
    assert max(row["at_ns"] for name in ("sockets", "socket_events") for row in found[name]) <= until_ns


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.999])
def test_a_file_that_breaks_off_anywhere_is_read_to_there(tmp_path: Path, kept: float) -> None:
    whole = (LOOPBACK / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: int(len(whole) * kept)])
    found = decoded(tmp_path)
    assert len(found["recording_quality"]) == 1
    assert len(found["sockets"]) <= len(decoded()["sockets"])
    assert sum(1 for _ in frames(tmp_path / FILE)) <= sum(1 for _ in frames(LOOPBACK / FILE))


def test_lines_of_proc_become_the_same_messages() -> None:
    text = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1F90 0200000A:C350 08 00000000:00000006 02:000003E8 00000000  1000        0 4711 1 0 20 4 0\n"
    )
    [message] = socket_diag.from_proc(text, socket.AF_INET)
    parsed = socket_diag.parse(message)
    assert (parsed.local, parsed.peer) == ("127.0.0.1:8080", "10.0.0.2:50000")
    assert (parsed.state, parsed.recv_q_bytes, parsed.inode, parsed.uid) == (socket_diag.CLOSE_WAIT, 6, 4711, 1000)
    assert (parsed.timer, parsed.expires_ms) == (2, 10_000)
    assert parsed.info is None


def test_ipv6_lines_of_proc_keep_their_addresses() -> None:
    line = "0: 00000000000000000000000001000000:0050 0000000000000000FFFF00000100007F:C350 01 0:0 00:0 0 0 0 9 1"
    [message] = socket_diag.from_proc("header\n" + line, socket.AF_INET6)
    parsed = socket_diag.parse(message)
    assert (parsed.local, parsed.peer) == ("[::1]:80", "127.0.0.1:50000")
