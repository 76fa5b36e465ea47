"""What brings collections about?"""

from perfkit.profile import Profile
from perfkit.units import bytes_text, count_text, percent_text, seconds_text, three_digits
from perfkit.views.display import Bar, Cell, Note, PlainTable
from perfkit.views.selection import chosen_pid, gc_case


def gc_causes(profile: Profile, *, pid: int | None = None) -> PlainTable | Note:
    """Return what the collector's counter counts: garbage, what stays, and what only passes.

    Python starts a collection whenever it has made that many objects more than it freed (the
    threshold); these are the three kinds of objects that add up to it.
    """
    case = gc_case(profile, chosen_pid(profile, pid))
    if case is None:
        return Note("Nothing was recorded: it takes the collector gc_pauses to see what starts collections.")
    model = case.model
    if model is None or not model.counted_per_s:
        return Note("The collector did not start by itself while it was recorded, so nothing brought it about.")
    live = max(model.live_per_s or 0.0, 0.0)
    stays = min(1.0, live / model.counted_per_s)
    rows: list[list[Cell]] = [
        ["garbage in cycles", Bar(percent_text(model.garbage_ratio), model.garbage_ratio), "break the cycles up"],
        [
            "objects that stay",
            Bar(percent_text(stays), stays) if model.live_per_s is not None else None,
            "the price of growing; a setting does not change it much",
        ],
        [
            "objects that live for a moment",
            Bar(percent_text(model.passing_ratio), model.passing_ratio),
            "a threshold above them makes these collections vanish",
        ],
    ]
    per_s = three_digits(model.counted_per_s / (model.threshold + 1))
    notes = [
        f"A collection starts when {model.threshold:,} objects more were made than freed: {per_s} times a second here."
    ]
    if model.working_set_objects is not None:
        notes.append(f"At most about {count_text(model.working_set_objects)} objects live for a moment at a time.")
    if model.heap_objects:
        each = f", at {seconds_text(model.ns_per_object / 1e9)} for each" if model.ns_per_object else ""
        notes.append(f"A full collection walks about {count_text(model.heap_objects)} objects{each}.")
    if case.garbage.kinds:
        notes.append(f"An object of garbage holds {bytes_text(case.garbage.bytes_per_object)} on average.")
    notes += [f"Not known from this recording: it takes {each}." for each in model.unknown]
    return PlainTable(("what", "share of what is counted", "what it means"), rows, notes=tuple(notes))
