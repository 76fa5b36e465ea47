"""The views that explain a leak: the drawn path, the unit, the ledger, the paths that grew, the dominator tree."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from perfkit import views
from perfkit.findings import Finding, Verdict
from perfkit.profile import Profile
from perfkit.views.display import Bar
from tests.builders import MIB, SECOND_NS, graph_rows, healthy, leaking, ledger_rows, make_profile

HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def leak(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return leaking(tmp_path_factory.mktemp("profiles") / "leak")


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """Return the same leak without any snapshot of the heap."""
    return leaking(tmp_path_factory.mktemp("profiles") / "unseen", snapshots=[], objects=[], references=[])


def text_of(view: Any) -> str:
    """Return what a view says as plain text."""
    shown = view._repr_mimebundle_()
    return str((shown[0] if isinstance(shown, tuple) else shown)["text/plain"])


def html_of(view: Any) -> str:
    """Return what a view shows."""
    return str(view._repr_mimebundle_()["text/html"])


def finding(*retainer: str, **more: Any) -> Finding:
    """Return a finding about a leak."""
    return Finding("memory_growth", Verdict.FAIL, "python_leak", "", "", retainer=retainer, **more)


def test_the_path_leads_from_the_module_to_the_objects(leak: Profile) -> None:
    drawn = views.retaining_path(leak)
    assert [box.role for box in drawn.boxes] == ["root", "holder", "leaked"]
    root, holder, leaked = drawn.boxes
    assert (root.kind, root.name) == ("module", "app.sessions")
    assert (holder.step, holder.name) == ("SESSIONS", "dict")
    assert "1,200 items, here they pile up" in holder.remark
    assert leaked.name == "1,080 Session objects"  # the 120 of the first snapshot are not new
    assert leaked.remark.endswith("1.33 KiB each")
    assert drawn.caption == "app.sessions.SESSIONS holds 1,080 new Session objects."


def test_the_holder_that_the_finding_names_comes_first(tmp_path: Path) -> None:
    rows = {name: [dict(row) for row in table] for name, table in graph_rows(60, None).items()}
    for number, row in enumerate(row for row in rows["references"] if row["from_id"] == 3):
        row["from_id"] = 5 if number % 3 == 0 else 3
    rows["references"] += [
        {"rung": rung, "from_id": 4, "to_id": 5, "label": ".ROUTES"} for rung in (0, 1)
    ]  # fmt: skip
    rows["references"].sort(key=lambda row: (row["rung"], row["from_id"]))
    profile = leaking(tmp_path / "two", **rows)
    named = finding("module app.routes", "dict value", "dict", type="app.sessions.Session")
    assert views.retaining_path(profile, named).boxes[0].name == "app.routes"
    assert views.retaining_path(profile).boxes[0].name == "app.sessions"
    assert any("held by module app.routes" in note for note in views.retaining_path(profile).notes)


def test_the_growth_that_the_finding_is_about_is_drawn(leak: Profile) -> None:
    drawn = views.retaining_path(leak, finding("module app.sessions", "SESSIONS", "dict", type="app.other.Thing"))
    assert [box.role for box in drawn.boxes] == ["root", "holder", "leaked"]
    assert drawn.caption == "app.sessions.SESSIONS holds 1,080 new Session objects."


def test_without_a_snapshot_the_path_is_told_in_the_words_of_the_finding(unseen: Profile) -> None:
    drawn = views.retaining_path(
        unseen, finding("module app.sessions", "SESSIONS", "dict", type="app.sessions.Session")
    )
    assert [box.name for box in drawn.boxes] == ["app.sessions", "dict", "1,200 Session objects"]
    assert "with 1,200 items" in text_of(drawn)
    assert "object_graph" in text_of(drawn)


def test_without_growth_there_is_no_path(tmp_path: Path) -> None:
    quiet = healthy(tmp_path / "quiet", snapshots=[], objects=[], references=[])
    assert text_of(views.retaining_path(quiet)) == "Nothing was seen that keeps piling up, so there is no path to draw."


def test_a_path_of_a_thousand_steps_is_drawn_without_its_middle(tmp_path: Path) -> None:
    objects = [{"object_id": 1, "type": "builtins.module", "root": "module", "name": "app"}]
    objects += [{"object_id": 2 + i, "type": f"app.Kind{i % 7}"} for i in range(1_000)]
    references = [{"from_id": 1 + i, "to_id": 2 + i, "label": f".step{'ab'[i % 2]}"} for i in range(1_000)]
    objects.append({"object_id": 2_000, "type": "app.Last"})
    references.append({"from_id": 1_001, "to_id": 2_000, "label": ".last"})
    shared: Mapping[str, Any] = {"rung": 0, "size_bytes": 100}
    profile = make_profile(
        tmp_path / "long",
        objects=[shared | {"refcount": 1} | row for row in objects],
        references=[{"rung": 0} | row for row in references],
    )
    drawn = views.retaining_path(profile, type_name="app.Last")
    assert len(drawn.boxes) == 13
    assert [box.name for box in drawn.boxes if box.role == "gap"] == ["990 more steps"]
    assert drawn.boxes[-1].name == "1 Last object"


def test_names_in_a_path_and_in_the_tree_are_text(tmp_path: Path) -> None:
    rows = {name: [dict(row) for row in table] for name, table in graph_rows(60, None).items()}
    for row in rows["objects"]:
        row["name"] = HOSTILE if row.get("name") else None
        row["type"] = f"app.{HOSTILE}" if row["type"] == "app.sessions.Session" else row["type"]
    for row in rows["references"]:
        row["label"] = row["label"] and f".{HOSTILE}{row['label']}"
    profile = leaking(tmp_path / "hostile", **rows)
    shown = [
        views.retaining_path(profile, type_name=f"app.{HOSTILE}"),
        views.retaining_path(profile, finding(HOSTILE, f".{HOSTILE}", HOSTILE, type=HOSTILE)),
        views.dominator_tree(profile),
        views.growing_paths(profile),
        views.leak_unit(profile),
    ]
    for view in shown:
        assert "<img" not in html_of(view)
        assert "</script" not in html_of(view)


def test_the_tree_unfolds_to_where_the_memory_is(leak: Profile) -> None:
    text = text_of(views.dominator_tree(leak))
    assert "app.sessions  1  " in text
    assert "Session objects  1,200  1.56 MiB" in text
    assert html_of(views.dominator_tree(leak)).count("<details open>") >= 2


def test_the_unit_of_a_leak_is_a_session_with_what_only_it_holds(leak: Profile) -> None:
    unit = views.leak_unit(leak)
    assert unit.caption == "One unit: 1 Session, 1 dict, 1 bytearray, 1 str"
    assert "1.33 KiB" in text_of(unit)
    first = [str(cell) for cell in unit.rows[0][1:]]
    assert first == ["1", "48 B", "20", "1"]


def test_without_a_snapshot_the_unit_says_what_it_cannot_see(unseen: Profile) -> None:
    text = text_of(views.leak_unit(unseen))
    assert "One unit: 1 Session, 1 dict" in text
    assert "object_graph" in text


def test_the_paths_that_grew_add_up(leak: Profile) -> None:
    view = views.growing_paths(leak, top=3)
    text = text_of(view)
    assert "module app.sessions > SESSIONS > dict value > .data > bytearray" in text
    assert [row[3] for row in view.rows] == ["+1,080", "+1,080", "+0", ""]
    assert sum(cell.ratio for row in view.rows for cell in row if isinstance(cell, Bar)) == pytest.approx(1.0)


def test_modules_that_were_imported_meanwhile_are_one_row_of_their_own(tmp_path: Path) -> None:
    rows = {name: [dict(row) for row in table] for name, table in graph_rows(60, None).items()}
    module = {"rung": 1, "object_id": 10**6, "type": "builtins.module", "size_bytes": 9 * MIB, "refcount": 0}
    rows["objects"].append(module | {"root": "library", "name": "tracer"})
    text = text_of(views.growing_paths(leaking(tmp_path / "imports", **rows)))
    assert "modules that were imported meanwhile" in text
    assert "module tracer" not in text


def test_the_parts_of_the_ledger_add_up_to_the_resident_memory(leak: Profile) -> None:
    spec = views.memory_ledger(leak).to_dict()
    [rows] = spec["datasets"].values()
    resident = {row["at_ns"] / SECOND_NS: row["rss_bytes"] / MIB for row in ledger_rows(60, None)}
    summed: dict[float, float] = {}
    for row in rows:
        summed[row["at"]] = summed.get(row["at"], 0.0) + row["size"]
    assert len(summed) == 61
    assert summed == pytest.approx(resident, abs=0.01)


def test_the_ledger_says_when_the_allocators_count_more_than_there_is(tmp_path: Path) -> None:
    rows = [dict(row) | {"glibc_in_use_bytes": 60 * MIB} for row in ledger_rows(60, None)]
    assert "more than is resident" in text_of(views.memory_ledger(leaking(tmp_path / "odd", ledger=rows)))


def test_a_limit_of_the_reader_takes_the_place_of_the_recorded_one(leak: Profile) -> None:
    text = text_of(views.memory_over_time(leak, limit_mib=64.0))
    assert "The limit is 64 MiB. At this rate it is reached in " in text
