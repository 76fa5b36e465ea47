"""`perfkit report`: run a notebook over a profile and write one HTML file that opens anywhere.

The findings are computed here and not in the notebook, so that a notebook which stops half
way, or which someone has edited, can neither lose nor change the verdict.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from perfkit.errors import PerfkitError, UsageError
from perfkit.report.notebooks import notebook_names, notebook_path

__all__ = ["NotebookFailed", "notebook_names", "notebook_path", "render"]

DEFAULT_NOTEBOOK = "leak_root_cause"


class NotebookFailed(PerfkitError):
    """The notebook stopped before its end; the report was written all the same and says so."""

    def __init__(self, notebook: str, reason: str, report: Path) -> None:
        super().__init__(f"the notebook {notebook} stopped: {reason}")
        self.hint = f"{report} has the verdict, what the notebook had shown until then, and the error."
        self.notebook = notebook
        self.reason = reason
        self.report = report


def render(
    profile_dir: str | os.PathLike[str],
    notebook: str = DEFAULT_NOTEBOOK,
    parameters: Mapping[str, Any] | None = None,
    output: str | os.PathLike[str] | None = None,
    *,
    static: bool = False,
    say: Callable[[str], None] = lambda _line: None,
) -> Path:
    """Run a notebook over a profile and return the HTML file that was written.

    The same profile, notebook and perfkit give the same file, byte for byte.

    Args:
        profile_dir: folder of the profile; an interrupted recording is finished first.
        notebook: name of a notebook that comes with perfkit, or the path of another one.
        parameters: values for its parameters; texts are converted to the annotated type.
        output: file to write; by default `report.html` in the profile's folder, `report-NAME.html` for a notebook other
            than the first one, so that reports of one profile can lie side by side.
        static: draw the charts as pictures, for places that forbid scripts.
        say: called with one line per step.

    Raises:
        UnknownName: there is no such notebook, or it has no such parameter.
        UsageError: a value does not fit its parameter, or charts cannot be drawn as pictures here.
        NotAProfile: the folder holds no profile.
        NotebookFailed: the notebook raised; the report says so and was written.
    """
    from perfkit.checks import check
    from perfkit.decode import open_profile
    from perfkit.report.kernel import execution
    from perfkit.report.notebooks import prepare
    from perfkit.report.page import build

    profile = open_profile(profile_dir)
    prepared = prepare(notebook_path(notebook), dict(parameters or {}), profile.path.resolve())
    name = "report.html" if prepared.name == DEFAULT_NOTEBOOK else f"report-{prepared.name}.html"
    target = Path(output) if output is not None else profile.path / name
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent}", hint="Make it first, or choose another -o.")
    if target.is_dir():
        raise UsageError(f"{target} is a folder", hint=f"Name a file, such as -o {target / name}.")
    with execution(prepared.cells) as running:
        say("asking the rules")
        findings = check(profile)
        say(f"running {prepared.name}")
        problem = running.finish()
    say("writing the page")
    html = build(profile, findings, prepared, problem, static=static)
    temporary = target.with_name(target.name + ".tmp")
    try:
        temporary.write_text(html, "utf-8")
        temporary.replace(target)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}", hint="Choose another -o.") from error
    if problem is not None:
        raise NotebookFailed(prepared.name, problem, target)
    return target
