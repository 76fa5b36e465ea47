"""The only place that makes HTML for notebooks: a table, a sentence, and the cells they are made of.

Every text that reaches HTML is escaped here and nowhere else, because function names, URLs
and thread names come from the process that was measured and are not to be trusted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from perfkit.units import UNKNOWN

_CODE = re.compile(r"`([^`]+)`")
LONGEST = 160
"""Characters of a name that are shown; more of it appears under the pointer."""


def named(text: str) -> str:
    r"""Return a name from the target as HTML: escaped, cut, and with its direction and control characters tamed.

    A name that turns the direction of writing would turn what stands beside it, too, and could
    look like another name: such characters are shown as what they are.

    >>> named("a\u202eb<c>")
    'a\\u202eb&lt;c&gt;'
    """
    shown = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text[: 4 * LONGEST]
    )
    if len(shown) <= LONGEST:
        return escape(shown) if shown.isascii() else f"<bdi>{escape(shown)}</bdi>"
    return f'<bdi title="{escape(shown)}">{escape(shown[:LONGEST])}&hellip;</bdi>'


def marked(text: str) -> str:
    r"""Return a sentence as HTML: escaped, with what stands between backticks as code.

    >>> marked("return it in a `finally` block <now>")
    'return it in a <code>finally</code> block &lt;now&gt;'
    """
    return _CODE.sub(r"<code>\1</code>", escape(text))


@dataclass(frozen=True, slots=True)
class Place:
    """A cell: a function with its file and line."""

    function: str
    file: str | None = None
    line: int | None = None

    def text(self) -> str:
        """Return the place on one line."""
        where = "" if self.file is None else f" ({self.file}:{self.line})" if self.line else f" ({self.file})"
        return f"{self.function}{where}"

    def html(self) -> str:
        """Return the place as a name with its path below it."""
        path = "" if self.file is None else f"{self.file}:{self.line}" if self.line else self.file
        below = f' <span class="pk-where">{named(path)}</span>' if path else ""
        return f'<code class="pk-name">{named(self.function)}</code>{below}'


@dataclass(frozen=True, slots=True)
class Chain:
    """A cell: steps that lead from one thing to another."""

    steps: tuple[str, ...]

    def text(self) -> str:
        """Return the steps on one line."""
        return " > ".join(self.steps)

    def html(self) -> str:
        """Return the steps as code, joined by arrows."""
        arrow = ' <span class="pk-arrow" aria-hidden="true">&rsaquo;</span> '
        return f'<span class="pk-chain">{arrow.join(f"<code>{named(step)}</code>" for step in self.steps)}</span>'


@dataclass(frozen=True, slots=True)
class Bar:
    """A cell: a number with a bar whose length is a share between 0 and 1."""

    label: str
    ratio: float
    detail: str = ""

    def text(self) -> str:
        """Return the number."""
        return f"{self.label}, {self.detail}" if self.detail else self.label

    def html(self) -> str:
        """Return the number over its bar; the bar is decoration, the number says it all."""
        width = round(min(max(self.ratio, 0.0), 1.0) * 100, 1)
        below = f' <span class="pk-where">{escape(self.detail)}</span>' if self.detail else ""
        bar = f'<span class="pk-bar" aria-hidden="true"><i style="width:{width:g}%"></i></span>'
        return f"{escape(self.label)}{bar}{below}"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A cell: a number, and how sure it is."""

    value: str
    interval: str = ""

    def text(self) -> str:
        """Return both on one line."""
        return f"{self.value} ({self.interval})" if self.interval else self.value

    def html(self) -> str:
        """Return the number in bold with its interval below it."""
        below = f' <span class="pk-where">{escape(self.interval)}</span>' if self.interval else ""
        return f'<b class="pk-figure">{escape(self.value)}</b>{below}'


@dataclass(frozen=True, slots=True)
class Spark:
    """A cell: a small curve of values over time, without axes."""

    values: tuple[float, ...]

    def text(self) -> str:
        """Return nothing: the curve repeats what other cells say."""
        return ""

    def html(self) -> str:
        """Return the curve as inline SVG, from zero to its largest value."""
        if len(self.values) < 2:
            return ""
        width, height = 96.0, 22.0
        top = max(*self.values, 1e-12)
        step = width / (len(self.values) - 1)
        points = [
            f"{round(i * step, 1):g},{round(height - 1 - max(v, 0) / top * (height - 3), 1):g}"
            for i, v in enumerate(self.values)
        ]
        line = " ".join(points)
        return (
            f'<svg class="pk-spark" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
            f'aria-hidden="true"><polygon points="0,{height:g} {line} {width:g},{height:g}" fill="currentColor" '
            f'fill-opacity=".14"/><polyline points="{line}" fill="none" stroke="currentColor" '
            f'stroke-width="1.5"/></svg>'
        )


@dataclass(frozen=True, slots=True)
class Badge:
    """A cell: a verdict as a coloured word."""

    verdict: str

    def text(self) -> str:
        """Return the word."""
        return self.verdict

    def html(self) -> str:
        """Return the word in its colour; the word itself carries the meaning."""
        known = self.verdict if self.verdict in ("fail", "pass", "undecided", "error") else "undecided"
        return f'<span class="pk-badge pk-{known}">{escape(self.verdict)}</span>'


_LONG = 48
"""Characters from which on a text gets a column of some width."""

Cell = str | None | Place | Chain | Bar | Estimate | Spark | Badge


@dataclass(frozen=True, slots=True)
class Note:
    """One plain sentence in place of a view, for example when nothing was recorded."""

    sentence: str

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"text/html": f'<p class="pk-note">{marked(self.sentence)}</p>', "text/plain": self.sentence}


@dataclass(frozen=True, slots=True)
class PlainTable:
    """A table that reads well in a notebook, in a report and as plain text.

    `numbers` names the headers whose cells are aligned to the right.
    """

    headers: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    numbers: frozenset[str] = frozenset()
    caption: str = ""
    notes: Sequence[str] = field(default=())

    def html(self) -> str:
        """Return the table as HTML without any script."""
        right = [header in self.numbers for header in self.headers]
        classes = ['class="pk-number" style="text-align:right"' if r else 'style="text-align:left"' for r in right]
        head = "".join(f'<th scope="col" {c}>{escape(h)}</th>' for h, c in zip(self.headers, classes, strict=True))
        body = "".join(
            "<tr>"
            + "".join(
                f'<td {c} data-label="{escape(header)}">{_html(cell)}</td>'
                for cell, c, header in zip(row, classes, self.headers, strict=True)
            )
            + "</tr>"
            for row in self.rows
        )
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        notes = "".join(f'<p class="pk-note">{marked(note)}</p>' for note in self.notes)
        return (
            f'<div class="pk-scroll"><table class="pk-table">{caption}<thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>{notes}"
        )

    def text(self) -> str:
        """Return the table in columns of plain text."""
        cells = [list(self.headers), *([_text(cell) for cell in row] for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.headers))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
        return "\n".join([*([self.caption] if self.caption else []), *lines, *self.notes])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"text/html": self.html(), "text/plain": self.text()}


def _html(cell: Cell) -> str:
    """Return a cell as HTML; long texts say so, because they need room."""
    if cell is None:
        return UNKNOWN
    if isinstance(cell, str):
        return f'<span class="pk-long">{marked(cell)}</span>' if len(cell) > _LONG else marked(cell)
    return cell.html()


def _text(cell: Cell) -> str:
    """Return a cell as text."""
    if cell is None:
        return UNKNOWN
    return cell if isinstance(cell, str) else cell.text()
