"""The only place that reads and writes the chunked transfer coding."""

from perfkit.proxy.grammar import CHUNK_LINE, CHUNK_LINE_LIMIT_BYTES, FIELD_LINE, TRAILER_LIMIT_BYTES

LAST_CHUNK = b"0\r\n\r\n"

_FORBIDDEN_TRAILERS = frozenset(
    b"transfer-encoding content-length host content-encoding content-type content-range trailer te connection"
    b" keep-alive upgrade proxy-connection authorization proxy-authorization cookie set-cookie expect max-forwards"
    b" cache-control range location date age vary via x-forwarded-for traceparent tracestate x-proxy-trace".split()
)
_SIZE, _DATA, _AFTER_DATA, _TRAILERS = range(4)
_HEX = frozenset(b"0123456789abcdefABCDEF")
_EXTENSION_ALLOWANCE_BYTES = 16_384


class BadChunk(ValueError):
    """A body that breaks the rules of the chunked coding."""


def chunk(data: bytes) -> bytes:
    r"""Return `data` as one chunk; empty stays empty, for an empty chunk would end the body.

    >>> chunk(b"hello")
    b'5\r\nhello\r\n'
    """
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class ChunkedReader:
    """Takes a chunked body apart, however its bytes are cut; extensions are checked and dropped.

    After `done`, `rest` holds what followed the body and `trailers` the trailer fields, each
    beginning with CRLF. Strict where proxies disagree: no bare LF, no blanks around sizes, no
    trailer that frames, routes or authenticates.
    """

    __slots__ = ("_held", "_left", "_overhead", "_state", "done", "rest", "trailers")

    def __init__(self) -> None:
        self._state = _SIZE
        self._left = 0
        self._held = b""
        self._overhead = 0
        self.done = False
        self.rest = b""
        self.trailers = b""

    def feed(self, data: bytes) -> bytes:
        """Return the content carried by the next bytes of the body.

        Raises:
            BadChunk: the bytes break the coding; nothing more can be read.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        at = 0
        content: list[bytes] = []
        end = len(data)
        while at < end:
            if self._state == _DATA:
                piece = data[at : at + self._left]
                content.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self._state = _AFTER_DATA
            elif self._state == _AFTER_DATA:
                if data[at : at + 2] != b"\r\n":
                    if data[at:] != b"\r":
                        raise BadChunk("chunk data is not followed by CRLF")
                    self._held = data[at:]
                    break
                at += 2
                self._state = _SIZE
            elif self._state == _SIZE:
                match = CHUNK_LINE.match(data, at)
                if match is None:
                    self._held = _unfinished_line(data[at : at + CHUNK_LINE_LIMIT_BYTES + 1])
                    break
                if match.end() - at > CHUNK_LINE_LIMIT_BYTES:
                    raise BadChunk("chunk extensions are too long")
                at = match.end()
                self._left = int(match[1], 16)
                self._count_overhead(match.end() - match.end(1) - 2)
                self._state = _DATA if self._left else _TRAILERS
            else:
                at = self._read_trailers(data, at)
                if self.done:
                    self.rest = data[at:]
                break
        return content[0] if len(content) == 1 else b"".join(content)

    def _count_overhead(self, extension_bytes: int) -> None:
        """Give up on a body that is mostly chunk extensions."""
        self._overhead += extension_bytes
        if self._overhead > _EXTENSION_ALLOWANCE_BYTES:
            raise BadChunk("too many chunk extensions")

    def _read_trailers(self, data: bytes, at: int) -> int:
        """Read trailer fields up to the empty line that ends the body; return where it ended."""
        if data[at : at + 2] == b"\r\n":
            self.done = True
            return at + 2
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            held = data[at:]
            if len(held) > TRAILER_LIMIT_BYTES:
                raise BadChunk("trailers are too long")
            if held.count(b"\n") != held.count(b"\r\n"):
                raise BadChunk("bare LF in trailers")
            self._held = held
            return at
        for line in data[at:end].split(b"\r\n"):
            if FIELD_LINE.fullmatch(line) is None:
                raise BadChunk("malformed trailer field")
            if line.partition(b":")[0].lower() in _FORBIDDEN_TRAILERS:
                raise BadChunk("a trailer may not frame, route or authenticate a message")
        if end - at > TRAILER_LIMIT_BYTES:
            raise BadChunk("trailers are too long")
        self.trailers = b"\r\n" + data[at:end]
        self.done = True
        return end + 4


def _unfinished_line(line: bytes) -> bytes:
    """Return the start of a size line that may still become valid.

    Raises:
        BadChunk: nothing that follows could make it valid.
    """
    if len(line) > CHUNK_LINE_LIMIT_BYTES or b"\n" in line or line[:1] in (b"\r", b";"):
        raise BadChunk("malformed chunk size")
    size = line.partition(b";")[0].rstrip(b"\r")
    if len(size) > 16 or not _HEX.issuperset(size) or (b"\r" in line and not line.endswith(b"\r")):
        raise BadChunk("malformed chunk size")
    return line
