"""The only place where numbers become text for people: bytes, times, rates, counts."""

from collections.abc import Sequence

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")
_TIMES = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
UNKNOWN = "\N{EN DASH}"
"""What stands for a value that nobody measured."""


def three_digits(value: float) -> str:
    """Return a number with three significant digits and no exponent.

    >>> [three_digits(v) for v in (0, 1.2345, 12.345, 1234.5, 0.00123)]
    ['0', '1.23', '12.3', '1,234', '0.00123']
    """
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}".removesuffix(".0")
    if size >= 0.001:
        return f"{value:.3g}"
    return f"{value:.2g}"


def mean_count_text(value: float, one: str) -> str:
    """Return a mean of whole things: parts of one say no more than that it is less than one.

    >>> [mean_count_text(v, "object") for v in (0, 0.026, 1.5, 1200.4)]
    ['no object', 'less than one object', '1.5 objects', '1,200 objects']
    """
    if value < 1:
        return f"less than one {one}" if value > 0 else f"no {one}"
    return f"{three_digits(value)} {one}s"


def bytes_text(size_bytes: float | None) -> str:
    """Return a size with its binary unit.

    >>> [bytes_text(v) for v in (0, 640, 163_840, -5_242_880)]
    ['0 B', '640 B', '160 KiB', '-5 MiB']
    """
    if size_bytes is None:
        return UNKNOWN
    divisor, unit = bytes_unit([size_bytes])
    return f"{three_digits(size_bytes / divisor)} {unit}"


def bytes_unit(sizes_bytes: Sequence[float]) -> tuple[float, str]:
    """Return `(divisor, unit)` that suits the largest of the sizes."""
    largest = max((abs(size) for size in sizes_bytes), default=0.0)
    power = 0
    while largest >= 1000 and power < len(_BYTES) - 1:
        largest /= 1024
        power += 1
    return 1024.0**power, _BYTES[power]


def seconds_text(time_s: float | None) -> str:
    """Return a length of time in the unit people would choose.

    >>> [seconds_text(v) for v in (0, 0.0042, 61, 5_400, 200_000)]
    ['0 s', '4.2 ms', '61 s', '1.5 h', '2.31 d']
    """
    if time_s is None:
        return UNKNOWN
    size, unit = next(((s, u) for s, u in _TIMES if abs(time_s) >= s * (2 if s >= 60 else 1)), (1.0, "s"))
    if size == 3_600.0 or (unit == "min" and abs(time_s) >= 3_600):
        size, unit = 3_600.0, "h"
    return f"{three_digits(time_s / size)} {unit}"


def count_text(count: float | None) -> str:
    """Return a count with thousands separated.

    >>> count_text(1234567)
    '1,234,567'
    """
    return UNKNOWN if count is None else f"{count:,.0f}"


def percent_text(ratio: float | None) -> str:
    """Return a share as a percentage; what is not zero is never shown as zero.

    >>> [percent_text(v) for v in (0.5, 0.0321, 0.00001, 0)]
    ['50 %', '3.2 %', '< 0.1 %', '0 %']
    """
    if ratio is None:
        return UNKNOWN
    if 0 < ratio < 0.001:
        return "< 0.1 %"
    digits = 0 if ratio == 0 or ratio >= 0.1 else 1
    return f"{ratio * 100:.{digits}f} %"


def value_text(value: float | None, unit: str) -> str:
    """Return a finding's number with its unit as people read it.

    >>> [value_text(163_840, "bytes/s"), value_text(0.02, "ratio"), value_text(3e9, "ns"), value_text(12, "objects")]
    ['160 KiB/s', '2.0 %', '3 s', '12 objects']
    """
    if value is None:
        return UNKNOWN
    match unit:
        case "bytes":
            return bytes_text(value)
        case "bytes/s":
            return f"{bytes_text(value)}/s"
        case "count":
            return three_digits(value)
        case "ratio":
            return percent_text(value)
        case "percent":
            return f"{three_digits(value)} %"
        case "ns":
            return seconds_text(value / 1e9)
        case "ms":
            return seconds_text(value / 1e3)
        case "s":
            return seconds_text(value)
        case "1/s":
            return f"{three_digits(value)}/s"
        case _:
            return f"{three_digits(value)} {unit}".strip()
