"""The only place that adds up stacks: self time, total time, and the tree of a flame graph.

A function on a stack twice is counted once in its total (`stack_frames.is_first` for the
frame; the function is made distinct here), so that totals never exceed the time there is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from perfkit.profile import Profile

if TYPE_CHECKING:
    import pandas as pd

Weights = Literal["cpu", "heap"]


def weights_of_stacks(
    profile: Profile,
    weights: Weights = "cpu",
    *,
    active_only: bool = False,
    from_ns: int | None = None,
    until_ns: int | None = None,
    thread_id: int | None = None,
    pid: int | None = None,
) -> "pd.DataFrame":
    """Return what each stack weighs: columns stack_id, value, samples; the heaviest first.

    For "cpu" the value is time in nanoseconds, for "heap" the bytes that were still alive at
    the end of the recording and `samples` the number of their allocations.

    Args:
        profile: the recording.
        weights: what to add up.
        active_only: cpu only: leave out samples in which the thread waited. Unknown counts as waiting.
        from_ns: earliest time of a sample or of the interval in which it was allocated.
        until_ns: first time that is not counted any more.
        thread_id: cpu only: this thread alone.
        pid: this process alone.
    """
    query, parameters = _weighing(weights, active_only, from_ns, until_ns, thread_id, pid)
    return profile.sql(f"{query} order by value desc, stack_id", **parameters)


def _weighing(
    weights: Weights,
    active_only: bool = False,
    from_ns: int | None = None,
    until_ns: int | None = None,
    thread_id: int | None = None,
    pid: int | None = None,
) -> tuple[str, dict[str, object]]:
    """Return the query for what each stack weighs, and its parameters."""
    time, value, samples, table = {
        "cpu": ("tick_ns", "sum(weight_ns)", "count(*)", "cpu_samples"),
        "heap": ("allocated_ns", "sum(size_bytes)", "sum(allocations)", "heap_survival"),
    }[weights]
    tests: dict[str, tuple[str, object]] = {
        f"{time} >= $from_ns": ("from_ns", from_ns),
        f"{time} < $until_ns": ("until_ns", until_ns),
        "thread_id = $thread_id": ("thread_id", thread_id),
        ("thread_id in (select thread_id from threads where pid = $pid)" if weights == "cpu" else "pid = $pid"): (
            "pid",
            pid,
        ),
    }
    where = [test for test, (_name, given) in tests.items() if given is not None]
    parameters = {name: given for name, given in tests.values() if given is not None}
    where += ["active"] * (active_only and weights == "cpu") + ["freed_ns is null"] * (weights == "heap")
    query = (
        f"select stack_id, cast({value} as bigint) as value, cast({samples} as bigint) as samples "  # noqa: S608
        f"from {table} where {' and '.join(where) or 'true'} group by stack_id"
    )
    return query, parameters


def self_and_total(profile: Profile, weights: Weights = "cpu", **only: Any) -> "pd.DataFrame":
    """Return how much each function weighs by itself and with everything it called, the heaviest total first.

    Args:
        profile: the recording.
        weights: "cpu" for time, "heap" for bytes alive at the end.
        only: limits, as `weights_of_stacks` takes them.

    Returns:
        Columns function, file, line (where most of its weight is), self, total and samples; for
        "cpu" the numbers are called self_ns and total_ns, for "heap" self_bytes and total_bytes.
        The sum of self is the weight of all stacks.
    """
    weighing, parameters = _weighing(weights, **only)
    unit = {"cpu": "ns", "heap": "bytes"}[weights]
    return profile.sql(
        f"""
        with weighed as materialized ({weighing}), places as (
            select f.function_hash, b.stack_id, f.line, any_value(f.function) as function, any_value(f.file) as file,
                   any_value(w.value) as value, any_value(w.samples) as samples, bool_or(s.depth = b.pos + 1) as is_leaf
            from weighed w join stack_frames b using (stack_id) join frames f using (frame_id)
                 join stacks s using (stack_id)
            where b.is_first or s.depth = b.pos + 1
            group by f.function_hash, b.stack_id, f.line
        ), lines as (
            select function_hash, arg_max(line, value) as line from (
                select function_hash, line, sum(value) as value from places group by all order by line
            ) group by function_hash
        ), functions as (
            select function_hash, stack_id, any_value(function) as function, any_value(file) as file,
                   any_value(value) as value, any_value(samples) as samples, bool_or(is_leaf) as is_leaf
            from places group by function_hash, stack_id
        )
        select any_value(function) as function, any_value(file) as file, any_value(line) as line,
               cast(coalesce(sum(value) filter (where is_leaf), 0) as bigint) as self_{unit},
               cast(sum(value) as bigint) as total_{unit}, cast(sum(samples) as bigint) as samples
        from functions join lines using (function_hash) group by function_hash
        order by total_{unit} desc, self_{unit} desc, function, file
        """,  # noqa: S608 - made of two words and the names of columns
        **parameters,
    )


@dataclass(frozen=True, slots=True)
class FlameTree:
    """A flame graph as columns, one entry per box, parents before their children.

    Box 0 is the root: everything. Siblings are in the order of their labels, so that two
    flame graphs of one program look alike. `values[i]` includes the children; what is missing
    to the sum of the children is self. `folded[i]` is the part of box i's children that was
    too small to draw, `boxes_folded` how many boxes that were.

    `frames[i]` indexes `labels`, (function, file, line) each; -1 for the root.
    """

    parents: NDArray[np.int32]
    frames: NDArray[np.int32]
    values: NDArray[np.int64]
    folded: NDArray[np.int64]
    labels: tuple[tuple[str, str | None, int | None], ...]
    unit: str
    boxes_folded: int

    @property
    def total(self) -> int:
        """Weight of everything."""
        return int(self.values[0])

    def to_columns(self) -> dict[str, Any]:
        """Return it as plain lists, for JSON."""
        return {
            "unit": self.unit,
            "parent": self.parents.tolist(),
            "frame": self.frames.tolist(),
            "value": self.values.tolist(),
            "folded": self.folded.tolist(),
            "labels": [list(label) for label in self.labels],
            "boxes_folded": self.boxes_folded,
        }


def flame_tree(profile: Profile, weights: Weights = "cpu", *, min_ratio: float = 0.0005, **only: Any) -> FlameTree:
    """Return the flame graph of a recording, boxes below `min_ratio` of the whole folded into their parents.

    Args:
        profile: the recording.
        weights: "cpu" for time, "heap" for bytes alive at the end.
        min_ratio: smallest box that is kept, as part of the whole. The default is half a pixel of 1000.
        only: limits, as `weights_of_stacks` takes them.
    """
    heavy = weights_of_stacks(profile, weights, **only)
    lists = profile.table("stacks")["frame_ids"].combine_chunks()
    offsets = lists.offsets.to_numpy()
    flat = lists.values.to_numpy()
    stacks = [flat[offsets[s] : offsets[s + 1]] for s in heavy["stack_id"].to_list()]
    frames = profile.table("frames").select(["function", "file", "line"]).to_pydict()
    labels = tuple(zip(frames["function"], frames["file"], frames["line"], strict=True))
    unit = {"cpu": "ns", "heap": "bytes"}[weights]
    return tree_of(stacks, heavy["value"].to_numpy(), labels, unit=unit, min_ratio=min_ratio)


def tree_of(
    stacks: Sequence[NDArray[np.int32]],
    values: NDArray[np.int64],
    labels: tuple[tuple[str, str | None, int | None], ...],
    *,
    unit: str = "ns",
    min_ratio: float = 0.0,
) -> FlameTree:
    """Return the flame graph of weighed stacks.

    Args:
        stacks: n stacks, each its frames from root to leaf, as indices into `labels`.
        values: n weights, not negative.
        labels: function, file and line of each frame.
        unit: what the weights are.
        min_ratio: smallest box that is kept, as part of the whole.
    """
    parents, frames, sums = [-1], [-1], [int(np.sum(values, dtype=np.int64))]
    children: dict[tuple[int, int], int] = {}
    for stack, value in zip(stacks, values.tolist(), strict=True):
        box = 0
        for frame in stack.tolist():
            child = children.get((box, frame))
            if child is None:
                child = children[box, frame] = len(parents)
                parents.append(box)
                frames.append(frame)
                sums.append(0)
            sums[child] += value
            box = child
    return _pruned(np.array(parents), np.array(frames), np.array(sums, dtype=np.int64), labels, unit, min_ratio)


def _pruned(
    parents: NDArray[np.int64],
    frames: NDArray[np.int64],
    values: NDArray[np.int64],
    labels: tuple[tuple[str, str | None, int | None], ...],
    unit: str,
    min_ratio: float,
) -> FlameTree:
    """Return the tree without its small boxes, depth first, siblings by label."""
    smallest = max(1.0, min_ratio * float(values[0]))
    kept = values >= smallest
    kept[0] = True
    # A child weighs no more than its parent, so a box is dropped with everything above it.
    folded = np.zeros(len(values), dtype=np.int64)
    top = ~kept & kept[np.maximum(parents, 0)] & (parents >= 0)
    np.add.at(folded, parents[top], values[top])
    below: dict[int, list[int]] = {}
    for child in (np.flatnonzero(kept[1:]) + 1).tolist():
        below.setdefault(int(parents[child]), []).append(child)
    order: list[int] = []
    number: dict[int, int] = {}
    pending = [0]
    while pending:
        box = pending.pop()
        number[box] = len(order)
        order.append(box)
        pending += sorted(below.get(box, ()), key=lambda b: _label_key(labels[frames[b]]), reverse=True)
    used = sorted({int(frames[box]) for box in order[1:]})
    renamed = {frame: position for position, frame in enumerate(used)}
    return FlameTree(
        parents=np.array([number.get(int(parents[box]), -1) for box in order], dtype=np.int32),
        frames=np.array([renamed.get(int(frames[box]), -1) for box in order], dtype=np.int32),
        values=values[order],
        folded=folded[order],
        labels=tuple(labels[frame] for frame in used),
        unit=unit,
        boxes_folded=int((~kept).sum()),
    )


def _label_key(label: tuple[str, str | None, int | None]) -> tuple[str, str, int]:
    """Return what siblings are sorted by."""
    return label[0], label[1] or "", label[2] or 0
