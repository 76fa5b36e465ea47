"""The only place that finds notebooks, reads their parameters, and gives them values.

Parameters are papermill's: a cell tagged `parameters`, its annotations and comments, and a
cell with the given values after it. So `papermill NOTEBOOK out.ipynb -p name value` gives the
same run. Two things papermill leaves open are closed here: an unknown name is an error and
not a warning, and a name must be an identifier, because papermill pastes names into code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfkit.errors import UnknownName, UsageError

PROFILE = "profile_dir"
"""The parameter that every notebook has: which profile to look at."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a notebook, as its parameters cell declares it."""

    name: str
    type: str
    default: str
    help: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A notebook with its values filled in, ready to run. `given` are the values that were not defaults."""

    name: str
    path: Path
    cells: Any
    given: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Return the first heading of the notebook, else its name in words."""
        for cell in self.cells.cells:
            if cell.cell_type == "markdown" and cell.source.startswith("# "):
                return str(cell.source).splitlines()[0][2:].strip()
        return self.name.replace("_", " ")

    @property
    def first_rules(self) -> tuple[str, ...]:
        """Return the rules whose findings the notebook is about, from its metadata."""
        return tuple(self.cells.metadata.get("perfkit", {}).get("rules", ()))


def folder() -> Path:
    """Return where the notebooks are: inside an installed perfkit, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "notebooks"
    return installed if installed.is_dir() else package.parent / "notebooks"


def notebook_names() -> list[str]:
    """Return the names of the notebooks that come with perfkit."""
    return sorted(file.stem for file in folder().glob("*.ipynb"))


def notebook_path(name: str) -> Path:
    """Return the file of a notebook that comes with perfkit, or of one given by its path.

    Raises:
        UnknownName: there is neither.
    """
    own = folder() / f"{name}.ipynb"
    if own.is_file() and name in notebook_names():
        return own
    given = Path(name)
    if given.suffix == ".ipynb" and given.is_file():
        return given
    raise UnknownName("notebook", name, notebook_names())


def parameters_of(path: Path) -> dict[str, Parameter]:
    """Return the parameters of a notebook by name, in the order of its parameters cell."""
    return _parameters(_load(path))


def prepare(path: Path, given: Mapping[str, Any], profile: Path) -> Prepared:
    """Return the notebook with its values filled in, in the types that its annotations ask for.

    Raises:
        UnknownName: it has no parameter of that name.
        UsageError: a value is not of the parameter's type, or a name is not an identifier.
    """
    from papermill.parameterize import parameterize_notebook

    notebook = _load(path)
    known = _parameters(notebook)
    values: dict[str, Any] = {}
    for name, value in given.items():
        if not name.isidentifier():
            raise UsageError(f"{name!r} cannot be the name of a parameter", hint="Write -p name=value.")
        if name == PROFILE:
            raise UsageError(f"{PROFILE} is set by the folder", hint="Name the profile as the first argument.")
        if name not in known:
            raise UnknownName("parameter", name, [each for each in known if each != PROFILE])
        values[name] = _typed(known[name], value)
    if PROFILE not in known:
        raise UsageError(
            f"{path.name} has no parameter {PROFILE}",
            hint=f'Give it a cell tagged "parameters" with `{PROFILE}: str = "profiles/..."`.',
        )
    filled = parameterize_notebook(notebook, {PROFILE: str(profile)} | values, kernel_name="python3", language="python")
    return Prepared(path.stem, path, filled, values)


def _load(path: Path) -> Any:
    """Return a notebook file.

    Raises:
        UsageError: it is not a notebook.
    """
    import nbformat
    from papermill.iorw import load_notebook_node

    try:
        return load_notebook_node(str(path))
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a notebook: {error}") from error


def _parameters(notebook: Any) -> dict[str, Parameter]:
    """Return what papermill reads from the cell tagged `parameters`."""
    from papermill.translators import papermill_translators

    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            found = papermill_translators.find_translator("python3", "python").inspect(cell)
            return {p.name: Parameter(p.name, p.inferred_type_name, p.default, p.help) for p in found}
    return {}


def _typed(parameter: Parameter, value: Any) -> Any:
    """Return a value in the type that the parameter's annotation asks for; text is converted.

    Raises:
        UsageError: it cannot be converted.
    """
    wanted = (
        parameter.type.removeprefix("Optional[").removesuffix("]") if "Optional" in parameter.type else parameter.type
    )
    try:
        match wanted:
            case "int":
                return _whole(value)
            case "float":
                return float(value)
            case "bool":
                return _truth(value)
            case "str":
                return value if isinstance(value, str) else str(value)
            case "list[str]":
                return (
                    [part for part in value.split(",") if part] if isinstance(value, str) else [str(v) for v in value]
                )
            case _:
                return value
    except (TypeError, ValueError):
        raise UsageError(
            f"{parameter.name} is a {wanted}, and {value!r} is not", hint=parameter.help.lstrip("# ") or ""
        ) from None


def _whole(value: Any) -> int:
    """Return a whole number; 7.0 is one, 7.5 and True are not."""
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    return int(value)


def _truth(value: Any) -> bool:
    """Return yes or no."""
    if isinstance(value, bool):
        return value
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    return words[str(value).lower()] if str(value).lower() in words else _refuse(value)


def _refuse(value: Any) -> bool:
    """Raise ValueError."""
    raise ValueError(value)
