"""Shipped notebooks run, by perfkit and by plain papermill, on full and on empty recordings."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from perfkit.profile import Profile
from perfkit.report import NotebookFailed, notebook_names, notebook_path, render
from perfkit.views import charts
from tests.builders import healthy, leaking, make_profile

REPOSITORY = Path(__file__).resolve().parents[2]
LEAST_BYTES, MOST_BYTES = 300_000, 1_000_000


@pytest.fixture(scope="module")
def leak(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return leaking(tmp_path_factory.mktemp("profiles") / "leak")


@pytest.fixture(scope="module")
def report(leak: Profile) -> Path:
    return render(leak.path)


@pytest.mark.parametrize("name", notebook_names())
def test_notebook_runs_with_plain_papermill(name: str, leak: Profile, tmp_path: Path) -> None:
    out = tmp_path / "out.ipynb"
    command = [
        sys.executable,
        "-m",
        "papermill",
        f"notebooks/{name}.ipynb",
        str(out),
        "-p",
        "profile_dir",
        str(leak.path),
    ]
    environment = os.environ | {"IPYTHONDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    outputs = [o for c in nbformat.read(out, as_version=4).cells if c.cell_type == "code" for o in c.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    assert sum(charts.MIME in o.get("data", {}) for o in outputs) >= 1
    assert "passed unknown parameter" not in done.stderr.lower()


def test_report_names_the_leaking_line_and_its_holder_in_plain_html(report: Path) -> None:
    html = report.read_text("utf-8")
    before_charts = html[: html.index('id="needs-js"')]
    assert "<title>FAIL" in html
    assert "open_session" in before_charts
    assert "SESSIONS" in before_charts


def test_report_of_a_healthy_service_passes(tmp_path: Path) -> None:
    assert "<title>PASS" in render(healthy(tmp_path / "healthy").path).read_text("utf-8")


def test_report_of_nothing_is_undecided_and_says_what_was_not_recorded(tmp_path: Path) -> None:
    html = render(make_profile(tmp_path / "empty").path).read_text("utf-8")
    assert "<title>UNDECIDED" in html
    assert html.count("Nothing was recorded") >= 8


def test_report_is_small_enough_for_a_mail_and_has_all_its_charts(report: Path) -> None:
    assert LEAST_BYTES < report.stat().st_size < MOST_BYTES
    assert report.read_text("utf-8").count("data-chart=") == 6


def test_same_profile_gives_the_same_report_byte_for_byte(leak: Profile, report: Path, tmp_path: Path) -> None:
    assert render(leak.path, output=tmp_path / "again.html").read_bytes() == report.read_bytes()


def test_report_does_not_tell_where_it_was_made(leak: Profile, report: Path) -> None:
    html = report.read_text("utf-8")
    for place in (str(leak.path.parent), str(REPOSITORY), str(Path.home()), sys.prefix):
        assert f"{place}/" not in html


def test_notebook_that_raises_leaves_a_report_that_says_so(leak: Profile, tmp_path: Path) -> None:
    notebook = nbformat.read(notebook_path("leak_root_cause"), as_version=4)
    notebook.cells.insert(9, nbformat.v4.new_code_cell("no_such_name + 1", id="broken"))
    nbformat.write(notebook, tmp_path / "broken.ipynb")
    output = tmp_path / "broken.html"
    with pytest.raises(NotebookFailed, match="no_such_name") as failed:
        render(leak.path, str(tmp_path / "broken.ipynb"), output=output)
    html = output.read_text("utf-8")
    assert failed.value.report == output
    assert "<title>ERROR" in html
    assert "name &#39;no_such_name&#39; is not defined" in html
    assert "the rules say fail" in html
    assert 'id="what-next"' not in html


def test_chart_that_could_not_be_made_is_an_error_although_its_cell_succeeded(leak: Profile, tmp_path: Path) -> None:
    notebook = nbformat.read(notebook_path("leak_root_cause"), as_version=4)
    too_many = "import altair, pandas\naltair.Chart(pandas.DataFrame({'a': range(9000)})).mark_bar().encode(x='a')"
    notebook.cells[5:] = [nbformat.v4.new_code_cell(too_many, id="too-many")]
    nbformat.write(notebook, tmp_path / "silent.ipynb")
    with pytest.raises(NotebookFailed, match="MaxRowsError"):
        render(leak.path, str(tmp_path / "silent.ipynb"), output=tmp_path / "silent.html")


def test_notebook_whose_process_dies_leaves_a_report_that_says_so(leak: Profile, tmp_path: Path) -> None:
    notebook = nbformat.read(notebook_path("leak_root_cause"), as_version=4)
    notebook.cells.insert(3, nbformat.v4.new_code_cell("import os; os._exit(9)", id="gone"))
    nbformat.write(notebook, tmp_path / "gone.ipynb")
    with pytest.raises(NotebookFailed, match="died"):
        render(leak.path, str(tmp_path / "gone.ipynb"), output=tmp_path / "gone.html")
    assert "<title>ERROR" in (tmp_path / "gone.html").read_text("utf-8")


def test_parameters_reach_the_notebook_and_the_reproduce_command(leak: Profile, tmp_path: Path) -> None:
    html = render(leak.path, parameters={"suspects": "1"}, output=tmp_path / "one.html").read_text("utf-8")
    assert "-p suspects=1" in html
    assert "builtins." not in html[html.index('id="which-objects-pile-up"') : html.index('id="who-holds-on-to-them"')]


def test_shipped_notebook_is_valid_and_has_stable_cell_names() -> None:
    for name in notebook_names():
        text = notebook_path(name).read_text("utf-8")
        nbformat.validate(nbformat.from_dict(json.loads(text)))
        assert all(not cell["id"].isdigit() for cell in json.loads(text)["cells"])
