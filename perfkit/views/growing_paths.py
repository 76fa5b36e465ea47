"""Where in the heap is the memory that was added between two snapshots?"""

import numpy as np
from numpy.typing import NDArray

from perfkit.analysis.heap_growth import HeapGrowth, between
from perfkit.profile import Profile
from perfkit.units import bytes_text, percent_text
from perfkit.views.display import Bar, Cell, Chain, Note, PlainTable
from perfkit.views.selection import chosen_pid

MOST_STEPS = 12
"""Steps of a path that are shown; of a longer one the middle is left out."""


def growing_paths(profile: Profile, *, pid: int | None = None, top: int = 10) -> PlainTable | Note:
    """Return the paths behind which more memory is at the last snapshot than at the first, most bytes first.

    Keys and numbers in the steps are masked, so that all sessions in a dictionary are one path;
    each object is counted once, on its shortest path, so the rows add up.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        top: most rows to show.
    """
    found = between(profile, chosen_pid(profile, pid))
    if found is None:
        return Note("Nothing was recorded: it takes two snapshots of the heap to see which paths grow.")
    grown, from_s, until_s = found
    added, is_imported = grown.added_bytes, _imported(grown)
    whole = int(added[added > 0].sum())
    if not whole:
        return Note("No path leads to more memory at the last snapshot than at the first.")
    largest = np.argsort(np.where(is_imported, 0, -added), kind="stable")[:top]
    largest = largest[(added[largest] > 0) & ~is_imported[largest]]
    rows: list[list[Cell]] = [_row(grown, int(number), whole) for number in largest]
    imported = int(added[is_imported & (added > 0)].sum())
    rest = whole - imported - int(added[largest].sum())
    for what, size_bytes in (("all other paths that grew", rest), ("modules that were imported meanwhile", imported)):
        if size_bytes > 0:
            rows.append([what, _bar(size_bytes, whole), percent_text(size_bytes / whole), "", ""])
    headers = ("path from a root to the objects", "added", "share", "objects added", "objects now")
    caption = f"Added from {from_s:.0f} s to {until_s:.0f} s into the recording: {bytes_text(whole)}"
    return PlainTable(headers, rows, numbers=frozenset(headers[1:]), caption=caption)


def _imported(grown: HeapGrowth) -> NDArray[np.bool_]:
    """Return which classes are of modules that were not there before, the tracer's among them."""
    classes = grown.classes
    found = np.zeros(len(classes), bool)
    for number, parent in enumerate(classes.parent):
        is_new = grown.objects[number] == grown.added_objects[number]
        found[number] = found[parent] if parent >= 0 else is_new and classes.type[number] == "builtins.module"
    return found


def _row(grown: HeapGrowth, number: int, whole: int) -> list[Cell]:
    """Return the row of one class of paths."""
    snapshot, node = grown.classes.example[number]
    steps = (grown.before, grown.after)[snapshot].steps(node)
    added = int(grown.added_bytes[number])
    return [
        Chain(_shortened(tuple(steps))),
        _bar(added, whole),
        percent_text(added / whole),
        f"{int(grown.added_objects[number]):+,}",
        f"{int(grown.objects[number]):,}",
    ]


def _bar(size_bytes: int, whole: int) -> Bar:
    """Return a number of bytes as a share of all that was added."""
    return Bar(f"+{bytes_text(size_bytes)}", size_bytes / whole)


def _shortened(steps: tuple[str, ...]) -> tuple[str, ...]:
    """Return a path without the middle of a long one."""
    if len(steps) <= MOST_STEPS:
        return steps
    half = MOST_STEPS // 2
    return (*steps[:half], f"… {len(steps) - 2 * half} steps …", *steps[-half:])
