"""What does the heap consist of, and what would be freed with what? The dominator tree, to be unfolded."""

from collections.abc import Sequence

from perfkit.analysis.dominator_tree import Group, dominator_groups
from perfkit.analysis.heap_graph import HeapGraph
from perfkit.profile import Profile
from perfkit.units import bytes_text, count_text, percent_text
from perfkit.views.display import Bar, Note
from perfkit.views.selection import chosen_pid
from perfkit.views.tree_table import Branch, TreeTable

OPEN_RATIO = 0.15
"""Rows are unfolded at first as long as they hold this share of the heap."""


def dominator_tree(profile: Profile, *, pid: int | None = None, top: int = 8) -> TreeTable | Note:
    """Return what keeps how much of the heap alive at the end, as rows that unfold; the largest are open.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        top: most rows below one row.
    """
    graph = HeapGraph.of(profile, chosen_pid(profile, pid), -1)
    if graph is None:
        return Note("Nothing was recorded: no snapshot of the heap was taken, `--collect object_graph` takes one.")
    heap_bytes = max(int(graph.retained_bytes[-1]), 1)
    groups = dominator_groups(graph, top=top)
    rest = heap_bytes - sum(group.retained_bytes for group in groups)
    caption = f"The heap: {count_text(len(graph))} objects, {bytes_text(heap_bytes)}."
    return TreeTable(
        caption,
        ("what", "objects", "freed with it"),
        [*(_branch(group, heap_bytes) for group in groups), *_rest(rest, heap_bytes)],
        ["Objects of one type that are held by the same thing are one row. Sizes below a row are part of its size."],
    )


def _branch(group: Group, heap_bytes: int) -> Branch:
    """Return a group as a row."""
    last = group.type.rpartition(".")[2]
    if group.objects > 1:
        name, where = f"{last} objects", group.type.removeprefix(f"builtins.{last}")
    else:
        step = group.step if group.step not in ("", last) else ""
        name = " ".join(part for part in (group.name or last, f"({step})" if step else "") if part)
        where = group.type if group.name or group.type != f"builtins.{last}" else ""
    children = [*(_branch(child, heap_bytes) for child in group.children)]
    if children:
        children += _rest(group.rest_bytes, heap_bytes)
    return Branch(
        name=name,
        where=where if where != name else "",
        count=count_text(group.objects),
        size=_size(group.retained_bytes, heap_bytes),
        children=children,
        is_open=group.retained_bytes >= OPEN_RATIO * heap_bytes,
    )


def _rest(size_bytes: int, heap_bytes: int) -> Sequence[Branch]:
    """Return the row of what is too small to be told, if it is worth a row."""
    if size_bytes < 0.0005 * heap_bytes:
        return []
    return [Branch("everything else", "", "", _size(size_bytes, heap_bytes))]


def _size(size_bytes: int, heap_bytes: int) -> Bar:
    """Return a size with its share of the heap."""
    share = size_bytes / heap_bytes
    return Bar(f"{bytes_text(size_bytes)}, {percent_text(share)}", share)
