"""What /proc says of descriptors, from a /proc of our own."""

from pathlib import Path

import pytest

from perfkit.attach.descriptors import DescriptorKind, open_descriptors

HEADING = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def line(local: str, peer: str, state: str, inode: int) -> str:
    return f"   0: {local} {peer} {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0 20 4 0\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "42"
    (folder / "fd").mkdir(parents=True)
    (folder / "net").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("link", "kind"),
    [
        pytest.param("anon_inode:[eventpoll]", DescriptorKind("eventpoll"), id="epoll"),
        pytest.param("anon_inode:inotify", DescriptorKind("inotify"), id="inotify"),
        pytest.param("anon_inode:[io_uring]", DescriptorKind("io_uring"), id="io-uring"),
        pytest.param("pipe:[7]", DescriptorKind("pipe"), id="pipe"),
        pytest.param("mnt:[4026531841]", DescriptorKind("namespace", "mnt"), id="namespace"),
        pytest.param("/memfd:doublemapper_9 (deleted)", DescriptorKind("memfd", "doublemapper_#"), id="memfd"),
        pytest.param("/srv/a/b-12.log (deleted)", DescriptorKind("file", "a/b-#.log", "deleted"), id="deleted-file"),
        pytest.param("socket:[9]", DescriptorKind("socket"), id="socket-that-is-not-connected"),
    ],
)
def test_a_link_says_what_a_descriptor_is(proc: Path, link: str, kind: DescriptorKind) -> None:
    (proc / "42" / "fd" / "3").symlink_to(link)
    assert open_descriptors(42, proc) == {kind: 1}


def test_a_connection_to_a_port_that_is_listened_on_was_accepted(proc: Path) -> None:
    for inode in range(1, 5):
        (proc / "42" / "fd" / str(inode)).symlink_to(f"socket:[{inode}]")
    mapped = "0000000000000000FFFF00000100007F"
    (proc / "42" / "net" / "tcp").write_text(
        HEADING
        + line("00000000:1F90", "00000000:0000", "0A", 1)
        + line("0100007F:1F90", "0100007F:C001", "01", 2)
        + line("0100007F:C002", "0200000A:1538", "08", 3)
        + line("0100007F:C003", "0200000A:1538", "01", 99),
        "ascii",
    )
    (proc / "42" / "net" / "tcp6").write_text(HEADING + line(f"{mapped}:C004", f"{mapped}:0050", "01", 4), "ascii")
    assert open_descriptors(42, proc) == {
        DescriptorKind("socket", "tcp at 0.0.0.0:8080", "LISTEN"): 1,
        DescriptorKind("socket", "tcp accepted at :8080", "ESTABLISHED"): 1,
        DescriptorKind("socket", "tcp to 10.0.0.2:5432", "CLOSE_WAIT"): 1,
        DescriptorKind("socket", "tcp to 127.0.0.1:80", "ESTABLISHED"): 1,
    }
