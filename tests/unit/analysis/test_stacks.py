"""Self and total time, and the tree of a flame graph, against what can be counted by hand."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.analysis.stacks import flame_tree, self_and_total, tree_of, weights_of_stacks
from perfkit.profile import Profile
from tests.builders import make_profile

A, B, C = ("a", "/srv/app/x.py", 1), ("b", "/srv/app/x.py", 20), ("c", "/srv/app/y.py", 3)
B_ELSEWHERE = ("b", "/srv/app/x.py", 21)
MS = 1_000_000


def sample(
    ms: int, *stack: tuple[str, str, int], active: bool | None = True, thread: str = "main"
) -> dict[str, object]:
    return {"tick_ns": ms * MS, "weight_ns": 10 * MS, "stack": stack, "thread": thread, "active": active}


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    cpu = [
        sample(0, A, B),
        sample(10, A, B_ELSEWHERE),
        sample(20, A, B_ELSEWHERE),
        sample(30, A, active=False),
        sample(40, A, B_ELSEWHERE, A, C),
        sample(50, C, thread="other", active=None),
    ]
    heap = [
        {"stack": (A, B), "allocated_ns": 10, "freed_ns": None, "allocations": 2, "size_bytes": 600},
        {"stack": (A, C), "allocated_ns": 10, "freed_ns": None, "allocations": 1, "size_bytes": 400},
        {"stack": (A, C), "allocated_ns": 10, "freed_ns": 20, "allocations": 9, "size_bytes": 9000},
    ]
    return make_profile(tmp_path / "p", cpu=cpu, heap=heap)


def rows(profile: Profile, *args: str, **only: object) -> dict[str, tuple[int, int]]:
    """Return {function: (self, total)} in the table's own numbers."""
    table = self_and_total(profile, *args, **only)  # type: ignore[arg-type]
    return {row.function: (row[4], row[5]) for row in table.itertuples()}


def test_self_and_total_count_recursion_once(profile: Profile) -> None:
    table = rows(profile)
    assert table == {"a": (10 * MS, 50 * MS), "b": (30 * MS, 40 * MS), "c": (20 * MS, 20 * MS)}


def test_self_adds_up_to_everything(profile: Profile) -> None:
    table = self_and_total(profile)
    assert table["self_ns"].sum() == 60 * MS
    assert list(table.columns) == ["function", "file", "line", "self_ns", "total_ns", "samples"]


def test_the_line_is_where_most_of_the_weight_is(profile: Profile) -> None:
    table = self_and_total(profile).set_index("function")
    assert table.loc["b", "line"] == 21


@pytest.mark.parametrize(
    ("only", "total_ms"),
    [
        pytest.param({}, 60, id="everything"),
        pytest.param({"active_only": True}, 40, id="active-excludes-idle-and-unknown"),
        pytest.param({"from_ns": 20 * MS}, 40, id="from-a-time"),
        pytest.param({"from_ns": 20 * MS, "until_ns": 40 * MS}, 20, id="a-stretch-of-time"),
        pytest.param({"thread_id": 1}, 10, id="one-thread"),
        pytest.param({"pid": 4242}, 60, id="the-process"),
        pytest.param({"pid": 1}, 0, id="another-process"),
    ],
)
def test_limits(profile: Profile, only: dict[str, int], total_ms: int) -> None:
    assert weights_of_stacks(profile, **only)["value"].sum() == total_ms * MS  # type: ignore[arg-type]
    assert flame_tree(profile, **only).total == total_ms * MS


def test_the_heap_counts_what_is_still_alive(profile: Profile) -> None:
    assert rows(profile, "heap") == {"a": (0, 1000), "b": (600, 600), "c": (400, 400)}
    tree = flame_tree(profile, "heap")
    assert (tree.unit, tree.total) == ("bytes", 1000)


def test_nothing_recorded_is_an_empty_answer(tmp_path: Path) -> None:
    empty = make_profile(tmp_path / "empty")
    assert self_and_total(empty).empty
    assert flame_tree(empty).to_columns()["value"] == [0]


def test_the_tree_has_parents_first_and_siblings_in_order(profile: Profile) -> None:
    columns = flame_tree(profile).to_columns()
    labels = [label[0] for label in columns["labels"]]
    boxes = [
        (labels[frame] if frame >= 0 else "all", parent)
        for frame, parent in zip(columns["frame"], columns["parent"], strict=True)
    ]
    assert boxes == [("all", -1), ("a", 0), ("b", 1), ("b", 1), ("a", 3), ("c", 4), ("c", 0)]


def test_small_boxes_are_folded_and_counted(profile: Profile) -> None:
    tree = flame_tree(profile, min_ratio=0.3)
    assert tree.boxes_folded == 4
    assert tree.total == 60 * MS
    assert tree.folded.tolist()[0] == 10 * MS, "what is not drawn is said"


LABELS = tuple((f"f{number}", None, None) for number in range(5))
stacks_st = st.lists(
    st.tuples(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(0, 1000)), min_size=1, max_size=40
)


@given(stacks_st, st.sampled_from([0.0, 0.05, 0.5]))
def test_a_tree_adds_up(weighed: list[tuple[list[int], int]], min_ratio: float) -> None:
    tree = tree_of(
        [np.array(stack, dtype=np.int32) for stack, _ in weighed],
        np.array([value for _, value in weighed], dtype=np.int64),
        LABELS,
        min_ratio=min_ratio,
    )
    assert tree.total == sum(value for _, value in weighed)
    assert (tree.parents[1:] < np.arange(1, len(tree.parents))).all(), "parents come first"
    below = np.zeros(len(tree.values), dtype=np.int64)
    np.add.at(below, tree.parents[1:], tree.values[1:])
    self_weight = tree.values - below - tree.folded
    assert (self_weight >= 0).all()
    leaves: Counter[int] = Counter()
    for stack, value in weighed:
        leaves[stack[-1]] += value
    assert self_weight.sum() + tree.folded.sum() == tree.total
    if min_ratio == 0.0:
        found: Counter[str] = Counter()
        for frame, weight in zip(tree.frames[1:], self_weight[1:], strict=True):
            found[tree.labels[frame][0]] += int(weight)
        assert +found == +Counter({LABELS[frame][0]: value for frame, value in leaves.items()})
