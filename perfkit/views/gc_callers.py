"""Who asks for collections by hand?"""

from perfkit.profile import Profile
from perfkit.units import count_text, mean_count_text, percent_text, seconds_text, three_digits
from perfkit.views.display import Cell, Note, Place, PlainTable
from perfkit.views.selection import chosen_pid, gc_case


def gc_callers(profile: Profile, *, pid: int | None = None, top: int = 10) -> PlainTable | Note:
    """Return the places that call gc.collect(), the costliest first.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        top: most rows to show.
    """
    case = gc_case(profile, chosen_pid(profile, pid))
    if case is None:
        return Note("Nothing was recorded: it takes the collector gc_pauses to see who collects.")
    if not case.costs.callers:
        return Note("Nobody called gc.collect(): every collection was the interpreter's own decision.")
    rows: list[list[Cell]] = [
        [
            Place(each.site.function, each.site.file, each.site.line),
            f"{count_text(each.collections)}, {three_digits(each.collections / case.costs.covered_s)}/s",
            percent_text(each.time_ratio),
            seconds_text(each.p50_ms / 1e3),
            mean_count_text(each.collected / each.collections, "object"),
        ]
        for each in case.costs.callers[:top]
    ]
    headers = ("calls gc.collect()", "how often", "share of time", "usual pause", "frees each time")
    return PlainTable(headers, rows, numbers=frozenset(headers[1:]))
