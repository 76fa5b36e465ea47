"""The only place that reads ELF files: where a symbol is, so that no debugger has to look it up.

Knowing the addresses beforehand is what makes the stop of the target short: a debugger that
is not asked to load any symbols needs about 5 ms instead of 300-700 ms.
"""

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_LOAD, _SYMTAB, _DYNSYM, _EXECUTABLE = 1, 2, 11, 2
PAGE_BYTES = mmap.PAGESIZE


class NotElf(ValueError):
    """The file is not a 64-bit little-endian ELF file."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the file that is mapped into memory."""

    offset: int
    address: int
    size_bytes: int


class Elf:
    """A 64-bit little-endian ELF file: its segments and its symbols.

    Source: https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html
    """

    def __init__(self, data: mmap.mmap) -> None:
        if len(data) < _HEADER.size or data[:6] != b"\x7fELF\x02\x01":
            raise NotElf("not a 64-bit little-endian ELF file")
        self.data = data
        header = _HEADER.unpack_from(data)
        self.is_fixed = header[1] == _EXECUTABLE
        programs, sections, program_bytes, program_count, section_bytes, section_count = (
            header[5], header[6], header[9], header[10], header[11], header[12],
        )  # fmt: skip
        self.segments = tuple(
            Segment(offset=fields[2], address=fields[3], size_bytes=fields[5])
            for i in range(program_count)
            if (fields := _SEGMENT.unpack_from(data, programs + i * program_bytes))[0] == _LOAD
        )
        self._sections = [_SECTION.unpack_from(data, sections + i * section_bytes) for i in range(section_count)]

    def symbols(self, *names: str) -> dict[str, int]:
        """Return `{name: link-time address}` of those `names` that the file defines."""
        wanted = {name.encode(): name for name in names}
        longest = max(map(len, wanted)) + 1
        found: dict[str, int] = {}
        # .dynsym first: it is small, and every interpreter exports its C API there.
        for kind in (_DYNSYM, _SYMTAB):
            for section in self._sections:
                if section[1] != kind or len(found) == len(wanted):
                    continue
                strings = self._sections[section[6]][4]
                table = self.data[section[4] : section[4] + section[5]]
                for name, _info, _other, home, value, _size in _SYMBOL.iter_unpack(table):
                    if not (name and home and value):
                        continue
                    text = self.data[strings + name : strings + name + longest].split(b"\0", 1)[0]
                    if text in wanted:
                        found.setdefault(wanted[text], value)
        return found

    def bias(self, mapped_at: int, file_offset: int) -> int:
        """Return what to add to a link-time address, given where one part of the file was mapped.

        Raises:
            ValueError: no segment of the file starts on the page at `file_offset`.
        """
        for segment in self.segments:
            if segment.offset & -PAGE_BYTES == file_offset:
                return mapped_at - (segment.address & -PAGE_BYTES)
        raise ValueError(f"no segment starts at file offset {file_offset:#x}")

    def at(self, address: int, size_bytes: int) -> bytes:
        """Return the bytes the file holds for a link-time address; zeros where it holds none."""
        for segment in self.segments:
            if segment.address <= address < segment.address + segment.size_bytes:
                start = segment.offset + address - segment.address
                return self.data[start : start + size_bytes]
        return bytes(size_bytes)


@contextmanager
def open_elf(path: Path) -> Iterator[Elf]:
    """Yield the ELF file at `path`.

    Raises:
        NotElf: it is something else.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise NotElf(f"{path} is empty") from error
        with data:
            yield Elf(data)
