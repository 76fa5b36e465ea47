"""The only place that reads and writes W3C trace context.

Source: https://www.w3.org/TR/trace-context/
"""

import random
import re

_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})((?:-[!-~]*)?)"
)
_DRAWN = 256
_randbytes = random.Random().randbytes  # noqa: S311 - ids need to be unique, not secret
_ids: list[tuple[bytes, bytes]] = []


def continued(traceparent: bytes) -> tuple[bytes, bytes] | None:
    """Return (trace id, flags) of a valid `traceparent`, else None.

    A version later than 00 may carry more members; version 00 may not.

    >>> continued(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    (b'4bf92f3577b34da6a3ce929d0e0e4736', b'01')
    """
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (match[1] == b"00" and match[4]):
        return None
    return match[2], match[3]


def new_ids() -> tuple[bytes, bytes]:
    """Return a trace id of 32 and a span id of 16 hexadecimal digits, neither all zero."""
    if not _ids:
        _draw_ids()
    return _ids.pop()


def new_span_id() -> bytes:
    """Return a span id: 16 hexadecimal digits, not all zero."""
    return new_ids()[1]


def _draw_ids() -> None:
    """Draw ids in advance: many at once cost a fourth of one at a time."""
    digits = _randbytes(24 * _DRAWN).hex().encode()
    for at in range(0, len(digits), 48):
        trace_id, span_id = digits[at : at + 32], digits[at + 32 : at + 48]
        if trace_id.strip(b"0") and span_id.strip(b"0"):
            _ids.append((trace_id, span_id))
