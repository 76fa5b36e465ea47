"""Reading symbols from ELF files."""

import ctypes
import os
import sys
from pathlib import Path

import pytest

from perfkit.attach.elf import NotElf, open_elf
from perfkit.attach.target import addresses, inspect


def test_symbols_are_where_the_loader_put_them() -> None:
    target = inspect(os.getpid())
    [address] = addresses(target, target.libpython, "Py_AddPendingCall").values()
    assert address == ctypes.cast(ctypes.pythonapi.Py_AddPendingCall, ctypes.c_void_p).value


def test_what_is_not_there_is_not_found() -> None:
    target = inspect(os.getpid())
    with open_elf(target.libpython) as elf:
        assert elf.symbols("Py_NoSuchFunction") == {}


def test_data_is_read_from_the_file() -> None:
    with open_elf(inspect(os.getpid()).libpython) as elf:
        [address] = elf.symbols("Py_Version").values()
        assert int.from_bytes(elf.at(address, 8), "little") == sys.hexversion


@pytest.mark.parametrize(
    "content", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(200)], ids=["empty", "text", "32-bit"]
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(NotElf), open_elf(tmp_path / "file"):
        pass
