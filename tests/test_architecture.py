"""Conventions that the design rests on, checked rather than remembered."""

import ast
import subprocess
import sys
from inspect import getdoc
from pathlib import Path
from types import ModuleType

import pytest

import perfkit
from perfkit.collectors import collectors
from perfkit.errors import PerfkitError
from perfkit.plugins import discover
from perfkit.rules import rules
from perfkit.tables import TABLES, UNITS

PACKAGE = Path(perfkit.__file__).parent
SOURCES = [file for file in sorted(PACKAGE.rglob("*.py")) if "__pycache__" not in file.parts]
HEAVY = {"pyarrow", "pandas", "numpy", "scipy", "duckdb", "altair", "memray", "click", "rich", "IPython", "papermill"}


def name(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


def imported(code: str) -> set[str]:
    """Return the top-level names of all modules that a fresh interpreter has after running `code`."""
    program = f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(answer.stdout.split())


def test_layers_hold() -> None:
    """Data flows one way: see the import contracts in pyproject.toml."""
    script = Path(sys.executable).parent / "lint-imports"
    answer = subprocess.run([script, "--no-cache"], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("module", ["perfkit", "perfkit.errors", "perfkit.probe", "perfkit.plugins", "perfkit.cli"])
def test_import_costs_nothing(module: str) -> None:
    """It may be imported inside of a service, where pyarrow alone would cost 40 MiB."""
    assert imported(f"import {module}") & HEAVY <= ({"click"} if module == "perfkit.cli" else set())


def test_public_names_are_found_when_they_are_asked_for() -> None:
    for each in perfkit.__all__:
        assert getattr(perfkit, each) is not None
    with pytest.raises(AttributeError, match="no attribute 'reccord'"):
        perfkit.reccord  # noqa: B018


@pytest.mark.parametrize("rule", rules().values(), ids=rules())
def test_rule_has_its_page(rule: object) -> None:
    doc = getdoc(type(rule)) or ""
    for section in ("Why it matters:", "Evidence:", "Limits:"):
        _, found, text = doc.partition(section)
        assert found, f"no section {section!r}"
        assert len(text.split()) >= 5, f"{section!r} says nothing"


@pytest.mark.parametrize("rule", rules().values(), ids=rules())
def test_rule_thresholds_say_why(rule: object) -> None:
    """A number without a reason is folklore: each parameter has a sentence, or its name is in the rule's page."""
    source = ast.parse(Path(sys.modules[type(rule).__module__].__file__ or "").read_text("utf-8"))
    [body] = [node.body for node in source.body if isinstance(node, ast.ClassDef) and node.name == type(rule).__name__]
    explained = getdoc(type(rule)) or ""
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            has_sentence = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            mentioned = any(f"`{node.target.id}`" in text for text in (explained, *_docs(body)))
            assert has_sentence or mentioned, f"{node.target.id} has no reason"


def _docs(body: list[ast.stmt]) -> list[str]:
    """Return the sentences below the fields of a class."""
    return [str(n.value.value) for n in body if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_table_is_documented(table: object) -> None:
    assert table.doc.strip()  # type: ignore[attr-defined]
    names = [column.name for column in table.columns]  # type: ignore[attr-defined]
    assert len(set(names)) == len(names)
    assert set(table.order) <= set(names)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "column",
    [pytest.param(column, id=f"{table.name}.{column.name}") for table in TABLES.values() for column in table.columns],
)
def test_column_says_what_it_is(column: object) -> None:
    unit, column_name = column.unit, column.name  # type: ignore[attr-defined]
    assert column.doc.strip()  # type: ignore[attr-defined]
    assert unit in UNITS
    for suffix in ("ns", "bytes", "ratio", "percent"):
        assert column_name.endswith(f"_{suffix}") == (unit == suffix), f"{column_name} has the unit {unit!r}"


@pytest.mark.parametrize("collector", collectors().values(), ids=collectors())
def test_collector_keeps_the_contract(collector: object) -> None:
    home = type(collector).__module__
    assert collector.name == home.rpartition(".")[2]  # type: ignore[attr-defined]
    assert collector.writes  # type: ignore[attr-defined]
    assert set(collector.writes) <= TABLES.keys()  # type: ignore[attr-defined]
    assert getdoc(type(collector))


def test_adding_a_file_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "things"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "second.py").write_text("THING = 2")
    (folder / "first.py").write_text("THING = 1")
    monkeypatch.syspath_prepend(tmp_path)
    import things  # type: ignore[import-not-found]

    assert discover(things, "THING", int) == {"first": 1, "second": 2}
    assert list(discover(things, "THING", int)) == ["first", "second"]


@pytest.mark.parametrize(
    "content", [pytest.param("", id="name-is-missing"), pytest.param("THING = 'two'", id="of-another-kind")]
)
def test_a_file_that_does_not_fit_is_named(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / f"misfits_{len(content)}"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "odd.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    package: ModuleType = __import__(folder.name)
    with pytest.raises(TypeError, match=r"odd must define THING: int"):
        discover(package, "THING", int)


@pytest.mark.parametrize("file", SOURCES, ids=name)
def test_source(file: Path) -> None:
    """Modules say what they are for, and only the command line and the parts that are programs print."""
    tree = ast.parse(file.read_text("utf-8"))
    if file.stat().st_size:
        assert ast.get_docstring(tree), "no docstring"
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    if file.name not in ("cli.py", "__main__.py"):
        assert not [call.lineno for call in calls if call.func.id == "print"], "prints"  # type: ignore[attr-defined]


def test_errors_are_ours() -> None:
    """Callers catch `PerfkitError`; what derives from it elsewhere must not hide its hint."""
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
                assert node.exc.func.id not in ("Exception", "BaseException"), f"{name(file)}:{node.lineno}"
    assert issubclass(PerfkitError, Exception)
