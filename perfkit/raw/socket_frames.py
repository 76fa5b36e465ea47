"""The only place that knows the file of the collector `sockets`: frames, one after another, each with its time.

A frame is a word of four letters, the time, the length, and the content. Frames are appended and
flushed as they come, so that a file of a recorder that was killed is whole but for its last frame.

| word | content |
|---|---|
| dump | a whole reading of the namespace: how long it took, sockets in it, sockets not seen before |
| sock | messages of sockets that are new or changed |
| gone | cookies of sockets that the reading does not have any more |
| desc | inodes of the process's sockets with their descriptors |
| dead | messages of destroyed sockets, each with its own time |
| rest | sockets that rest in TIME_WAIT, each once |
| them | ends that sockets of other processes are connected to |
| more | JSON: counters, other owners, settings |
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

_FRAME = struct.Struct("<4sqI")
DUMP = struct.Struct("<qII")
DESCRIPTOR = struct.Struct("<qi")
COOKIE = struct.Struct("<Q")
AT = struct.Struct("<q")
END = struct.Struct("<B16sH")
FILE = "sockets.bin"


class FrameWriter:
    """Appends frames to a file; `flush` once per reading."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, word: bytes, at_ns: int, content: bytes) -> None:
        """Append one frame."""
        self._file.write(_FRAME.pack(word, at_ns, len(content)) + content)

    def flush(self) -> None:
        """Give what was written to the kernel, which keeps it when we are killed."""
        self._file.flush()


def frames(file: Path) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield `(word, time, content)` of the frames that were written whole."""
    if not file.exists():
        return
    with file.open("rb") as stream:
        while len(head := stream.read(_FRAME.size)) == _FRAME.size:
            word, at_ns, length = _FRAME.unpack(head)
            content = stream.read(length)
            if len(content) < length:
                return
            yield word, at_ns, content


def pack_all(layout: struct.Struct, rows: Iterable[tuple[object, ...]]) -> bytes:
    """Return rows of one layout, one after another."""
    return b"".join(layout.pack(*row) for row in rows)
