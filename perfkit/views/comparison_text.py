"""What changed from one recording to another, in words and table cells for the terminal."""

from dataclasses import replace

from perfkit.analysis.changes import Outcome
from perfkit.analysis.comparability import Bearing, Difference
from perfkit.analysis.comparison import Row
from perfkit.analysis.comparison_growth import GrowthChange
from perfkit.analysis.comparison_memory import HeapChange
from perfkit.units import UNKNOWN, bytes_text, seconds_text, three_digits

HEAP_ROWS = 5
"""Rows of each table of the heap that fit on a screen; `--json` has more."""
LONGEST = 60
"""Characters of a setting that are shown."""
_ORDER = [Outcome.WORSE, Outcome.FIXED, Outcome.BETTER, Outcome.CANNOT_TELL, Outcome.SAME]
_WORDS = {Outcome.CANNOT_TELL: "cannot tell"}


def growth_title(change: GrowthChange) -> str:
    """Return what became of the growth of memory, in a sentence."""
    rate = change.rate
    if change.of is None or rate is None:
        if change.outcome is Outcome.SAME:
            seen = bytes_text(change.smallest_seen)
            return f"memory does not grow in either; growth above {seen}/s would have been told"
        return f"whether the growth of memory changed cannot be told: {change.because}"
    what = (change.base if change.of == "base" else change.head).title
    before, after = (rate_text(slope.estimate, rate.unit) for slope in (rate.base, rate.head))
    match change.outcome:
        case Outcome.FIXED:
            # What the rate at its lowest would have left behind in the time that HEAD was watched.
            expected = rate_text(rate.base.low * change.watched_s, rate.unit).removesuffix("/s")
            return (
                f"the growth is gone, {before} before ({what}); in {seconds_text(change.watched_s)} HEAD would have "
                f"gained {expected}, and growth above {rate_text(change.smallest_seen or 0.0, rate.unit)} would show"
            )
        case Outcome.CANNOT_TELL:
            return f"what became of the growth cannot be told, {change.because}: {before}, then {after} ({what})"
        case Outcome.WORSE if change.of == "head":
            return f"memory grows now: {before} before, {after} after ({what})"
        case Outcome.WORSE:
            return f"memory grows faster: {before} before, {after} after ({what})"
        case Outcome.BETTER:
            return f"memory grows more slowly: {before} before, {after} after ({what})"
    return f"memory still grows: {before} before, {after} after ({what})"


def row_title(each: Row) -> str:
    """Return what became of a number, in a few words."""
    if each.base is None or each.head is None:
        return f"{row_name(each)}: {each.because}"
    return f"{row_name(each)} {' → '.join(_values(each))}"


def row_name(each: Row) -> str:
    """Return what is compared."""
    return each.metric.replace("_", " ") + (f": {each.subject}" if each.subject else "")


def table_of(rows: tuple[Row, ...]) -> list[list[str]]:
    """Return a line of cells per number, what is worse first: outcome, what, before, after, change and interval."""
    return [
        [_WORDS.get(each.outcome, str(each.outcome)), row_name(each), *_values(each), _change(each)]
        for each in sorted(rows, key=lambda row: _ORDER.index(row.outcome))
    ]


def remarks(rows: tuple[Row, ...]) -> list[str]:
    """Return a line for each reason why numbers are not judged, with these numbers."""
    reasons: dict[str, list[str]] = {}
    for each in rows:
        if each.because:
            reasons.setdefault(each.because, []).append(row_name(each))
    return [f"not judged, {reason}: {', '.join(names)}" for reason, names in reasons.items()]


def difference_line(each: Difference) -> str:
    """Return a difference between two recordings as a line, long values cut."""
    mark = {Bearing.REFUSED: "NOT COMPARABLE", Bearing.NOT_JUDGED: "not judged", Bearing.NOTED: "differs"}[each.bearing]
    short = replace(each, base=_cut(each.base), head=_cut(each.head))
    return f"{mark:14} {short}"


def heap_lines(heap: HeapChange) -> list[str]:
    """Return a line for each of the largest differences between two heaps."""
    lines = []
    for title, parts in (
        ("heap by path", heap.paths),
        ("held by type", heap.holders),
        ("objects by type", () if heap.paths else heap.types),
    ):
        for part in parts[:HEAP_ROWS]:
            (few, many), (small, large) = part.objects, part.size_bytes
            change = bytes_text(large - small)
            sign = "" if change.startswith("-") else "+"
            lines.append(f"{title:15} {sign}{change} {part.name} ({few:,} → {many:,} objects)")
    for title, paces in (("kept by line", heap.line_paces), ("growing type", heap.type_paces)):
        for pace in paces[:HEAP_ROWS]:
            where = f" ({pace.file}:{pace.line})" if pace.file else ""
            before, after = (rate_text(slope.estimate, pace.unit) for slope in (pace.base, pace.head))
            lines.append(f"{title:15} {before} → {after} {pace.name}{where}")
    return lines


def number_text(value: float, unit: str) -> str:
    """Return a number with its unit for people.

    >>> number_text(0.0123, "ratio"), number_text(5 << 20, "bytes"), number_text(7.25, "ms"), number_text(9, "1/s")
    ('1.23 %', '5 MiB', '7.25 ms', '9/s')
    """
    if unit == "bytes":
        return bytes_text(value)
    if unit == "ratio":
        return f"{three_digits(value * 100)} %"
    return f"{three_digits(value)}{unit[1:]}" if unit.startswith("1/") else f"{three_digits(value)} {unit}"


def rate_text(value: float, unit: str) -> str:
    """Return a rate for people.

    >>> rate_text(2048, "bytes/s"), rate_text(3, "objects/s"), rate_text(2.5, "1/s")
    ('2 KiB/s', '3 objects/s', '2.5/s')
    """
    return f"{bytes_text(value)}/s" if unit == "bytes/s" else number_text(value, unit)


def _change(each: Row) -> str:
    """Return a change with its interval: a factor, or a difference."""
    change = each.change
    if change is None:
        return UNKNOWN
    if change.scale == "ratio":
        return f"{_factor(change.estimate)}x ({_factor(change.low)} to {_factor(change.high)})"
    low, middle, high = (number_text(value, each.unit) for value in change.interval)
    return f"{middle} ({low.partition(' ')[0]} to {high.partition(' ')[0]})"


def _cut(text: str) -> str:
    """Return a text that fits on a line."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _values(each: Row) -> list[str]:
    """Return the number before and after."""
    return [number_text(side.estimate, each.unit) if side else UNKNOWN for side in (each.base, each.head)]


def _factor(value: float) -> str:
    """Return a factor; beyond a thousand nobody reads digits."""
    return f"{value:.2f}" if value < 1000 else ">1000"
