"""The only place that knows the file of finished requests: one record of fixed size each.

Fixed size makes a cut file readable up to its last whole record, and appending one costs the
generator a microsecond. `perfkit.load.results` turns it into the `requests` table.
"""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

FILE = "requests.bin"
MAGIC = b"PKLOAD01"

FIELDS = (
    ("intended_ns", "q", "<i8"),
    ("dispatched_ns", "q", "<i8"),
    ("start_ns", "q", "<i8"),
    ("end_ns", "q", "<i8"),
    ("trace_high", "Q", "<u8"),
    ("trace_low", "Q", "<u8"),
    ("received_bytes", "q", "<i8"),
    ("sent_bytes", "i", "<i4"),
    ("status", "h", "<i2"),
    ("route", "h", "<i2"),
    ("error", "b", "i1"),
    ("reused", "b", "i1"),
)
"""Name, struct code and NumPy type of each field; times are CLOCK_MONOTONIC, status 0 and reused -1 mean unknown."""

RECORD = struct.Struct("<" + "".join(code for _, code, _ in FIELDS))
ERRORS = ("", "connect", "no_connection", "timeout", "reset", "protocol", "aborted", "unfinished", "exhausted")
"""Error classes by their number; 0: none. The last three are the load's own doing, not the target's."""
(OK, CONNECT, NO_CONNECTION, TIMEOUT, RESET, PROTOCOL, ABORTED, UNFINISHED, EXHAUSTED) = range(len(ERRORS))

_HALF = (1 << 64) - 1


@dataclass(slots=True, eq=False)
class Request:
    """One request on its way: when it was due, when it was dealt with, what came back."""

    intended_ns: int
    dispatched_ns: int
    deadline_ns: int
    route: int
    trace: int
    payload: bytes
    sent_bytes: int = 0
    abort: bool = False
    start_ns: int = 0
    end_ns: int = 0
    status: int = 0
    error: int = OK
    received_bytes: int = 0
    reused: int = -1
    connection: object = field(default=None, repr=False)


class RowWriter:
    """Keeps finished requests in memory and appends them to the file when told to.

    A full disk does not end the load: `problem` then says why rows are missing.
    """

    def __init__(self, folder: Path) -> None:
        self._file = (folder / FILE).open("wb", buffering=0)
        self._file.write(MAGIC)
        self._window = bytearray()
        self.problem = ""

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.flush()
        self._file.close()

    def add(self, r: Request) -> None:
        """Take one finished request."""
        self._window += RECORD.pack(
            r.intended_ns, r.dispatched_ns, r.start_ns, r.end_ns, r.trace >> 64, r.trace & _HALF,
            r.received_bytes, r.sent_bytes, r.status, r.route, r.error, r.reused,
        )  # fmt: skip

    def flush(self) -> None:
        """Hand the window to the kernel: from here on it survives the death of this process."""
        try:
            while self._window and not self.problem:
                del self._window[: self._file.write(self._window)]
        except OSError as error:
            # Nothing more is written, even if there is space again: the last row may be cut in the middle.
            self.problem = error.strerror or str(error)
        if self.problem:
            self._window.clear()
