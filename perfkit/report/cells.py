"""The only place that turns the cells of an executed notebook into the sections of a page."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from perfkit.report.markup import clean
from perfkit.report.pictures import chart_picture, flame_picture, image
from perfkit.report.redact import Redactor
from perfkit.views import charts
from perfkit.views.flame_graph import MIME as FLAME_MIME

HIDDEN_TAGS = frozenset({"parameters", "injected-parameters", "live-only"})
"""Cells that matter when the notebook is run by hand and would repeat what the page says."""


@dataclass(slots=True)
class Section:
    """A heading of the notebook and what comes below it, as HTML."""

    anchor: str
    title: str
    blocks: list[Any] = field(default_factory=list)
    code: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Drawings:
    """What scripts draw: collected while the cells are read, stored once in the page."""

    static: bool = False
    charts: list[dict[str, Any]] = field(default_factory=list)
    flames: list[dict[str, Any]] = field(default_factory=list)
    log: str = ""

    @property
    def need_scripts(self) -> bool:
        """Whether anything is left to draw for a script."""
        return bool(self.charts or self.flames)

    def chart(self, spec: Mapping[str, Any]) -> str:
        """Return the figure of a chart: its title and subtitle as text, and room for the drawing."""
        spec = dict(spec)
        title, subtitle = _heading(spec.pop("title", None))
        name = _slug(title or "chart")
        caption = f"<strong>{escape(title)}</strong><span>{escape(subtitle)}</span>" if title else ""
        if spec.get("config") == charts.theme(charts.NEUTRAL):
            del spec["config"]
        if self.static:
            body = chart_picture(spec, title)
        else:
            spec["datasets"] = {key: _columnar(rows) for key, rows in spec.get("datasets", {}).items()}
            body = f'<div class="plot" data-chart="{len(self.charts)}" data-name="{name}"></div>'
            self.charts.append(spec)
        return f'<figure class="chart" id="chart-{name}"><figcaption>{caption}</figcaption>{body}</figure>'

    def flame(self, data: Mapping[str, Any], table: str) -> str:
        """Return room for a flame graph, with its table beside it."""
        label = escape(str(data.get("label", "Flame graph")))
        if self.static:
            body = flame_picture(data)
        else:
            body = f'<div class="pk-flame" data-flame="{len(self.flames)}"></div>'
            self.flames.append(dict(data))
        caption = f"<figcaption><strong>{label}</strong></figcaption>"
        return f'<div class="flame-pair"><figure class="flame-card">{caption}{body}</figure>{table}</div>'


def sections_of(notebook: Any, drawings: Drawings, redactor: Redactor) -> list[Section]:
    """Return the notebook as sections, one per heading of the second level."""
    sections = [Section("notebook", "")]
    taken: dict[str, int] = {}
    for cell in notebook.cells:
        if HIDDEN_TAGS & set(cell.metadata.get("tags", ())):
            _collect_errors(cell, sections[-1], redactor)
            continue
        if cell.cell_type == "markdown":
            for title, text in _parts(cell.source):
                if title is not None:
                    anchor = _slug(title)
                    taken[anchor] = taken.get(anchor, 0) + 1
                    sections.append(Section(anchor if taken[anchor] == 1 else f"{anchor}-{taken[anchor]}", title))
                if html := _markdown(text):
                    sections[-1].blocks.append(clean(html, redactor))
        elif cell.cell_type == "code":
            for output in cell.get("outputs", ()):
                if html := _output(output, drawings, redactor):
                    sections[-1].blocks.append(clean(html, redactor))
            if cell.source.strip():
                sections[-1].code.append(redactor.text(cell.source))
    return [section for section in sections if section.blocks]


def _parts(source: str) -> list[tuple[str | None, str]]:
    """Return the text of a markdown cell as (heading of the second level or None, text below it)."""
    parts: list[tuple[str | None, str]] = []
    title: str | None = None
    lines: list[str] = []
    for line in source.splitlines():
        if line.startswith("## "):
            parts.append((title, "\n".join(lines)))
            title, lines = line[3:].strip(), []
        elif not line.startswith("# "):
            lines.append(line)
    parts.append((title, "\n".join(lines)))
    return [(heading, text) for heading, text in parts if heading is not None or text.strip()]


def _markdown(text: str) -> str:
    """Return markdown as HTML; raw HTML in it is shown as text."""
    from markdown_it import MarkdownIt

    return str(MarkdownIt("commonmark", {"html": False}).enable("table").render(text)) if text.strip() else ""


def _output(output: Any, drawings: Drawings, redactor: Redactor) -> str:
    """Return one output of a cell as HTML; what goes to the error stream goes to the log."""
    if output.output_type == "stream":
        if output.name == "stderr":
            drawings.log += output.text
            return ""
        return f"<pre>{escape(output.text)}</pre>"
    if output.output_type == "error":
        return _error(output, redactor)
    data = output.data
    if charts.MIME in data:
        return drawings.chart(data[charts.MIME])
    if FLAME_MIME in data:
        return drawings.flame(data[FLAME_MIME], str(data.get("text/html", "")).partition("</iframe>")[2])
    if "text/html" in data:
        return str(data["text/html"])
    for mime in ("image/png", "image/jpeg"):
        if mime in data:
            return f'<figure><img alt="" src="data:{mime};base64,{"".join(data[mime].split())}"></figure>'
    if "image/svg+xml" in data:
        return image(data["image/svg+xml"], "")
    if "text/markdown" in data:
        return _markdown(data["text/markdown"])
    return f"<pre>{escape(data.get('text/plain', ''))}</pre>"


def _collect_errors(cell: Any, section: Section, redactor: Redactor) -> None:
    """Show what went wrong in a cell that is otherwise hidden."""
    for output in cell.get("outputs", ()):
        if output.output_type == "error":
            section.blocks.append(clean(_error(output, redactor), redactor))


def _error(output: Any, redactor: Redactor) -> str:
    """Return an exception of a cell with its traceback folded away."""
    traceback = escape(redactor.text("\n".join(output.get("traceback", ()))))
    return (
        f'<div class="card error"><p><strong>{escape(output.ename)}</strong>: {escape(output.evalue)}</p>'
        f'<details class="fold"><summary>Traceback</summary><pre>{traceback}</pre></details></div>'
    )


def _heading(title: Any) -> tuple[str, str]:
    """Return title and subtitle of a chart."""
    if isinstance(title, dict):
        subtitle = title.get("subtitle", "")
        return _one_line(title.get("text", "")), _one_line(subtitle)
    return _one_line(title or ""), ""


def _one_line(text: Any) -> str:
    """Return a text that Vega-Lite allows to be a list of lines."""
    return " ".join(str(part) for part in text) if isinstance(text, list) else str(text)


def _columnar(rows: Any) -> Any:
    """Return rows as columns, which are a third of the size; anything else as it is."""
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return rows
    names = list(rows[0])
    if any(list(row) != names for row in rows):
        return rows
    return {"rows": len(rows), "columns": {name: [row[name] for row in rows] for name in names}}


def _slug(text: str) -> str:
    """Return a text as an anchor.

    >>> _slug("Who holds them, and why?")
    'who-holds-them-and-why'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
