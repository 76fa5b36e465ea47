"""The only place that knows how HTTP/1.1 is spelled: the grammar of RFC 9112 as regular expressions.

One possessive match validates a whole head in C, in linear time (a possessive quantifier never
backtracks). It is as fast as httptools for common requests and faster for long ones, since
fields nobody asks for are checked but never cut out, copied or wrapped in objects, and unlike
llhttp it has no lenient corner: what does not match is refused. `tests/unit/proxy` holds it
against httptools and h11.

Source: https://www.rfc-editor.org/rfc/rfc9112 and https://www.rfc-editor.org/rfc/rfc9110
"""

import re

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]"
_FIELDS = rb"((?:\r\n" + _TOKEN + rb"++:" + _VALUE + rb"*+)*+)"

REQUEST_HEAD = re.compile(rb"(" + _TOKEN + rb'++) ([!"$-~]++) HTTP/(\d\.\d)' + _FIELDS + rb"\r\n\r\n")
"""Groups: method, target, version, fields. Each field begins with CRLF, the way it is passed on."""

RESPONSE_HEAD = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)( " + _VALUE + rb"*+)?+" + _FIELDS + rb"\r\n\r\n")
"""Groups: minor version, status, reason with its leading space, fields."""

REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb'++) ([!"$-~]++) HTTP/(\d\.\d)(?=\r\n)')
FIELD_LINE = re.compile(_TOKEN + rb"++:" + _VALUE + rb"*+")


def field_named(*names: str) -> re.Pattern[bytes]:
    """Return a pattern that finds the fields with these names; groups: name, value without leading blanks."""
    return re.compile(rb"\r\n(" + "|".join(map(re.escape, names)).encode() + rb"):[ \t]*+([^\r]*+)", re.IGNORECASE)


def whole_field_named(*names: str) -> re.Pattern[bytes]:
    """Return a pattern that finds whole fields with these names, to cut them out."""
    return re.compile(rb"\r\n(?:" + "|".join(map(re.escape, names)).encode() + rb"):[^\r]*+", re.IGNORECASE)


LENGTH_DIGITS = 18
"""Content-Length: digits only. So many at most: no list, no sign, no overflow anywhere downstream."""

HOST = re.compile(rb"(?:[0-9A-Za-z\-._~!$&'()*+,;=%]++|\[[0-9A-Fa-f:.]++\])(?::\d{0,5})?")
"""Host: a name or address and an optional port; no user, no path, not empty."""

ABSOLUTE_FORM = re.compile(rb"http://([^/?]++)(/[^?]*+)?(\?.*+)?", re.IGNORECASE)
"""Groups: authority, path, query."""

_SLASH = rb"(?:/|\\|%2f|%5c)"
PARENT_SEGMENT = re.compile(_SLASH + rb"(?:\.|%2e){2}(?:;[^/]*+)?(?:" + _SLASH + rb"|$)", re.IGNORECASE)
"""A `..` segment, plainly or percent-encoded. Servers resolve it differently, so a prefix could be escaped."""

CODINGS = re.compile(_TOKEN + rb"++(?: *+, *+" + _TOKEN + rb"++)*+")
"""A well-formed list of transfer codings without parameters."""

_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:;" + _TOKEN + rb"++(?:=(?:" + _TOKEN + rb"++|" + _QUOTED + rb"))?+)*+\r\n"
)
"""Size of a chunk and its extensions; no blanks anywhere, since proxies disagree about them."""

CHUNK_LINE_LIMIT_BYTES = 256
TRAILER_LIMIT_BYTES = 4096
