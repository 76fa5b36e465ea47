"""The only place that says no: statuses the proxy answers by itself, and their bytes."""

import time

REASONS = {
    100: "Continue", 200: "OK", 204: "No Content", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 413: "Content Too Large", 414: "URI Too Long", 417: "Expectation Failed",
    421: "Misdirected Request", 431: "Request Header Fields Too Large", 500: "Internal Server Error",
    501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}  # fmt: skip


class Refused(Exception):
    """A message that is not accepted: the status to answer with, and why, for the client to read."""

    def __init__(self, status: int, why: str, *, fields: bytes = b"") -> None:
        super().__init__(f"{status}: {why}")
        self.status = status
        self.why = why
        self.fields = fields


def date_field() -> bytes:
    """Return the Date field of now, beginning with CRLF."""
    return time.strftime("\r\nDate: %a, %d %b %Y %H:%M:%S GMT", time.gmtime()).encode()


def answer(
    status: int, body: bytes, *, fields: bytes = b"", content_type: str = "text/plain", close: bool, head_only: bool
) -> bytes:
    """Return a whole response made by this process, from status line to body.

    Args:
        status: HTTP status.
        body: content; left out when `head_only`.
        fields: more header fields, each beginning with CRLF.
        content_type: media type of the body.
        close: announce that the connection closes after it.
        head_only: it answers a HEAD request.
    """
    head = b"HTTP/1.1 %d %b%b%b%b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (
        status,
        REASONS.get(status, "Unknown").encode(),
        date_field(),
        b"\r\nConnection: close" if close else b"",
        fields,
        content_type.encode(),
        len(body),
    )
    return head if head_only else head + body
