"""What is the garbage that only the collector can free?"""

from perfkit.analysis.cyclic_garbage import PROBE_FILE
from perfkit.profile import Profile
from perfkit.units import bytes_text, count_text, percent_text, three_digits
from perfkit.views.display import Bar, Cell, Note, Place, PlainTable
from perfkit.views.selection import chosen_pid, gc_case


def garbage_types(profile: Profile, *, pid: int | None = None, top: int = 10) -> PlainTable | Note:
    """Return the kinds of objects in cycles that nobody can reach, and the code that makes them.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        top: most rows to show.
    """
    case = gc_case(profile, chosen_pid(profile, pid))
    if case is None:
        return Note("Nothing was recorded: it takes the collectors gc_pauses and cyclic_garbage to see garbage.")
    garbage = case.garbage.without(lambda kind: kind.site is not None and kind.site.file == PROBE_FILE)
    ours = case.garbage.seen_objects - garbage.seen_objects
    rate = f"{three_digits(garbage.objects_per_s)} objects per second were freed by collections"
    if not garbage.kinds:
        looked = f"{count_text(garbage.looks)} looks at the newest objects found no garbage"
        if ours:
            looked = f"all that {count_text(garbage.looks)} looks found came from perfkit's own recording"
        return Note(f"{rate}; {looked if garbage.looks else 'nobody looked what they were'}.")
    most = max(kind.objects for kind in garbage.kinds)
    named, others = list(garbage.named), [kind for kind in garbage.kinds if kind not in garbage.named]
    has_descriptors = any(kind.descriptors for kind in garbage.kinds)
    rows: list[list[Cell]] = [
        [
            kind.type,
            Place(kind.site.function, kind.site.file, kind.site.line) if kind.site else "held by the others",
            Place(kind.caller.function, kind.caller.file, kind.caller.line) if kind.caller else "",
            Bar(percent_text(kind.objects / garbage.seen_objects), kind.objects / most),
            f"{three_digits(kind.objects / garbage.seen_objects * garbage.objects_per_s)}/s",
            bytes_text(kind.size_bytes / kind.objects),
            *([count_text(kind.descriptors)] if has_descriptors else ()),
        ]
        for kind in (named + others)[:top]
    ]
    headers: tuple[str, ...] = ("type", "made in", "called from", "share of the garbage", "made", "each holds")
    headers = (*headers, "open descriptors") if has_descriptors else headers
    found = f"{count_text(garbage.seen_objects)} unreachable ones in {count_text(garbage.looks)} looks"
    left_out = f" {count_text(ours)} that perfkit's own recording made are left out." if ours else ""
    notes = (f"{rate}. Their kinds are known from looks at the newest objects: {found}.{left_out}",)
    return PlainTable(headers, rows, numbers=frozenset(headers[3:]), notes=notes)
