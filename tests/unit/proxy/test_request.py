"""What a request is, and what is passed on of it."""

import h11
import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.proxy.refusals import Refused
from perfkit.proxy.request import HeadLimits, Request, read_request

LIMITS = HeadLimits()


def read(data: bytes) -> Request:
    parsed = read_request(data, LIMITS)
    assert parsed is not None
    return parsed[0]


def request(*fields: bytes, target: bytes = b"/", version: bytes = b"1.1", method: bytes = b"GET") -> bytes:
    lines = [b"%b %b HTTP/%b" % (method, target, version), b"Host: app", *fields, b"", b""]
    return b"\r\n".join(lines)


def test_end_to_end_fields_are_passed_on_exactly_as_they_came() -> None:
    assert read(request(b"Accept:  */* ", b"X-Empty:", b"COOKIE: a=b")).fields == (
        b"\r\nHost: app\r\nAccept:  */* \r\nX-Empty:\r\nCOOKIE: a=b"
    )


@pytest.mark.parametrize(
    "field",
    [
        b"Connection: keep-alive",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: keep-alive",
        b"TE: trailers",
        b"Upgrade: websocket",
        b"Proxy-Authorization: Basic x",
        b"X-Proxy-Trace: forged",
        b"Max-Forwards: 3",
        b"tRANSFER-eNCODING: chunked",
    ],
    ids=bytes.decode,
)
def test_is_not_passed_on(field: bytes) -> None:
    assert read(request(field, b"X: 1")).fields == b"\r\nHost: app\r\nX: 1"


def test_fields_named_by_connection_are_not_passed_on() -> None:
    head = request(b"connection: close, X-Hop", b"x-hop: 1", b"X-Hop-Not: 2")
    assert read(head).fields == b"\r\nHost: app\r\nX-Hop-Not: 2"


@pytest.mark.parametrize(
    "fields",
    [
        (b"Connection: keep-alive",),
        (b"Connection:keep-alive",),
        (b"CONNECTION:  keep-alive",),
        (b"Connection: keep-alive", b"connection: keep-alive"),
        (b"Connection: keep-alive", b"Connection: keep-alive, X-Hop", b"X-Hop: 1"),
        (b"Connection: keep-alive, X-Hop", b"X-Hop: 1", b"Connection: keep-alive"),
        (b"Connection: keep-alive", b"Keep-Alive: timeout=5"),
        (b"Connection: keep-alive\t",),
    ],
    ids=lambda fields: b" | ".join(fields).decode(),
)
def test_however_it_is_spelt_connection_is_cut_out_and_nothing_else(fields: tuple[bytes, ...]) -> None:
    parsed = read(request(b"X-A: 1", *fields, b"X-Connection: keep-alive"))
    assert parsed.fields == b"\r\nHost: app\r\nX-A: 1\r\nX-Connection: keep-alive"
    assert parsed.keep_alive


def test_a_length_with_leading_zeros_is_passed_on_without_them() -> None:
    parsed = read(request(b"Content-Length: 0012", method=b"POST"))
    assert (parsed.length, parsed.fields) == (12, b"\r\nHost: app\r\nContent-Length: 12")


@pytest.mark.parametrize(
    ("version", "fields", "kept"),
    [
        pytest.param(b"1.1", (), True, id="1.1"),
        pytest.param(b"1.1", (b"Connection: close",), False, id="1.1-close"),
        pytest.param(b"1.1", (b"Connection: X-A,  CLOSE",), False, id="1.1-close-in-a-list"),
        pytest.param(b"1.0", (), False, id="1.0"),
        pytest.param(b"1.0", (b"Connection: Keep-Alive",), True, id="1.0-keep-alive"),
        pytest.param(b"1.0", (b"Connection: keep-alive", b"Connection: close"), False, id="1.0-both"),
    ],
)
def test_the_connection_is_kept(version: bytes, fields: tuple[bytes, ...], kept: bool) -> None:
    assert read(request(*fields, version=version)).keep_alive is kept


@pytest.mark.parametrize("size", range(1, len(request()) - 1))
def test_an_unfinished_head_is_waited_for(size: int) -> None:
    assert read_request(request()[:size], LIMITS) is None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\nHost", 400, id="bare-LF"),
        pytest.param(b"\x16\x03\x01", 400, id="TLS-hello"),
        pytest.param(b"GET /" + b"a" * 9_000, 414, id="a-target-without-end"),
        pytest.param(request()[:-2] + b"X: " + b"a" * 17_000, 431, id="a-field-without-end"),
    ],
)
def test_what_cannot_become_a_request_is_refused_before_it_ends(data: bytes, status: int) -> None:
    with pytest.raises(Refused) as caught:
        read_request(data, LIMITS)
    assert caught.value.status == status


class TestTrace:
    def test_a_valid_parent_is_continued_with_a_span_of_our_own(self) -> None:
        parsed = read(
            request(b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", b"tracestate: a=1")
        )
        assert parsed.trace_id == b"4bf92f3577b34da6a3ce929d0e0e4736"
        assert parsed.trace_flags == b"00"
        assert parsed.span_id != b"00f067aa0ba902b7"
        assert b"tracestate: a=1" in parsed.fields
        assert b"traceparent" not in parsed.fields

    @pytest.mark.parametrize(
        "parents",
        [
            pytest.param([], id="none"),
            pytest.param([b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01"], id="zero-trace-id"),
            pytest.param([b"00-4bf92f3577b34da6a3ce929d0e0e4736-" + b"0" * 16 + b"-01"], id="zero-span-id"),
            pytest.param([b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"], id="version-ff"),
            pytest.param([b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"], id="upper-case"),
            pytest.param([b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"], id="00-with-more"),
            pytest.param([b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"] * 2, id="two"),
        ],
    )
    def test_an_invalid_parent_is_replaced_and_its_state_dropped(self, parents: list[bytes]) -> None:
        fields = [b"traceparent: " + parent for parent in parents]
        parsed = read(request(*fields, b"tracestate: a=1"))
        assert parsed.trace_id != b"4bf92f3577b34da6a3ce929d0e0e4736"
        assert len(parsed.trace_id) == 32
        assert b"trace" not in parsed.fields.lower()

    def test_a_later_version_may_carry_more(self) -> None:
        parent = b"traceparent: 01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"
        assert read(request(parent)).trace_id == b"4bf92f3577b34da6a3ce929d0e0e4736"


# Against other parsers ----------------------------------------------------------------------------

names = st.sampled_from(
    [
        b"Content-Length",
        b"Transfer-Encoding",
        b"Connection",
        b"X-A",
        b"host",
        b"Transfer-Encoding ",
        b"Content_Length",
        b"Te",
    ]
)
values = st.sampled_from(
    [
        b"3",
        b"03",
        b"+3",
        b"3,3",
        b"chunked",
        b" chunked ",
        b"gzip, chunked",
        b"chunkedx",
        b"\tchunked",
        b"close",
        b"",
        b"a\x00",
        b"a\rb",
    ]
)
ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\n "])
starts = st.sampled_from(
    [b"POST / HTTP/1.1", b"GET /x HTTP/1.0", b"POST /  HTTP/1.1", b"POST / HTTP/1.1 ", b"DELETE /\x80 HTTP/1.1"]
)
heads = st.builds(
    lambda start, fields: start + b"\r\n" + b"".join(n + b":" + v + e for n, v, e in fields) + b"Host: a\r\n\r\n",
    starts,
    st.lists(st.tuples(names, values, ends), max_size=4),
)


class _Seen:
    """What httptools understood."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))


@given(head=heads)
def test_what_is_accepted_two_other_parsers_read_the_same_way(head: bytes) -> None:
    try:
        parsed = read_request(head, LIMITS)
    except Refused:
        return
    assert parsed is not None
    ours, end = parsed
    assert end == len(head)

    seen = _Seen()
    parser = httptools.HttpRequestParser(seen)
    parser.feed_data(head)
    assert (seen.url, parser.get_method()) == (ours.target, ours.method)
    lengths = [value for name, value in seen.fields if name == b"content-length"]
    assert [int(value) for value in lengths] == ([ours.length] if lengths else [])
    assert ours.chunked == any(n == b"transfer-encoding" for n, _ in seen.fields)

    other = h11.Connection(h11.SERVER)
    other.receive_data(head)
    event = other.next_event()
    assert isinstance(event, h11.Request)
    assert (event.target, event.method) == (ours.target, ours.method)
    framing = {name: value for name, value in event.headers if name in (b"content-length", b"transfer-encoding")}
    assert (b"transfer-encoding" in framing) == ours.chunked
    assert int(framing.get(b"content-length", b"0")) == ours.length
