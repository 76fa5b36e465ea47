"""The only place that reads and writes W3C trace context.

Source: https://www.w3.org/TR/trace-context/
"""

import random
import re

_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})((?:-[!-~]*)?)"
)
_bits = random.Random().getrandbits  # noqa: S311 - ids need to be unique, not secret


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
    """Return a trace id and a span id, neither all zero."""
    digits = b"%048x" % _bits(192)
    trace_id, span_id = digits[:32], digits[32:]
    if span_id == b"0000000000000000" or trace_id == b"00000000000000000000000000000000":
        return new_ids()
    return trace_id, span_id


def new_span_id() -> bytes:
    """Return a span id: 16 hexadecimal digits, not all zero."""
    return b"%016x" % (_bits(64) or 1)
