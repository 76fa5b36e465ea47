"""Views of the collector: nothing of perfkit's own, nothing after the end, and no parts of objects."""

from pathlib import Path
from typing import Any

import pytest

from perfkit.views.garbage_types import garbage_types
from perfkit.views.gc_generations import gc_generations
from perfkit.views.gc_pauses_over_time import gc_pauses_over_time
from tests.builders import SECOND_NS, Stack, pause
from tests.unit.rules import collections as made

OURS: Stack = (("Probe._answer", "<perfkit probe>", 169),)


def text(view: Any) -> str:
    """Return what a terminal shows of a view."""
    return str(view._repr_mimebundle_()["text/plain"])


@pytest.mark.parametrize("and_the_programs", [False, True])
def test_garbage_of_the_recording_itself_is_left_out(and_the_programs: bool, tmp_path: Path) -> None:
    service = made.healthy()
    service.garbage = made.kinds(service.seconds, objects=20, size_bytes=400, stack=OURS, type_="builtins.frame")
    if and_the_programs:
        service.garbage += made.kinds(service.seconds, objects=50, size_bytes=150, type_="app.Order")
    shown = text(garbage_types(service.record(tmp_path / "p")))
    assert "Probe._answer" not in shown
    assert ("app.Order" in shown) == and_the_programs
    assert ("are left out" if and_the_programs else "came from perfkit's own recording") in shown


def test_collections_after_the_end_are_not_drawn(tmp_path: Path) -> None:
    service = made.healthy()
    service.manual = (pause((service.seconds + 2) * SECOND_NS, 5.0),)
    profile = service.record(tmp_path / "p", manifest={"duration_ns": service.seconds * SECOND_NS})
    chart = gc_pauses_over_time(profile)
    drawn = str(chart.to_dict())  # type: ignore[union-attr]
    assert " ms at most" in drawn or " µs at most" in drawn
    assert "5 ms at most" not in drawn


def test_a_full_pass_that_frees_next_to_nothing_is_said_in_whole_objects(tmp_path: Path) -> None:
    profile = made.healthy(collected=0).record(tmp_path / "p")
    assert "no object" in text(gc_generations(profile))
