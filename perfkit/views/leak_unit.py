"""What is left behind together, in which proportions, and how often?"""

from collections.abc import Sequence

from perfkit.analysis.leak_unit import Content, LeakUnit, Part, contents
from perfkit.profile import Profile
from perfkit.units import bytes_text, count_text, three_digits
from perfkit.views.display import Cell, Note, Place, PlainTable
from perfkit.views.selection import chosen_pid, leaked_objects, leaking_units

_LONGEST = 60
"""Characters of a type's name in the caption."""
_LEAST = 0.005
"""Share of a unit's memory below which what comes with it is added up."""


def leak_unit(
    profile: Profile, *, pid: int | None = None, top: int = 3, warmup_s: float | None = None
) -> PlainTable | Note:
    """Return what piles up in fixed proportions: one row per type, with its number and bytes in one unit.

    The types come from the censuses; what only those objects keep alive (texts, buffers) from
    the snapshot of the heap, where there is one.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        top: most units to show.
        warmup_s: start of the recording to leave out, in seconds; None or negative: found from the data.
    """
    pid = chosen_pid(profile, pid)
    if not (profile.frame("object_census")["pid"] == pid).any():
        return Note("Nothing was recorded: no collector counted the objects of this process.")
    units = leaking_units(profile, pid, warmup_s)[:top]
    if not units:
        return Note("No type piles up, so there is no unit that is left behind.")
    rows: list[list[Cell]] = []
    has_graph = False
    for unit in units:
        leaked = leaked_objects(profile, pid, unit.type)
        inside = contents(leaked.graph, leaked.nodes) if leaked else []
        has_graph |= bool(inside)
        rows += _rows(unit, inside)
    headers = ("type", "in one unit", "bytes in one unit", "units per second", "units per request")
    caption = f"One unit: {_sentence(rows)}" if len(units) == 1 else f"{len(units)} units, each led by its own type"
    note = "" if has_graph else "Only what the garbage collector tracks is counted: `--collect object_graph` sees all."
    return PlainTable(headers, rows, frozenset(headers[1:]), caption, [note] if note else [])


def _rows(unit: LeakUnit, inside: Sequence[Content]) -> list[list[Cell]]:
    """Return the rows of one unit: its leading type with its pace first."""
    rate, per_request = unit.units_per_s, unit.per_request
    held = {each.type: each for each in inside}
    rows: list[list[Cell]] = []
    for part in unit.parts:
        content = held.pop(part.type, None)
        size = part.own_bytes if content is None else content.bytes
        rows.append([Place(part.type.removeprefix("builtins.")), _many(part), _size(size), "", ""])
    rows[0][3] = f"{three_digits(rate.estimate)}"
    rows[0][4] = None if per_request is None else three_digits(round(per_request.estimate, 3))
    total = sum(each.bytes for each in inside)
    for each in inside:
        if each.type in held and each.bytes >= _LEAST * total:
            name = each.type.removeprefix("builtins.")
            rows.append([Place(name), three_digits(round(each.objects, 2)), _size(each.bytes), "", ""])
    if inside:
        rows.append(["all that goes with it", "", _size(total), "", ""])
    return rows


def _many(part: Part) -> str:
    """Return how many of a type one unit has: a whole number, or about how many."""
    if part.whole is not None:
        return count_text(part.whole)
    estimate = part.per_unit[1]
    if estimate < 0.9:
        return f"1 in {three_digits(round(1 / estimate, 1))}" if estimate > 0 else "0"
    return f"about {three_digits(round(estimate, 1))}"


def _size(size_bytes: float | None) -> str | None:
    """Return a size of bytes that are means, not measured one by one."""
    return None if size_bytes is None else bytes_text(round(size_bytes))


def _sentence(rows: Sequence[Sequence[Cell]]) -> str:
    """Return a unit in words: 1 Session, 1 dict, 2 str."""
    counted = [(row[1], row[0].function.rpartition(".")[2]) for row in rows if isinstance(row[0], Place)]
    words = [f"{many} {name[:_LONGEST]}" for many, name in counted[:6]]
    return ", ".join(words) + (f" and {len(counted) - 6} more types" if len(counted) > 6 else "")
