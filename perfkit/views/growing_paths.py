"""Where in the heap is the memory that was added between two snapshots?"""

from typing import TYPE_CHECKING

from perfkit.analysis.heap_graph import HeapGraph, snapshots
from perfkit.analysis.retainers import by_path
from perfkit.profile import Profile
from perfkit.units import bytes_text, count_text, percent_text
from perfkit.views.display import Bar, Cell, Chain, Note, PlainTable
from perfkit.views.selection import chosen_pid

if TYPE_CHECKING:
    import pandas as pd

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
    pid = chosen_pid(profile, pid)
    taken = snapshots(profile, pid)
    if len(taken) < 2:
        return Note("Nothing was recorded: it takes two snapshots of the heap to see which paths grow.")
    before, after = (HeapGraph.of(profile, pid, rung) for rung in (taken[0], taken[-1]))
    assert before is not None
    assert after is not None
    added = _added(by_path(before), by_path(after))
    grown = added[added["size_bytes"] > 0]
    whole = int(grown["size_bytes"].sum())
    if not whole:
        return Note("No path leads to more memory at the last snapshot than at the first.")
    rows: list[list[Cell]] = [
        [
            Chain(_shortened(tuple(path.split(" > ")))),
            Bar(f"+{bytes_text(size)}", size / whole),
            percent_text(size / whole),
            f"{objects:+,}",
            count_text(now),
        ]
        for path, objects, size, now in grown.head(top).itertuples(index=False)
    ]
    headers = ("path from a root to the objects", "added", "share", "objects added", "objects now")
    return PlainTable(headers, rows, numbers=frozenset(headers[1:]))


def _added(before: "pd.DataFrame", after: "pd.DataFrame") -> "pd.DataFrame":
    """Return what is behind each path more than before (columns path, objects, size_bytes, now), most bytes first."""
    then, now = (frame.set_index("path")[["objects", "size_bytes"]] for frame in (before, after))
    more = now.sub(then, fill_value=0).astype("int64")
    more["now"] = now["objects"].reindex(more.index, fill_value=0)
    return more.reset_index().sort_values(["size_bytes", "path"], ascending=[False, True], ignore_index=True)


def _shortened(steps: tuple[str, ...]) -> tuple[str, ...]:
    """Return a path without the middle of a long one."""
    if len(steps) <= MOST_STEPS:
        return steps
    half = MOST_STEPS // 2
    return (*steps[:half], f"… {len(steps) - 2 * half} steps …", *steps[-half:])
