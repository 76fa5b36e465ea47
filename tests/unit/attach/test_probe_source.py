"""What is sent to a target: a module of the probe with all that it imports of others, as one source."""

import ast
import sys
from pathlib import Path
from typing import Any

import pytest

import perfkit.probe
from perfkit.attach.rendezvous import probe_source

_FOLDER = Path(perfkit.probe.__file__).parent
_MODULES = sorted(
    ".".join(file.relative_to(_FOLDER).with_suffix("").parts)
    for file in _FOLDER.rglob("*.py")
    if file.name != "__init__.py" and file.parent.name != "startup"
)


def meanings(source: bytes) -> dict[str, set[str]]:
    """What each name at the top of a source is given, as text: functions, classes, imports, constants."""
    found: dict[str, list[str]] = {}
    for statement in ast.parse(source).body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.setdefault(name, []).append(f"{statement.lineno}")
            case ast.Import(names=names):
                for each in names:
                    found.setdefault(each.asname or each.name, []).append(each.name)
            case ast.ImportFrom(module=module, names=names):
                for each in names:
                    found.setdefault(each.asname or each.name, []).append(f"{module}.{each.name}")
            case ast.Assign(targets=targets, value=value):
                for each in targets:
                    for name in (part.id for part in ast.walk(each) if isinstance(part, ast.Name)):
                        found.setdefault(name, []).append(f"{ast.unparse(each)} = {ast.unparse(value)}")
            case ast.AnnAssign(target=ast.Name(id=name), value=value):
                found.setdefault(name, []).append(ast.unparse(value or statement))
    return {name: set(values) for name, values in found.items()}


def imports(source: bytes) -> list[ast.ImportFrom]:
    """What a module takes from others of the probe, but for types."""
    return [
        each
        for each in ast.parse(source).body
        if isinstance(each, ast.ImportFrom) and (each.module or "").startswith("perfkit")
    ]


@pytest.mark.parametrize("name", _MODULES)
def test_a_source_imports_nothing_of_ours(name: str) -> None:
    assert imports(probe_source(name)) == []


@pytest.mark.parametrize("name", _MODULES)
def test_a_name_means_one_thing_in_a_source(name: str) -> None:
    assert {each: what for each, what in meanings(probe_source(name)).items() if len(what) > 1} == {}


@pytest.mark.parametrize("name", _MODULES)
def test_what_is_imported_keeps_its_name_and_is_in_the_source(name: str) -> None:
    file = _FOLDER.joinpath(*name.split(".")).with_suffix(".py")
    taken = [each for statement in imports(file.read_bytes()) for each in statement.names]
    assert [each.name for each in taken if each.asname] == []
    assert {each.name for each in taken} <= meanings(probe_source(name)).keys()


def test_modules_come_once_and_after_what_they_import() -> None:
    source = probe_source("container_code").decode()
    starts = ["class Reader", "class Function", "class Match", "class Look"]
    assert [source.count(f"\n{each}") for each in starts] == [1, 1, 1, 1]
    assert sorted(starts, key=source.index) == starts


def test_a_source_runs_by_itself_and_leaves_no_module_behind() -> None:
    before = set(sys.modules)
    namespace: dict[str, Any] = {"__name__": "perfkit probe container_code"}
    exec(compile(probe_source("container_code"), "<perfkit probe>", "exec"), namespace)
    assert {each.__module__ for each in namespace.values() if isinstance(each, type)} >= {namespace["__name__"]}
    assert [each for each in set(sys.modules) - before if each.partition(".")[0] == "perfkit"] == []
    assert namespace["look"].__globals__ is namespace["nodes"].__globals__
