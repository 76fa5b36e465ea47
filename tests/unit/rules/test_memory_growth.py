"""What `memory_growth` says about a busy service in each situation."""

from collections.abc import Callable
from pathlib import Path

import pytest

from perfkit.findings import Finding, Verdict
from perfkit.profile import Profile
from perfkit.rules.memory_growth import RULE
from tests.unit.rules.situations import (
    Service,
    descriptor_leak,
    filling_cache,
    full_cache,
    healthy,
    sessions_leak,
)

LEAKS = {"python_leak", "native_leak", "thread_leak", "fd_leak"}


def judged(profile: Profile) -> Finding:
    [finding] = RULE.check(profile)
    return finding


@pytest.mark.parametrize("seconds", [20, 45])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("situation", "verdict", "class_"),
    [
        pytest.param(healthy, Verdict.PASS, "none", id="healthy-passes"),
        pytest.param(sessions_leak, Verdict.FAIL, "python_leak", id="sessions-leak"),
        pytest.param(full_cache, Verdict.PASS, "none", id="a-full-cache-passes-though-traced-memory-rises"),
        pytest.param(filling_cache, Verdict.PASS, "filling", id="a-filling-cache-with-a-limit-is-filling"),
        pytest.param(descriptor_leak, Verdict.FAIL, "fd_leak", id="descriptors-leak"),
    ],
)
def test_verdict(
    situation: Callable[..., Service], verdict: Verdict, class_: str, seed: int, seconds: int, tmp_path: Path
) -> None:
    finding = judged(situation(seed=seed, seconds=seconds).record(tmp_path / "p"))
    assert (finding.verdict, finding.class_) == (verdict, class_), finding.title
