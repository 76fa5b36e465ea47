"""Leaks and their look-alikes, recorded by process id like a user would: a quick part of `make bench-leaks`."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.leaks.corpus import LEAK_CLASSES, programs
from benchmarks.leaks.running import Run, check, interpreter, record
from benchmarks.leaks.score import Score, score

pytestmark = [pytest.mark.attach, pytest.mark.slow, pytest.mark.recording, pytest.mark.timeout(240)]

LEAKS = {
    "request_bodies": "bytes-in-a-list-of-an-instance",
    "metric_labels": "in-a-library-of-the-service",
    "sessions_without_expiry": "in-the-dictionary-of-a-module",
}
LOOK_ALIKES = {
    "lru_filling": "a-cache-that-fills",
    "ttl_cache": "a-cache-with-a-time-to-live",
    "healthy": "nothing-at-all",
}
FASTER = ("--mib-per-min", "24", "--objects", "40000")
"""25 s instead of a minute: four times the leak, in a heap that takes a fifth of the time to count."""


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Score]:
    """How right the finding about each program is, by its name."""
    folder = tmp_path_factory.mktemp("leaks")

    def judged(name: str) -> Score:
        [program] = programs([name])
        options = FASTER if name in LEAKS else FASTER[2:]
        run = Run(program, "steady", 1, interpreter(""), Path(folder / name), options)
        record(run, "25s")
        return score(run, json.loads(check(run)))

    with ThreadPoolExecutor(3) as pool:
        return {result.name: result for result in pool.map(judged, [*LEAKS, *LOOK_ALIKES])}


@pytest.mark.parametrize("name", LEAKS, ids=LEAKS.values())
def test_a_leak_is_found_with_its_holder_and_its_line(name: str, scores: dict[str, Score]) -> None:
    result = scores[name]
    assert result.got == "python_leak", result.title
    assert result.holder_top1, result.holder
    assert result.allocation, result.title
    assert result.slope_error == pytest.approx(0, abs=0.25)


@pytest.mark.parametrize("name", LOOK_ALIKES, ids=LOOK_ALIKES.values())
def test_what_only_looks_like_a_leak_is_not_called_one(name: str, scores: dict[str, Score]) -> None:
    result = scores[name]
    assert result.got not in LEAK_CLASSES, result.title
    assert result.class_right, result.title
