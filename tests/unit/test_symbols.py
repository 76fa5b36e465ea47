"""Numbers and hashes of frames, stacks and threads."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfkit.symbols import Symbols, content_hash

FRAMES = st.tuples(
    st.sampled_from(["run", "login", "<module>"]),
    st.sampled_from(["/srv/app/a.py", "/usr/lib/python3.11/json/decoder.py", None]),
    st.integers(0, 5),
)


def test_the_same_frame_has_one_number_wherever_it_is_installed() -> None:
    symbols = Symbols()
    here = symbols.frame("get", "/srv/one/lib/python3.11/site-packages/redis/client.py", 5)
    there = symbols.frame("get", "/home/two/lib/python3.11/site-packages/redis/client.py", 5)
    assert here == there


@pytest.mark.parametrize(
    "other",
    [("put", "/srv/app/a.py", 1), ("get", "/srv/app/b.py", 1), ("get", "/srv/app/a.py", 2), ("get", None, None)],
)
def test_other_frames_have_other_numbers(other: tuple[str, str | None, int | None]) -> None:
    symbols = Symbols()
    assert symbols.frame("get", "/srv/app/a.py", 1) != symbols.frame(*other)


@pytest.mark.parametrize("line", [-1, 1 << 31, 4_294_907_391])
def test_a_line_that_was_misread_is_unknown(line: int) -> None:
    symbols = Symbols()
    symbols.stack([symbols.frame("login", "/srv/app/views.py", line)])
    assert symbols.tables()["frames"]["line"].to_pylist() == [None]


def test_line_zero_is_unknown() -> None:
    symbols = Symbols()
    symbols.frame("get", "/srv/app/a.py", 0)
    assert symbols.tables()["frames"]["line"].to_pylist() == [None]


def test_a_stack_needs_a_frame() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Symbols().stack([])


@given(st.lists(st.lists(FRAMES, min_size=1, max_size=6), min_size=1, max_size=12))
def test_the_bridge_agrees_with_the_stacks(stacks: list[list[tuple[str, str | None, int]]]) -> None:
    symbols = Symbols()
    numbers = [symbols.stack([symbols.frame(*frame) for frame in stack]) for stack in stacks]
    tables = symbols.tables()
    by_stack: dict[int, list[tuple[int, bool]]] = {}
    for row in tables["stack_frames"].to_pylist():
        assert row["pos"] == len(by_stack.setdefault(row["stack_id"], []))
        by_stack[row["stack_id"]].append((row["frame_id"], row["is_first"]))
    for row in tables["stacks"].to_pylist():
        frames = [frame for frame, _ in by_stack[row["stack_id"]]]
        assert frames == row["frame_ids"]
        assert (row["depth"], row["leaf_frame_id"]) == (len(frames), frames[-1])
        firsts = [frame for frame, is_first in by_stack[row["stack_id"]] if is_first]
        assert sorted(firsts) == sorted(set(frames))
    assert set(numbers) == by_stack.keys()


def test_hashes_do_not_depend_on_the_order_things_were_seen_in() -> None:
    def hashes(order: list[int]) -> dict[str, int]:
        symbols = Symbols()
        for line in order:
            symbols.stack([symbols.frame("main", "/srv/app/a.py", 1), symbols.frame(f"f{line}", "/srv/app/a.py", line)])
        frames = symbols.tables()["frames"].to_pylist()
        return {row["function"]: row["frame_hash"] for row in frames}

    assert hashes([2, 3, 4]) == hashes([4, 2, 3])


def test_hashes_are_equal_in_another_process() -> None:
    program = "from perfkit.symbols import content_hash; print(content_hash('login', 'app/views.py', None))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert int(answer.stdout) == content_hash("login", "app/views.py", None)


@given(st.lists(st.one_of(st.none(), st.integers(), st.text()), max_size=5))
def test_hash_fits_a_signed_column(parts: list[object]) -> None:
    assert -(2**63) <= content_hash(*parts) < 2**63


def test_function_hash_ignores_the_line() -> None:
    symbols = Symbols()
    symbols.frame("get", "/srv/app/a.py", 1)
    symbols.frame("get", "/srv/app/a.py", 2)
    first, second = symbols.tables()["frames"].to_pylist()
    assert first["function_hash"] == second["function_hash"]
    assert first["frame_hash"] != second["frame_hash"]


def test_a_thread_is_completed_not_repeated() -> None:
    symbols = Symbols()
    number = symbols.thread(7, "a", os_tid=70)
    assert symbols.thread(7, "a", name="worker") == number
    assert symbols.thread(8, "a") != number
    first, _ = symbols.tables()["threads"].to_pylist()
    assert first == {"thread_id": number, "pid": 7, "os_tid": 70, "name": "worker"}
