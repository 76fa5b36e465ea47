"""The page itself, without a kernel: notebooks whose outputs are written by hand."""

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from perfkit.findings import Finding, Site, Verdict
from perfkit.profile import Profile
from perfkit.report import page
from perfkit.report.notebooks import Prepared
from perfkit.views import charts
from perfkit.views.flame_graph import flame_graph
from tests.builders import make_profile

HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return make_profile(tmp_path / "shop")


def notebook(*outputs: Any, source: str = "views.anything(profile)", text: str = "") -> Prepared:
    """Return an executed notebook with one code cell."""
    cells = [
        nbformat.v4.new_markdown_cell(f"# A question\n\n## A heading\n{text}"),
        nbformat.v4.new_code_cell(source, outputs=list(outputs)),
    ]
    return Prepared("own", Path("own.ipynb"), nbformat.v4.new_notebook(cells=cells), {})


def shows(data: dict[str, Any]) -> Any:
    """Return a display output."""
    return nbformat.v4.new_output("display_data", data)


def failing(**more: Any) -> Finding:
    """Return a finding that fails."""
    values = {"class_": "python_leak", "title": "Memory grows", "hint": "Stop it"} | more
    return Finding(rule="memory_growth", verdict=Verdict.FAIL, **values)


def blob(html: str, element: str) -> Any:
    """Return what a packed element of the page holds."""
    text = re.search(rf'<script type="text/plain" id="{element}">([^<]*)</script>', html)
    assert text
    return gzip.decompress(base64.b64decode(text[1])).decode()


def test_verdict_and_numbers_come_before_anything_that_needs_a_script(profile: Profile) -> None:
    chart = shows({charts.MIME: {"mark": "bar", "title": "A chart"}})
    html = page.build(profile, [failing(measured=2048.0, limit=1.0, unit="bytes/s")], notebook(chart), None)
    for text in ("Memory grows", "Stop it", "2 KiB/s", "Key numbers"):
        assert 0 < html.index(text) < html.index('id="needs-js"')
    assert html.startswith("<!doctype html>")
    assert "<title>FAIL · shop · A question</title>" in html


def test_notebook_that_raised_reads_error_and_keeps_the_verdict_of_the_rules(profile: Profile) -> None:
    broken = nbformat.v4.new_output(
        "error", ename="ZeroDivisionError", evalue="division by zero", traceback=["\x1b[0;31mx"]
    )
    html = page.build(profile, [failing()], notebook(broken), "ZeroDivisionError: division by zero")
    assert "<title>ERROR" in html
    assert "the rules say fail: Memory grows" in html
    assert "division by zero" in html
    assert "\x1b" not in html


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(shows({"text/plain": HOSTILE}), id="text"),
        pytest.param(nbformat.v4.new_output("stream", name="stdout", text=HOSTILE), id="stdout"),
        pytest.param(nbformat.v4.new_output("stream", name="stderr", text=HOSTILE), id="stderr"),
        pytest.param(nbformat.v4.new_output("error", ename=HOSTILE, evalue=HOSTILE, traceback=[HOSTILE]), id="error"),
        pytest.param(shows({"text/markdown": HOSTILE}), id="markdown"),
        pytest.param(shows({charts.MIME: {"title": {"text": HOSTILE, "subtitle": HOSTILE}}}), id="chart-title"),
    ],
)
def test_output_cannot_become_markup(output: Any, profile: Profile) -> None:
    html = page.build(profile, [], notebook(output, source=f"# {HOSTILE}", text=HOSTILE), None)
    assert "<img" not in html


def test_finding_cannot_become_markup(profile: Profile) -> None:
    finding = failing(
        title=HOSTILE,
        hint=HOSTILE,
        unit=HOSTILE,
        measured=1.0,
        limit=1.0,
        type=HOSTILE,
        site=Site(HOSTILE, HOSTILE, 1),
        insertion=Site(HOSTILE),
        retainer=(HOSTILE,),
        needs=(HOSTILE,),
        evidence={HOSTILE: HOSTILE},
    )
    html = page.build(profile, [finding, finding], notebook(), HOSTILE)
    assert "<img" not in html


def test_passes_beside_the_answer_are_folded_and_still_named(profile: Profile) -> None:
    passes = [Finding(rule, Verdict.PASS, "none", f"{rule} is well", "") for rule in ("gc_tuning", "ghost_slot")]
    html = page.build(profile, [failing(), *passes], notebook(), None)
    assert "<summary>2 other checks passed: gc tuning, ghost slot</summary>" in html
    checks = html[html.index('id="checks"') : html.index("2 other checks passed")]
    assert "Memory grows" in checks
    assert "is well" not in checks


def test_cells_carry_the_name_of_their_column_for_narrow_screens(profile: Profile) -> None:
    html = page.build(profile, [failing()], notebook(), None)
    assert 'data-label="what it says"' in html


def test_findings_are_in_the_file_for_programs(profile: Profile) -> None:
    html = page.build(profile, [failing(title=HOSTILE)], notebook(), None)
    found = re.search(r'<script type="application/json" id="perfkit-findings">(.*?)</script>', html)
    assert found
    stored = json.loads(found[1])
    assert (stored["profile"], stored["findings"][0]["title"]) == ("shop", HOSTILE)


def test_only_the_scripts_of_the_page_may_run(profile: Profile) -> None:
    chart = shows({charts.MIME: {"mark": "bar", "title": "A chart"}})
    html = page.build(profile, [], notebook(chart), None)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy
    rules = policy[1].replace("&#39;", "'")
    assert rules.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in rules
    own = html.rpartition("<script>")[2].partition("</script>")[0]
    for script in (own, blob(html, "perfkit-vega")):
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in rules


def test_nothing_in_the_page_points_to_a_network(profile: Profile) -> None:
    html = page.build(profile, [failing()], notebook(), None)
    assert not re.search(r"""(?:src|href|url\()\s*=?\s*["']?(?:https?:)?//""", html)
    assert "sourceMappingURL" not in page.vega_bundle()


def test_chart_title_is_text_and_its_rows_are_stored_as_columns(profile: Profile) -> None:
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    spec = {"mark": "bar", "title": {"text": "Growth", "subtitle": "by much"}, "datasets": {"d": rows}}
    html = page.build(profile, [], notebook(shows({charts.MIME: spec})), None)
    assert "<strong>Growth</strong><span>by much</span>" in html
    [stored] = json.loads(blob(html, "perfkit-data"))["charts"]
    assert stored["datasets"]["d"] == {"rows": 2, "columns": {"a": [1, 2], "b": ["x", "y"]}}


def test_page_without_charts_does_not_carry_the_chart_library(profile: Profile) -> None:
    assert len(page.build(profile, [], notebook(), None)) < 60_000


def test_pictures_take_the_place_of_scripts_where_they_are_forbidden(profile: Profile) -> None:
    pytest.importorskip("vl_convert", reason="vl-convert-python is not installed (pip install perfkit[static])")
    stacks = [((("main", "", "python"), (HOSTILE, "", "python")), 3), ((("main", "", "python"),), 1)]
    flame = flame_graph(stacks, unit="ns", label="CPU")
    spec = {"mark": "bar", "title": "Growth", "data": {"values": [{"a": 1}]}, "encoding": {"x": {"field": "a"}}}
    outputs = [shows({charts.MIME: spec}), shows(flame._repr_mimebundle_())]
    html = page.build(profile, [], notebook(*outputs), None, static=True)
    pictures = [base64.b64decode(each).decode() for each in re.findall(r"data:image/svg\+xml;base64,([^\"]*)", html)]
    assert [picture.startswith("<svg") for picture in pictures] == [True, True]
    assert 'width="644.2"' in pictures[1]  # three quarters of 860, less the gap
    assert "<img" not in pictures[1]
    assert "<script>" not in html
    assert "script-src &#39;none&#39;" in html
    assert "need JavaScript" not in html
    assert len(html) < 60_000


def test_headings_of_the_same_name_have_anchors_of_their_own(profile: Profile) -> None:
    html = page.build(profile, [], notebook(text="one\n## A heading\ntwo"), None)
    assert 'id="a-heading"' in html
    assert 'id="a-heading-2"' in html


def test_warnings_of_the_run_are_folded_into_a_log(profile: Profile) -> None:
    warning = nbformat.v4.new_output("stream", name="stderr", text="/home/jane/x.py: careful")
    html = page.build(profile, [], notebook(warning), None)
    assert "~/x.py: careful" in html[html.index('id="log"') :]
    assert "jane" not in html
