"""What is believed of an upstream."""

import pytest

from perfkit.proxy.response import BadResponse, Response, read_response


def read(data: bytes, method: bytes = b"GET") -> Response:
    parsed = read_response(data, method)
    assert parsed is not None
    return parsed[0]


def head(*fields: bytes, status: bytes = b"200 OK", version: bytes = b"1.1") -> bytes:
    return b"\r\n".join([b"HTTP/%b %b" % (version, status), *fields, b"", b""])


@pytest.mark.parametrize(
    ("data", "method", "framing", "reusable"),
    [
        pytest.param(head(b"Content-Length: 5"), b"GET", 5, True, id="length"),
        pytest.param(head(b"Content-Length: 5"), b"HEAD", 0, True, id="HEAD-has-no-content"),
        pytest.param(head(b"Content-Length: 5", status=b"304 x"), b"GET", 0, True, id="304-has-no-content"),
        pytest.param(head(status=b"204 x"), b"GET", 0, True, id="204-has-no-content"),
        pytest.param(head(b"Transfer-Encoding: Chunked"), b"GET", "chunked", True, id="chunked"),
        pytest.param(head(), b"GET", "close", False, id="neither"),
        pytest.param(head(b"Content-Length: 5", b"Connection: close"), b"GET", 5, False, id="close"),
        pytest.param(head(b"Content-Length: 5", version=b"1.0"), b"GET", 5, False, id="1.0"),
        pytest.param(
            head(b"Content-Length: 5", b"Connection: keep-alive", version=b"1.0"), b"GET", 5, True, id="1.0-kept"
        ),
    ],
)
def test_the_body_is_delimited_by(data: bytes, method: bytes, framing: object, reusable: bool) -> None:
    response = read(data, method)
    found = "chunked" if response.chunked else "close" if response.until_close else response.length
    assert (found, response.reusable) == (framing, reusable)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(head(b"Content-Length: 3", b"Transfer-Encoding: chunked"), id="two-framings"),
        pytest.param(head(b"Content-Length: 3", b"Content-Length: 3"), id="two-lengths"),
        pytest.param(head(b"Content-Length: 3, 3"), id="a-list-of-lengths"),
        pytest.param(head(b"Content-Length: -1"), id="a-negative-length"),
        pytest.param(head(b"Transfer-Encoding: gzip, chunked"), id="another-coding"),
        pytest.param(head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), id="two-codings"),
        pytest.param(head(b"Transfer-Encoding: chunked", version=b"1.0"), id="chunked-in-1.0"),
        pytest.param(head(b"Content-Length: 3", status=b"204 x"), id="204-with-content"),
        pytest.param(head(b"Connection: Content-Length", b"Content-Length: 3"), id="Connection-hides-the-length"),
        pytest.param(head(b"X: a\nSet-Cookie: b=c"), id="a-bare-LF-that-splits"),
        pytest.param(head(b"X: a\rSet-Cookie: b=c"), id="a-bare-CR-that-splits"),
        pytest.param(head(b" X: folded"), id="a-folded-field"),
        pytest.param(head(version=b"2.0"), id="another-version"),
        pytest.param(head(status=b"099 x"), id="an-impossible-status"),
        pytest.param(b"220 smtp ready\r\n", id="another-protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000, id="a-head-without-end"),
    ],
)
def test_is_not_believed(data: bytes) -> None:
    with pytest.raises(BadResponse):
        read_response(data, b"GET")


@pytest.mark.parametrize("size", [1, 7, 12, 17, 25])
def test_an_unfinished_head_is_waited_for(size: int) -> None:
    assert read_response(head(b"Content-Length: 5")[:size], b"GET") is None


def test_fields_between_neighbours_are_not_passed_on() -> None:
    data = head(b"Server: x", b"Connection: X-Hop", b"X-Hop: 1", b"Keep-Alive: timeout=5", b"Content-Length: 0")
    assert read(data).fields == b"\r\nServer: x\r\nContent-Length: 0"


@pytest.mark.parametrize(
    "fields",
    [
        (b"Connection: keep-alive",),
        (b"connection:keep-alive",),
        (b"Connection: keep-alive", b"Connection: keep-alive, X-Hop", b"X-Hop: 1"),
        (b"Connection: keep-alive", b"Keep-Alive: timeout=5"),
    ],
    ids=lambda fields: b" | ".join(fields).decode(),
)
def test_however_it_is_spelt_connection_is_cut_out_and_nothing_else(fields: tuple[bytes, ...]) -> None:
    response = read(head(b"Server: x", *fields, b"Content-Length: 0"))
    assert response.fields == b"\r\nServer: x\r\nContent-Length: 0"
    assert response.reusable
