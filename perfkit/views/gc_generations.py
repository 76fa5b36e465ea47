"""Which collections were there, and what started them?"""

from perfkit.analysis.gc_costs import GenerationCost
from perfkit.profile import Profile
from perfkit.units import count_text, mean_count_text, percent_text, seconds_text, three_digits
from perfkit.views.display import Bar, Cell, Note, PlainTable
from perfkit.views.selection import chosen_pid, gc_case

NAMES = {0: "young objects", 1: "young and middle-aged", 2: "everything (full)"}
"""What the generations are, for people who do not know them by number."""


def gc_generations(profile: Profile, *, pid: int | None = None) -> PlainTable | Note:
    """Return one row per kind of collection: what it walks, who started it, how long it takes, what it frees."""
    case = gc_case(profile, chosen_pid(profile, pid))
    if case is None:
        return Note("Nothing was recorded: it takes the collector gc_pauses to see collections.")
    if not case.costs.generations:
        return Note("The collector never ran while it was recorded.")
    most = max(each.time_ratio for each in case.costs.generations)
    rows = [_row(each, most) for each in sorted(case.costs.generations, key=lambda each: -each.time_ratio)]
    headers = (
        "walks",
        "started by",
        "how many",
        "share of time",
        "usual pause",
        "99 % take at most",
        "longest",
        "frees each time",
    )
    return PlainTable(headers, rows, numbers=frozenset(headers[2:]))


def _row(each: GenerationCost, most: float) -> list[Cell]:
    """Return the cells of one kind of collection."""
    return [
        f"{NAMES[each.generation]}, generation {each.generation}",
        "the program (gc.collect)" if each.manual else "the interpreter",
        f"{count_text(each.collections)}, {three_digits(each.per_s)}/s",
        Bar(percent_text(each.time_ratio), each.time_ratio / most if most else 0.0),
        seconds_text(each.p50_ms / 1e3),
        seconds_text(each.p99_ms / 1e3),
        seconds_text(each.max_ms / 1e3),
        mean_count_text(each.yield_objects, "object"),
    ]
