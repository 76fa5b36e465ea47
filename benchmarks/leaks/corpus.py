"""The only place that reads what the programs of tests/targets/leaks say of themselves.

A program's docstring ends in `Truth:` and TOML: `kind` (positive, the default, or negative),
`classes` (right answers, the best first), `holder` (regular expression over the retaining path,
steps joined by " > "), `type` (regular expression over the type that piles up), `measured`
("units" where the finding counts threads or descriptors, not bytes). Comments
`# truth: allocates` and `# truth: inserts` mark lines, in the program or in the modules of the
package `vendored` that it imports.
"""

import ast
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "tests" / "targets" / "leaks"
LEAK_CLASSES = frozenset({"python_leak", "native_leak", "thread_leak", "fd_leak"})
"""What a healthy program must never be called."""
_MARK = re.compile(r"# truth:((?: (?:allocates|inserts))+)\s*$")
_IMPORT = re.compile(r"^(?:from vendored\.|import vendored\.|from vendored import )(\w+)", re.MULTILINE)

Line = tuple[str, int]
"""A file's name and a line."""


@dataclass(frozen=True)
class Program:
    """A program of the corpus and what is true of it."""

    name: str
    path: Path
    positive: bool
    classes: tuple[str, ...]
    holder: str | None
    type: str | None
    counted: bool
    allocates: frozenset[Line]
    inserts: frozenset[Line]


def programs(only: list[str] | None = None) -> list[Program]:
    """Return the programs, or those of these names.

    Raises:
        SystemExit: there is no program of such a name.
    """
    known = {path.stem: path for path in sorted(FOLDER.glob("*.py")) if path.stem != "service"}
    if unknown := set(only or ()) - known.keys():
        raise SystemExit(f"no program named {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [read(known[name]) for name in only or known]


def read(path: Path) -> Program:
    """Return a program from its source."""
    source = path.read_text("utf-8")
    doc = ast.get_docstring(ast.parse(source)) or ""
    truth = tomllib.loads(doc.partition("Truth:\n")[2])
    marks: dict[str, set[Line]] = {"allocates": set(), "inserts": set()}
    for file in (path, *(FOLDER / "vendored" / f"{name}.py" for name in _IMPORT.findall(source))):
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
            if found := _MARK.search(line):
                for word in found[1].split():
                    marks[word].add((file.name, number))
    return Program(
        name=path.stem,
        path=path,
        positive={"positive": True, "negative": False}[truth.get("kind", "positive")],
        classes=tuple(truth["classes"]),
        holder=truth.get("holder"),
        type=truth.get("type"),
        counted=truth.get("measured") == "units",
        allocates=frozenset(marks["allocates"]),
        inserts=frozenset(marks["inserts"]),
    )
