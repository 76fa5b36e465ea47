"""What starts of a fresh process say about a setting that an experiment found better."""

import pytest

from perfkit.confirmation import Start, judged
from perfkit.findings import Verdict

SETTING = "gc.set_threshold(5000)"


def start(time_ratio: float, p99_ms: float | None = None, *, in_force: bool = True, has_workers: bool = False) -> Start:
    return Start("e-fresh", time_ratio, p99_ms, None, in_force, has_workers)


@pytest.mark.parametrize(
    ("pairs", "verdict", "says"),
    [
        pytest.param([(start(0.15), start(0.01)), (start(0.14), start(0.01))], Verdict.PASS, "2 of 2", id="all-saved"),
        pytest.param([(start(0.15), start(0.07))], Verdict.PASS, "1 of 1", id="half-is-left-of-a-younger-heap"),
        pytest.param([(start(0.15), start(0.14))], Verdict.FAIL, "does not hold", id="nothing-saved"),
        pytest.param([(start(0.15), start(0.30))], Verdict.FAIL, "does not hold", id="worse"),
        pytest.param(
            [(start(0.15), start(0.01)), (start(0.14), start(0.14))], Verdict.UNDECIDED, "1 of 2", id="now-and-then"
        ),
        pytest.param([(start(0.01), start(0.0))], Verdict.UNDECIDED, "too little", id="nothing-to-save-yet"),
        pytest.param(
            [(start(0.15), start(0.15, in_force=False))], Verdict.UNDECIDED, "itself changes", id="set-by-the-program"
        ),
        pytest.param(
            [(start(0.15, has_workers=True), start(0.01))], Verdict.UNDECIDED, "forks workers", id="work-is-elsewhere"
        ),
        pytest.param([(start(0.15, 20.0), start(0.01, 30.0))], Verdict.FAIL, "worse", id="tail-got-worse"),
        pytest.param([(start(0.15, 20.0), start(0.01, 21.0))], Verdict.PASS, "holds", id="tail-as-before"),
    ],
)
def test_verdict(pairs: list[tuple[Start, Start]], verdict: Verdict, says: str) -> None:
    found = judged(SETTING, 0.14, pairs)
    assert found.verdict == verdict
    assert says in found.title
    assert found.hint
    assert found.to_json_form()["starts"][0]["with"]["time_ratio"] == pairs[0][1].time_ratio
