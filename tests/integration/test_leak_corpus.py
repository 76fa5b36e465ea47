"""Leaks and their look-alikes, recorded by process id like a user would: a quick part of `make bench-leaks`."""

import json
from pathlib import Path

import pytest

from benchmarks.leaks.corpus import LEAK_CLASSES, programs
from benchmarks.leaks.running import Run, check, interpreter, record
from benchmarks.leaks.score import Score, score

pytestmark = [pytest.mark.attach, pytest.mark.slow, pytest.mark.timeout(180)]

PROGRAMS = {program.name: program for program in programs()}
FASTER = ("--mib-per-min", "24", "--objects", "40000")
"""25 s instead of a minute: four times the leak, in a heap that takes a fifth of the time to count."""


def judged(name: str, folder: Path, *options: str) -> Score:
    """Return how right the finding about a program is."""
    run = Run(PROGRAMS[name], "steady", 1, interpreter(""), folder / name, options)
    record(run, "25s")
    return score(run, json.loads(check(run)))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("request_bodies", id="bytes-in-a-list-of-an-instance"),
        pytest.param("metric_labels", id="in-a-library-of-the-service"),
        pytest.param("sessions_without_expiry", id="in-the-dictionary-of-a-module"),
    ],
)
def test_a_leak_is_found_with_its_holder_and_its_line(name: str, tmp_path: Path) -> None:
    result = judged(name, tmp_path, *FASTER)
    assert result.got == "python_leak", result.title
    assert result.holder_top1, result.holder
    assert result.allocation, result.title
    assert result.slope_error == pytest.approx(0, abs=0.25)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("lru_filling", id="a-cache-that-fills"),
        pytest.param("ttl_cache", id="a-cache-with-a-time-to-live"),
        pytest.param("healthy", id="nothing-at-all"),
    ],
)
def test_what_only_looks_like_a_leak_is_not_called_one(name: str, tmp_path: Path) -> None:
    result = judged(name, tmp_path, "--objects", "40000")
    assert result.got not in LEAK_CLASSES, result.title
    assert result.class_right, result.title
