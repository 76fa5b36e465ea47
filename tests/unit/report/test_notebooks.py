"""Parameters of notebooks: papermill's, but an unknown name is an error and values have types."""

import ast
from pathlib import Path
from typing import Any

import nbformat
import pytest

from perfkit.errors import UnknownName, UsageError
from perfkit.report.notebooks import notebook_names, notebook_path, parameters_of, prepare
from perfkit.rules import rules

LEAK = notebook_path("leak_root_cause")


def given(**parameters: Any) -> dict[str, Any]:
    """Return the values that the shipped notebook would be run with."""
    return dict(prepare(LEAK, parameters, Path("/p")).given)


def test_the_notebook_comes_with_perfkit_in_a_checkout() -> None:
    assert "leak_root_cause" in notebook_names()
    assert LEAK.is_file()


def test_notebooks_of_an_installed_perfkit_are_inside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perfkit.report import notebooks

    (tmp_path / "perfkit" / "notebooks").mkdir(parents=True)
    (tmp_path / "perfkit" / "notebooks" / "one.ipynb").write_text("{}")
    monkeypatch.setattr(notebooks, "__file__", str(tmp_path / "perfkit" / "report" / "notebooks.py"))
    assert notebook_names() == ["one"]


def test_unknown_notebook_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'leak_root_cause'"):
        notebook_path("leak_root_couse")


def test_path_out_of_the_folder_is_not_a_name() -> None:
    with pytest.raises(UnknownName):
        notebook_path("../notebooks/leak_root_cause")


def test_unknown_parameter_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'warmup_s'"):
        given(warmup=3)


@pytest.mark.parametrize("name", ["x=1;import os;os.system('id');y", "a b", "", "1a"])
def test_name_that_would_be_pasted_into_code_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        given(**{name: 1})


@pytest.mark.parametrize(
    ("name", "value", "typed"),
    [
        pytest.param("pid", "007", 7, id="text-to-int"),
        pytest.param("warmup_s", "3", 3.0, id="text-to-float"),
        pytest.param("warmup_s", 3, 3.0, id="int-to-float"),
        pytest.param("suspects", 4.0, 4, id="whole-float-to-int"),
    ],
)
def test_value_gets_the_annotated_type(name: str, value: Any, typed: Any) -> None:
    assert given(**{name: value}) == {name: typed}
    assert type(given(**{name: value})[name]) is type(typed)


@pytest.mark.parametrize(
    ("name", "value"), [("pid", "main"), ("pid", 1.5), ("warmup_s", "soon"), ("suspects", None), ("pid", True)]
)
def test_value_of_another_type_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        given(**{name: value})


def test_value_that_looks_like_code_stays_text(tmp_path: Path) -> None:
    path = notebook_with(tmp_path, 'profile_dir: str = "x"\nname: str = "y"')
    filled = prepare(path, {"name": '"; import os; os._exit(1); "'}, Path("/p"))
    [injected] = [c for c in filled.cells.cells if "injected-parameters" in c.metadata.get("tags", ())]
    names: dict[str, Any] = {}
    exec(injected.source, names)
    assert names["name"] == '"; import os; os._exit(1); "'
    assert names["profile_dir"] == "/p"


def test_profile_is_named_by_the_folder_alone() -> None:
    with pytest.raises(UsageError, match="profile_dir"):
        given(profile_dir="elsewhere")


def test_notebook_without_a_profile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no parameter profile_dir"):
        prepare(notebook_with(tmp_path, "a: int = 1"), {}, Path("/p"))


def test_file_that_is_no_notebook_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.ipynb").write_text("hello")
    with pytest.raises(UsageError, match="not a notebook"):
        prepare(tmp_path / "no.ipynb", {}, Path("/p"))


@pytest.mark.parametrize("name", notebook_names())
def test_every_parameter_of_a_shipped_notebook_has_a_type_a_default_and_an_explanation(name: str) -> None:
    parameters = parameters_of(notebook_path(name))
    assert "profile_dir" in parameters
    for parameter in parameters.values():
        assert parameter.type not in ("", "None")
        assert parameter.default
        assert len(parameter.help) > 10


@pytest.mark.parametrize("name", notebook_names())
def test_shipped_notebook_is_stored_without_outputs(name: str) -> None:
    notebook = nbformat.read(notebook_path(name), as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.parametrize("name", notebook_names())
def test_shipped_notebook_shows_one_answer_per_cell(name: str) -> None:
    notebook = nbformat.read(notebook_path(name), as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and not cell.metadata.get("tags")]
    assert all(cell.source.startswith("views.") and len(cell.source.splitlines()) == 1 for cell in code)


def notebook_with(folder: Path, parameters: str, *code: str) -> Path:
    """Return a notebook with this parameters cell and these cells after it."""
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}, id="parameters")
    rest = [nbformat.v4.new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(code)]
    path = folder / "own.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[first, *rest]), path)
    return path


@pytest.mark.parametrize("name", notebook_names())
def test_shipped_notebook_and_its_page_answer_by_the_same_rules(name: str) -> None:
    notebook = nbformat.read(notebook_path(name), as_version=4)
    [asking] = [cell.source for cell in notebook.cells if "views.verdict(" in cell.source]
    [first] = [
        ast.literal_eval(keyword.value)
        for node in ast.walk(ast.parse(asking))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "first"
    ]
    assert first == notebook.metadata["perfkit"]["rules"]
    assert set(first) <= rules().keys()
