"""Requests that servers disagree about: raw bytes, what nginx 1.22 does with them, what the proxy does.

An outcome is what came back, then what reached the upstream: `200>POST+CL` is accepted and
forwarded with Content-Length, `+TE` with chunked framing, `+PART` without its end; `400` is
refused; `close` is closed without a word. Where two servers in use differ, the proxy refuses.
"""

from typing import NamedTuple


class Case(NamedTuple):
    """One request and its two outcomes."""

    name: str
    raw: bytes
    nginx: str
    ours: str


def get(fields: bytes = b"") -> bytes:
    """Return a GET request with more fields."""
    return b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"


def post(fields: bytes, body: bytes = b"abc") -> bytes:
    """Return a POST request with framing fields and a body."""
    return b"POST / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    """Return a POST request with a chunked body."""
    return post(b"Transfer-Encoding: chunked\r\n", body)


def coding(value: bytes) -> bytes:
    """Return a POST request with this Transfer-Encoding and a chunked body."""
    return post(b"Transfer-Encoding: " + value + b"\r\n", WHOLE)


def length(value: bytes) -> bytes:
    """Return a POST request with this Content-Length."""
    return post(b"Content-Length: " + value + b"\r\n")


def line(request_line: bytes) -> bytes:
    """Return a request with this request line."""
    return request_line + b"\r\nHost: a\r\n\r\n"


WHOLE = b"3\r\nabc\r\n0\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

CASES = [
    Case("plain GET", get(), "200>GET", "200>GET"),
    Case("no Host", b"GET / HTTP/1.1\r\n\r\n", "400", "400"),
    Case("two Host", get(b"Host: b\r\n"), "400", "400"),
    Case("empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", "400", "400"),
    Case("empty header value then other", get(b"X-Empty:\r\nX-Other: 1\r\n"), "200>GET", "200>GET"),
    Case("bare LF after request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", "200>GET", "400"),
    Case("bare LF after header", b"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", "200>GET", "400"),
    Case("bare LF end of headers", b"GET / HTTP/1.1\r\nHost: a\r\n\n", "200>GET", "400"),
    Case("bare CR in header value", get(b"X: a\rb\r\n"), "400", "400"),
    Case("NUL in value", get(b"X: a\0b\r\n"), "400", "400"),
    Case("0x01 in value", get(b"X: a\x01b\r\n"), "200>GET", "400"),
    Case("0x7f in value", get(b"X: a\x7fb\r\n"), "200>GET", "400"),
    Case("obs-text 0x80-ff in value", get(b"X: a\x80\xffb\r\n"), "200>GET", "200>GET"),
    Case("space before colon", get(b"X : 1\r\n"), "400", "400"),
    Case("tab before colon", get(b"X\t: 1\r\n"), "400", "400"),
    Case("leading space header (first)", b"GET / HTTP/1.1\r\n X: 1\r\nHost: a\r\n\r\n", "400", "400"),
    Case("obs-fold", get(b"X: 1\r\n 2\r\n"), "400", "400"),
    Case("obs-fold CL", post(b"Content-Length:\r\n 3\r\n"), "400", "400"),
    Case("obs-fold TE", post(b"Transfer-Encoding:\r\n chunked\r\n", WHOLE), "400", "400"),
    Case("CL + TE chunked", post(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", WHOLE), "400", "400"),
    Case("TE chunked + CL", post(b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", WHOLE), "400", "400"),
    Case("CL 3 + CL 3", post(b"Content-Length: 3\r\nContent-Length: 3\r\n"), "400", "400"),
    Case("CL 3 + CL 4", post(b"Content-Length: 3\r\nContent-Length: 4\r\n"), "400", "400"),
    Case("CL: 3, 3", length(b"3, 3"), "400", "400"),
    Case("CL: +3", length(b"+3"), "400", "400"),
    Case("CL: -3", length(b"-3"), "400", "400"),
    Case("CL: 0x3", length(b"0x3"), "400", "400"),
    Case("CL: 3_0", length(b"3_0"), "400", "400"),
    Case("CL: 003", length(b"003"), "200>POST+CL", "200>POST+CL"),
    Case("CL: empty", length(b""), "400", "400"),
    Case("CL: 2^64+3", length(b"18446744073709551619"), "400", "400"),
    Case("CL: 3<SP>", length(b"3 "), "200>POST+CL", "200>POST+CL"),
    Case("CL: 3<TAB>", length(b"3\t"), "400", "400"),
    Case("CL: 3 3", length(b"3 3"), "400", "400"),
    Case("TE: identity", coding(b"identity"), "501", "501"),
    Case("TE: identity + CL", post(b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n"), "501", "400"),
    Case("TE: gzip, chunked", coding(b"gzip, chunked"), "501", "501"),
    Case("TE: chunked, gzip", coding(b"chunked, gzip"), "501", "501"),
    Case("TE: gzip", coding(b"gzip"), "501", "501"),
    Case("TE: gzip then TE: chunked", coding(b"gzip\r\nTransfer-Encoding: chunked"), "400", "400"),
    Case("TE: chunked then TE: gzip", coding(b"chunked\r\nTransfer-Encoding: gzip"), "400", "400"),
    Case("TE: chunked x2", coding(b"chunked\r\nTransfer-Encoding: chunked"), "400", "400"),
    Case("TE: chunked, chunked", coding(b"chunked, chunked"), "501", "400"),
    Case("TE: CHUNKED", coding(b"CHUNKED"), "200>POST+CL", "200>POST+TE"),
    Case("TE: xchunked", coding(b"xchunked"), "501", "501"),
    Case("TE: chunkedx", coding(b"chunkedx"), "501", "501"),
    Case("TE: \\x0bchunked", coding(b"\x0bchunked"), "501", "400"),
    Case('TE: "chunked"', coding(b'"chunked"'), "501", "400"),
    Case("TE: chunked<SP>", coding(b"chunked "), "200>POST+CL", "200>POST+TE"),
    Case("TE: chunked<TAB>", coding(b"chunked\t"), "501", "400"),
    Case("TE: ,chunked", coding(b",chunked"), "501", "400"),
    Case("TE: chunked;q=1", coding(b"chunked;q=1"), "501", "400"),
    Case("TE empty", coding(b""), "501", "400"),
    Case("TE chunked HTTP/1.0", coding(b"chunked").replace(b"HTTP/1.1", b"HTTP/1.0"), "400", "400"),
    Case("Transfer_Encoding", post(b"Transfer_Encoding: chunked\r\n", b""), "200>POST", "400"),
    Case("Content_Length", post(b"Content_Length: 3\r\n", b""), "200>POST", "400"),
    Case("chunk ext name", chunked(b"3;a\r\nabc\r\n0\r\n\r\n"), "200>POST+CL", "200>POST+TE"),
    Case("chunk ext name=val", chunked(b"3;a=b\r\nabc\r\n0\r\n\r\n"), "200>POST+CL", "200>POST+TE"),
    Case("chunk ext quoted w/ ;", chunked(b'3;a="b;c"\r\nabc\r\n0\r\n\r\n'), "200>POST+CL", "200>POST+TE"),
    Case("chunk ext bare LF", chunked(b"3;a\nabc\r\n0\r\n\r\n"), "200>POST+CL", "400"),
    Case("chunk ext CR inside", chunked(b"3;a\rb\r\nabc\r\n0\r\n\r\n"), "400", "400"),
    Case("chunk BWS ext '3 ;a'", chunked(b"3 ;a\r\nabc\r\n0\r\n\r\n"), "200>POST+CL", "400"),
    Case("chunk size trailing SP", chunked(b"3 \r\nabc\r\n0\r\n\r\n"), "200>POST+CL", "400"),
    Case("chunk size leading SP", chunked(b" 3\r\nabc\r\n0\r\n\r\n"), "400", "400"),
    Case("chunk size 0x3", chunked(b"0x3\r\nabc\r\n0\r\n\r\n"), "400", "400"),
    Case("chunk size +3", chunked(b"+3\r\nabc\r\n0\r\n\r\n"), "400", "400"),
    Case("chunk size 3_", chunked(b"3_\r\nabc\r\n0\r\n\r\n"), "400", "400"),
    Case("chunk size empty", chunked(b"\r\nabc\r\n0\r\n\r\n"), "400", "400"),
    Case("chunk size 00003", chunked(b"00003\r\nabc\r\n0\r\n\r\n"), "200>POST+CL", "200>POST+TE"),
    Case("chunk size overflow 17 F", chunked(b"FFFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n"), "400", "400"),
    Case("chunk size bare LF", chunked(b"3\nabc\r\n0\r\n\r\n"), "200>POST+CL", "400"),
    Case("chunk data bare LF", chunked(b"3\r\nabc\n0\r\n\r\n"), "200>POST+CL", "400"),
    Case("chunk data 2 junk (abcXX)", chunked(b"3\r\nabcXX0\r\n\r\n"), "400", "400"),
    Case("last chunk LF", chunked(b"3\r\nabc\r\n0\n\r\n"), "200>POST+CL", "400"),
    Case("trailer ok", chunked(b"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"), "200>POST+CL", "200>POST+TE"),
    Case("trailer Content-Length", chunked(b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n"), "200>POST+CL", "400"),
    Case("trailer Transfer-Encoding", chunked(b"3\r\nabc\r\n0\r\nTransfer-Encoding: x\r\n\r\n"), "200>POST+CL", "400"),
    Case("trailer Host", chunked(b"3\r\nabc\r\n0\r\nHost: b\r\n\r\n"), "200>POST+CL", "400"),
    Case("trailer bare LF", chunked(b"3\r\nabc\r\n0\r\nX-T: 1\n\r\n"), "200>POST+CL", "400"),
    Case("trailer obs-fold", chunked(b"3\r\nabc\r\n0\r\nX-T: 1\r\n 2\r\n\r\n"), "200>POST+CL", "400"),
    Case("request line 2 spaces", line(b"GET  / HTTP/1.1"), "200>GET", "400"),
    Case("request line tab", line(b"GET\t/ HTTP/1.1"), "400", "400"),
    Case("request line 3 tokens extra", line(b"GET / x HTTP/1.1"), "400", "400"),
    Case("HTTP/0.9 GET /", b"GET /\r\n", "close>GET", "400"),
    Case("HTTP/1.2", line(b"GET / HTTP/1.2"), "200>GET", "505"),
    Case("HTTP/2.0 version", line(b"GET / HTTP/2.0"), "505", "505"),
    Case("HTTP/9.9", line(b"GET / HTTP/9.9"), "505", "505"),
    Case("HTTP/01.1", line(b"GET / HTTP/01.1"), "400", "400"),
    Case("http/1.1 lower", line(b"GET / http/1.1"), "400", "400"),
    Case("RTSP/1.0", line(b"OPTIONS / RTSP/1.0"), "400", "400"),
    Case("ICE source", line(b"SOURCE / ICE/1.0"), "400", "400"),
    Case("PRI * HTTP/2.0 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400", "505"),
    Case("lower-case method get", line(b"get / HTTP/1.1"), "400", "501"),
    Case("unknown method FOO", line(b"FOO / HTTP/1.1"), "200>FOO", "501"),
    Case("QUERY method", line(b"QUERY / HTTP/1.1"), "200>QUERY", "501"),
    Case("leading CRLF", b"\r\n" + get(), "200>GET", "200>GET"),
    Case("leading LF", b"\n" + get(), "200>GET", "400"),
    Case("leading CRLF twice", b"\r\n\r\n" + get(), "200>GET", "400"),
    Case("URL with space enc? raw 0x80", line(b"GET /\x80 HTTP/1.1"), "200>GET", "400"),
    Case("URL with #frag", line(b"GET /#frag HTTP/1.1"), "200>GET", "400"),
    Case("absolute-form", line(b"GET http://a/ HTTP/1.1"), "200>GET", "200>GET"),
    Case("absolute-form, other host", line(b"GET http://b/ HTTP/1.1"), "200>GET", "400"),
    Case("asterisk GET *", line(b"GET * HTTP/1.1"), "400", "400"),
    Case("URL no slash", line(b"GET x HTTP/1.1"), "400", "400"),
    Case("CONNECT a:1", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "400", "501"),
    Case("CONNECT with CL body", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 3\r\n\r\nabc", "400", "501"),
    Case("Upgrade ws", get(b"Connection: Upgrade\r\nUpgrade: websocket\r\n"), "200>GET", "501"),
    Case("Upgrade hdr w/o Connection", get(b"Upgrade: websocket\r\n"), "200>GET", "200>GET"),
    Case(
        "Upgrade h2c POST CL",
        post(b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n") + get(),
        "200/200>POST+CL,GET",
        "501",
    ),
    Case(
        "Upgrade foo POST chunked",
        post(b"Connection: Upgrade\r\nUpgrade: foo\r\nTransfer-Encoding: chunked\r\n", WHOLE),
        "200>POST+CL",
        "501",
    ),
    Case("GET with body CL", get(b"Content-Length: 3\r\n") + b"abc", "200>GET+CL", "200>GET+CL"),
    Case("pipelined 2", get() + get(), "200/200>GET,GET", "200/200>GET,GET"),
    Case("Connection: close then more", get(b"Connection: close\r\n") + get(), "200>GET", "200>GET"),
    Case("header name ctl", get(b"X\x01: 1\r\n"), "400", "400"),
    Case("header name []", get(b"X[]: 1\r\n"), "200>GET", "400"),
    Case("header name (", get(b"X(: 1\r\n"), "200>GET", "400"),
    Case("empty header name", get(b": 1\r\n"), "400", "400"),
    Case("header without colon", get(b"X\r\n"), "200>GET", "400"),
    Case(
        "Expect: 100-continue",
        post(b"Expect: 100-continue\r\nContent-Length: 3\r\n"),
        "100/200>POST+CL",
        "100/200>POST+CL",
    ),
    Case(
        "Connection: keep-alive, Content-Length",
        post(b"Connection: keep-alive, Content-Length\r\nContent-Length: 3\r\n"),
        "200>POST+CL",
        "400",
    ),
    Case(
        "SMUG CL.TE 0-chunk+GET",
        post(b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % (5 + len(SMUGGLED)), b"0\r\n\r\n" + SMUGGLED),
        "400",
        "400",
    ),
    Case(
        "SMUG TE.CL",
        post(
            b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
        ),
        "400",
        "400",
    ),
    Case("SMUG TE\\x0bchunked+CL", post(b"Transfer-Encoding: \x0bchunked\r\nContent-Length: 3\r\n"), "501", "400"),
    Case("SMUG Transfer-Encoding : chunked", post(b"Transfer-Encoding : chunked\r\n", WHOLE), "400", "400"),
    Case("Connection: X-Secret strip", get(b"Connection: X-Secret\r\nX-Secret: abc\r\n"), "200>GET", "200>GET"),
    Case("Connection: Host strip", get(b"Connection: Host\r\n"), "200>GET", "400"),
    Case("TE: trailers fwd", get(b"TE: trailers\r\n"), "200>GET", "200>GET"),
    Case("Proxy-Connection", get(b"Proxy-Connection: close\r\n"), "200>GET", "200>GET"),
    Case("HTTP/1.0 no host", b"GET / HTTP/1.0\r\n\r\n", "200>GET", "200>GET"),
    Case("Max-Forwards TRACE", b"TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", "405", "405"),
    Case("Expect: weird", get(b"Expect: weird\r\n"), "200>GET", "417"),
    Case("32KB header", get(b"X: " + b"a" * 32_768 + b"\r\n"), "400", "431"),
    Case("100KB header", get(b"X: " + b"a" * 102_400 + b"\r\n"), "400", "431"),
    Case("long target", line(b"GET /" + b"a" * 9_000 + b" HTTP/1.1"), "414", "414"),
    Case("200 headers", get(b"".join(b"X-%d: 1\r\n" % n for n in range(200))), "200>GET", "431"),
    Case("Host: a/b@c", b"GET / HTTP/1.1\r\nHost: a/b@c\r\n\r\n", "400", "400"),
    Case("path //..;/%2e%2e", line(b"GET //..;/%2e%2e HTTP/1.1"), "200>GET", "400"),
    Case("path /%2e%2e/ above the root", line(b"GET /%2e%2e/x HTTP/1.1"), "400", "400"),
    Case("path /a/../b within the root", line(b"GET /a/../b HTTP/1.1"), "200>GET", "400"),
    Case("path /a%2f..%2fb", line(b"GET /a%2f..%2fb HTTP/1.1"), "200>GET", "400"),
    Case("path with dots in a name", line(b"GET /a..b/.../c HTTP/1.1"), "200>GET", "200>GET"),
    Case("query with dots", line(b"GET /?next=/../x HTTP/1.1"), "200>GET", "200>GET"),
]
