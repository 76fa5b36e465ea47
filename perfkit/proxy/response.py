"""The only place that decides what an upstream's response is, and how its body is delimited."""

from perfkit.proxy import grammar

_ASKED = grammar.field_named(
    "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "upgrade",
    "x-proxy-trace",
)  # fmt: skip
_CUT = grammar.whole_field_named(
    "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "upgrade", "x-proxy-trace"
)
_CUT_LENGTH = grammar.whole_field_named("content-length")
_MAY_NOT_BE_NAMED = frozenset((b"content-length", b"transfer-encoding", b"set-cookie", b"location"))

LIMIT_BYTES = 65_536


class BadResponse(ValueError):
    """The upstream sent what is not one unambiguous HTTP/1.1 response."""


class Response:
    """The head of one response.

    `length` is None when the body is chunked or ends with the connection (`until_close`).
    `fields` is what is passed on, each field beginning with CRLF.
    """

    # Defaults are the class's, so that a plain response sets only what it has.
    length: int | None = None
    chunked = False
    until_close = False

    def __init__(self, status: int, line: bytes, fields: bytes, *, reusable: bool) -> None:
        self.status = status
        self.line = line
        self.fields = fields
        self.reusable = reusable


def read_response(data: bytes, method: bytes) -> tuple[Response, int] | None:
    """Return the response at the start of `data` and where its head ends; None while it is incomplete.

    Args:
        data: bytes of the upstream connection.
        method: method of the request it answers.

    Raises:
        BadResponse: it is malformed or framed in two ways at once.

    Source: https://www.rfc-editor.org/rfc/rfc9112#section-6.3
    """
    match = grammar.RESPONSE_HEAD.match(data)
    if match is None:
        end = data.find(b"\r\n\r\n")
        head = data if end < 0 else data[:end]
        if end >= 0 or head.count(b"\n") != head.count(b"\r\n") or b"HTTP/1."[: len(data)] != data[:7]:
            raise BadResponse("malformed head")
        if len(data) > LIMIT_BYTES:
            raise BadResponse("the head is too large")
        return None
    minor, code, reason, fields = match.groups()
    response = Response(int(code), code + (reason or b" "), fields, reusable=minor == b"1")
    _frame(response, _ASKED.findall(fields), method)
    return response, match.end()


def _frame(response: Response, asked: list[tuple[bytes, bytes]], method: bytes) -> None:
    """Set how the body is delimited and whether the connection can be used again."""
    length: bytes | None = None
    codings: list[bytes] | None = None
    options: list[bytes] | None = None
    kept = b""
    cut = False
    for raw_name, value in asked:
        name = raw_name.lower()
        if name == b"content-length":
            if length is not None:
                raise BadResponse("more than one Content-Length")
            length = value
        elif value == b"keep-alive" and not kept and name == b"connection" and response.reusable:
            kept = raw_name
        else:
            cut = True
            if name == b"connection":
                options = options or []
                options += [option.strip(b" \t").lower() for option in value.split(b",")]
            elif name == b"transfer-encoding":
                codings = codings or []
                codings.append(value.rstrip(b" \t").lower())
    if codings and (length is not None or codings != [b"chunked"] or not response.reusable):
        raise BadResponse("ambiguous or unknown Transfer-Encoding")
    if length is not None and not length.isdigit():
        length = length.rstrip(b" ")
        if not length.isdigit():
            raise BadResponse("malformed Content-Length")
    if kept and not cut:
        # The most frequent of all, and it says nothing. Alone, it can be cut out without a search, if spelt as usual.
        fewer = response.fields.replace(b"\r\n%b: keep-alive" % kept, b"")
        cut = len(fewer) == len(response.fields)
        response.fields = fewer
    if cut:
        response.fields = _CUT.sub(b"", response.fields)
        if options:
            _apply_connection(response, options)
    status = response.status
    if status < 200 or status == 204:
        if codings or (length is not None and length != b"0"):
            raise BadResponse("content where the status allows none")
        if length is not None:
            response.fields = _CUT_LENGTH.sub(b"", response.fields)
        response.length = 0
    elif method == b"HEAD" or status == 304:
        response.length = 0
    elif codings:
        response.chunked = True
    elif length is not None:
        if len(length) > grammar.LENGTH_DIGITS:
            raise BadResponse("Content-Length is too large")
        response.length = int(length)
    else:
        response.until_close = True
        response.reusable = False


def _apply_connection(response: Response, options: list[bytes]) -> None:
    """Act on the Connection options; drop the fields they name."""
    if b"close" in options:
        response.reusable = False
    elif b"keep-alive" in options:
        response.reusable = True
    named = {option for option in options if option} - {b"close", b"keep-alive"}
    if named & _MAY_NOT_BE_NAMED:
        raise BadResponse("Connection names a field that is not its own")
    if named:
        lines = response.fields.split(b"\r\n")[1:]
        response.fields = b"".join(b"\r\n" + ln for ln in lines if ln.partition(b":")[0].lower() not in named)
