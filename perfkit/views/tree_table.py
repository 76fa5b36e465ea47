"""The only place that draws a table whose rows unfold: `<details>` elements, no script."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from perfkit.views.display import Bar, named

_ROW = "display:flex;flex-wrap:wrap;gap:2px 14px;align-items:baseline;padding:3px 0"


@dataclass(frozen=True, slots=True)
class Branch:
    """A row: its name, a number of things, their size, and the rows below it.

    `is_open`: it is unfolded at first; what is folded is not printed.
    """

    name: str
    where: str
    count: str
    size: Bar
    children: Sequence["Branch"] = field(default=())
    is_open: bool = False

    def html(self) -> str:
        """Return the row, with those below it folded into it."""
        where = f'<span class="pk-where">{named(self.where)}</span>' if self.where else ""
        row = (
            f'<span class="pk-what"><code class="pk-name">{named(self.name)}</code> {where}</span> '
            f'<span class="pk-count">{escape(self.count)}</span> <span class="pk-size">{self.size.html()}</span>'
        )
        if not self.children:
            return f'<div class="pk-row pk-end" style="{_ROW}">{row}</div>'
        below = "".join(child.html() for child in self.children)
        return (
            f'<details{" open" if self.is_open else ""}><summary class="pk-row" style="{_ROW}">{row}</summary>'
            f'<div class="pk-below" style="padding-left:1.2em">{below}</div></details>'
        )

    def lines(self, depth: int = 0) -> Iterator[str]:
        """Yield the row and those below it that are unfolded, as text."""
        yield f"{'  ' * depth}{self.name}  {self.count}  {self.size.text()}".rstrip()
        for child in self.children if self.is_open else ():
            yield from child.lines(depth + 1)


@dataclass(frozen=True, slots=True)
class TreeTable:
    """Rows that unfold, with the names of the three columns and a caption."""

    caption: str
    headers: tuple[str, str, str]
    rows: Sequence[Branch]
    notes: Sequence[str] = ()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        what, count, size = (escape(header) for header in self.headers)
        head = (
            f'<div class="pk-row pk-head" style="{_ROW}"><span class="pk-what">{what}</span> '
            f'<span class="pk-count">{count}</span> <span class="pk-size">{size}</span></div>'
        )
        rows = "".join(row.html() for row in self.rows)
        notes = "".join(f'<p class="pk-note">{escape(note)}</p>' for note in self.notes)
        html = f'<figure class="pk-tree"><figcaption>{escape(self.caption)}</figcaption>{head}{rows}</figure>{notes}'
        lines = [line for row in self.rows for line in row.lines()]
        return {"text/html": html, "text/plain": "\n".join([self.caption, *lines, *self.notes])}
