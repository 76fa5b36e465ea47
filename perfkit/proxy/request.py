"""The only place that decides what a request is: its head, its framing, what is passed on of it."""

import re
from dataclasses import dataclass

from perfkit.proxy import grammar
from perfkit.proxy.refusals import Refused
from perfkit.proxy.trace import continued, new_ids, new_span_id

METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"})
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"})

_ASKED = grammar.field_named(
    "host", "content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "upgrade",
    "expect", "traceparent", "x-forwarded-for", "x-proxy-trace", "max-forwards", "http2-settings",
    "proxy-authorization", "content_length", "transfer_encoding",
)  # fmt: skip
_CUT_NAMES = (
    "connection", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings", "proxy-authorization", "expect",
    "transfer-encoding", "traceparent", "x-forwarded-for", "x-proxy-trace", "max-forwards",
)  # fmt: skip
_CUT = grammar.whole_field_named(*_CUT_NAMES)
_CUT_HOST = grammar.whole_field_named("host")
_CUT_LENGTH = grammar.whole_field_named("content-length")
_CUT_STATE = grammar.whole_field_named("tracestate")
_MAY_NOT_BE_NAMED = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect", b"trailer", b"via"))


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """How large the head of a request may be."""

    target_bytes: int = 8_192
    head_bytes: int = 16_384
    fields: int = 100


class Request:
    """The head of one accepted request.

    `fields` is what is passed on: end-to-end fields exactly as they came, each beginning with
    CRLF. `length` counts the body in bytes and is meaningless when `chunked`.
    """

    # Defaults are the class's, so that a plain request sets only what it has.
    host = b""
    has_host_field = True
    length = 0
    chunked = False
    expects_continue = False
    wants_trailers = False
    forwarded_for = b""
    max_forwards: int | None = None
    trace_flags = b"01"
    trace_id = b""
    span_id = b""

    def __init__(self, method: bytes, target: bytes, minor: int, fields: bytes) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.fields = fields
        self.received = fields
        self.keep_alive = minor == 1

    @property
    def has_body(self) -> bool:
        """Whether content follows the head."""
        return self.chunked or self.length > 0

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    def __repr__(self) -> str:
        return f"<Request {self.method.decode()} {self.target.decode('latin-1')} trace={self.trace_id.decode()}>"


def read_request(data: bytes, limits: HeadLimits) -> tuple[Request, int] | None:
    """Return the request at the start of `data` and where its head ends; None while it is incomplete.

    Raises:
        Refused: it is malformed, ambiguous, too large, or asks for what the proxy does not do.
    """
    match = grammar.REQUEST_HEAD.match(data)
    if match is None:
        _explain(data, limits)
        return None
    method, target, version, fields = match.groups()
    end = match.end()
    if end > limits.head_bytes or len(target) > limits.target_bytes:
        _check_size(data, limits)
    if len(fields) > limits.fields and fields.count(b"\r\n") > limits.fields:
        raise Refused(431, "too many header fields")
    request = Request(method, target, 1, fields)
    if version != b"1.1":
        if version != b"1.0":
            raise Refused(505, "this server speaks HTTP/1.1")
        request.minor = 0
        request.keep_alive = False
    asked = _ASKED.findall(fields)
    if method not in METHODS:
        _refuse_method(method)
    _interpret(request, asked)
    if target[:1] != b"/" or b".." in target or b"%2" in target or b"\\" in target:
        _check_target(request)
    return request, end


def _interpret(request: Request, asked: list[tuple[bytes, bytes]]) -> None:
    """Fill in `request` from the fields that mean something to a proxy."""
    hosts = 0
    more: list[tuple[bytes, bytes]] | None = None
    kept = b""
    for raw_name, value in asked:
        name = raw_name.lower()
        if name == b"host":
            hosts += 1
            request.host = value.rstrip(b" \t")
        elif value == b"keep-alive" and not kept and name == b"connection" and request.minor:
            kept = raw_name
        else:
            more = more or []
            more.append((name, value))
    if hosts != 1:
        if hosts or request.minor:
            raise Refused(400, "exactly one Host field is required")
        request.has_host_field = False
    elif request.host not in _hosts_seen:
        _check_host(request.host)
    if more is not None:
        _interpret_more(request, more)
    elif kept:
        # The most frequent of all, and it says nothing. Alone, it can be cut out without a search, if spelt as usual.
        fewer = request.fields.replace(b"\r\n%b: keep-alive" % kept, b"")
        request.fields = fewer if len(fewer) < len(request.fields) else _CUT.sub(b"", request.fields)
    if not request.trace_id:
        request.trace_id, request.span_id = new_ids()
        # State belongs to the parent it came with; without a valid one it may not be passed on.
        if b"racestate" in request.fields:
            request.fields = _CUT_STATE.sub(b"", request.fields)


def _interpret_more(request: Request, asked: list[tuple[bytes, bytes]]) -> None:
    """Fill in what the less frequent fields say, and cut out those that are not passed on."""
    lengths: list[bytes] = []
    codings: list[bytes] = []
    options: list[bytes] = []
    parents: list[bytes] = []
    upgrade = False
    for name, value in asked:
        if name == b"content-length":
            lengths.append(value.rstrip(b" "))
        elif name == b"connection":
            options += [option.strip(b" \t").lower() for option in value.split(b",")]
        elif name == b"traceparent":
            parents.append(value.rstrip(b" \t"))
        elif name == b"transfer-encoding":
            codings.append(value.rstrip(b" "))
        elif name == b"x-forwarded-for":
            request.forwarded_for += (b", " if request.forwarded_for else b"") + value.rstrip(b" \t")
        elif name == b"te":
            request.wants_trailers |= b"trailers" in value.lower()
        elif name == b"expect":
            if value.rstrip(b" \t").lower() != b"100-continue":
                raise Refused(417, "the only expectation this server knows is 100-continue")
            request.expects_continue = request.minor == 1
        elif name == b"upgrade":
            upgrade = True
        elif name == b"max-forwards":
            request.max_forwards = int(value) if re.fullmatch(rb"\d{1,9}[ \t]*", value) else None
        elif b"_" in name:
            raise Refused(400, "a field name imitates a framing field")
    if lengths or codings:
        _frame(request, lengths, codings)
    request.fields = _CUT.sub(b"", request.fields)
    if options:
        _apply_connection(request, options, upgrade=upgrade)
    if len(parents) == 1 and (known := continued(parents[0])) is not None:
        request.trace_id, request.trace_flags = known
        request.span_id = new_span_id()


_hosts_seen: set[bytes] = set()
_HOSTS_KEPT = 256


def _check_host(host: bytes) -> None:
    """Refuse a malformed Host; well-formed ones, of which a server has few, are known the next time."""
    if grammar.HOST.fullmatch(host) is None:
        raise Refused(400, "malformed Host")
    if len(_hosts_seen) >= _HOSTS_KEPT:
        _hosts_seen.clear()
    _hosts_seen.add(host)


def _frame(request: Request, lengths: list[bytes], codings: list[bytes]) -> None:
    """Set how the body is delimited, by the one reading that every server shares.

    Source: https://www.rfc-editor.org/rfc/rfc9112#section-6.3
    """
    if codings:
        if lengths:
            raise Refused(400, "both Transfer-Encoding and Content-Length")
        if request.minor == 0:
            raise Refused(400, "Transfer-Encoding in HTTP/1.0")
        if len(codings) > 1 or grammar.CODINGS.fullmatch(codings[0]) is None:
            raise Refused(400, "malformed Transfer-Encoding")
        names = [name.strip(b" ").lower() for name in codings[0].split(b",")]
        if names != [b"chunked"]:
            raise Refused(400 if names.count(b"chunked") > 1 else 501, "the only transfer coding known is chunked")
        request.chunked = True
        return
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > grammar.LENGTH_DIGITS:
        raise Refused(400, "malformed Content-Length")
    request.length = int(lengths[0])
    if lengths[0][:1] == b"0" and len(lengths[0]) > 1:
        request.fields = _CUT_LENGTH.sub(b"", request.fields) + b"\r\nContent-Length: %d" % request.length


def _apply_connection(request: Request, options: list[bytes], *, upgrade: bool) -> None:
    """Act on the Connection options; drop the fields they name."""
    if b"close" in options:
        request.keep_alive = False
    elif request.minor == 0 and b"keep-alive" in options:
        request.keep_alive = True
    if upgrade and request.minor and b"upgrade" in options:
        raise Refused(501, "this server does not switch protocols")
    named = {option for option in options if option} - {b"close", b"keep-alive", b"te", b"upgrade"}
    if named & _MAY_NOT_BE_NAMED:
        raise Refused(400, "Connection names a field that is not its own")
    if named:
        lines = request.fields.split(b"\r\n")[1:]
        request.fields = b"".join(b"\r\n" + ln for ln in lines if ln.partition(b":")[0].lower() not in named)


def _check_target(request: Request) -> None:
    """Bring the target into origin form, or refuse it."""
    target = request.target
    if target[:1] != b"/":
        absolute = grammar.ABSOLUTE_FORM.fullmatch(target)
        if absolute is None:
            if target != b"*" or request.method != b"OPTIONS":
                raise Refused(400, "the target is neither a path nor an http URL")
            return
        if grammar.HOST.fullmatch(absolute[1]) is None or (
            request.host and absolute[1].lower() != request.host.lower()
        ):
            raise Refused(400, "the target and Host name different servers")
        request.host = absolute[1]
        request.target = target = (absolute[2] or b"/") + (absolute[3] or b"")
    if grammar.PARENT_SEGMENT.search(request.path):
        raise Refused(400, "the path climbs with '..'")


def _refuse_method(method: bytes) -> None:
    """Refuse a method that is not forwarded."""
    if method == b"TRACE":
        allow = b"\r\nAllow: " + b", ".join(sorted(METHODS))
        raise Refused(405, "TRACE would show the client fields that are not its own", fields=allow)
    raise Refused(501, "this server does not know the method")


def _check_size(data: bytes, limits: HeadLimits) -> None:
    """Refuse a head that is larger than the limits."""
    line_end = data.find(b"\r\n")
    line = data if line_end < 0 else data[:line_end]
    if len(line) > limits.target_bytes + 64:
        raise Refused(414, "the request line is too long")
    target = line.partition(b" ")[2].partition(b" ")[0]
    if len(target) > limits.target_bytes:
        raise Refused(414, "the target is too long")
    end = data.find(b"\r\n\r\n")
    if (len(data) if end < 0 else end + 4) > limits.head_bytes:
        raise Refused(431, "the header section is too large")


def _explain(data: bytes, limits: HeadLimits) -> None:
    """Refuse what cannot become a request; return when it is only incomplete."""
    _check_size(data, limits)
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[: end + 2]
    if head.count(b"\n") != head.count(b"\r\n"):
        raise Refused(400, "a line ends with a bare LF")
    line_end = head.find(b"\r\n")
    if line_end < 0:
        if re.match(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]*+(?: |$)", head) is None:
            raise Refused(400, "malformed request line")
        return
    if grammar.REQUEST_LINE.match(head) is None:
        later = re.fullmatch(rb"[^ ]+ [^ ]+ HTTP/\d\.\d", head[:line_end])
        raise Refused(400, "malformed target" if later else "malformed request line")
    if end < 0:
        return
    raise Refused(400, "malformed header field")
