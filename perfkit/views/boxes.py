"""The only place that draws a chain of boxes: what refers to what, from top to bottom, without any script."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from perfkit.views.display import Bar, named

Role = Literal["root", "", "holder", "leaked", "gap"]

_BOX = "border:1px solid #80869380;border-radius:8px;padding:8px 12px;max-width:44em"
"""For live notebooks, which do not have the report's style sheet."""


@dataclass(frozen=True, slots=True)
class Box:
    """A thing on the way. `step` is what the reference to it is called, `freed` what would go with it."""

    name: str
    kind: str = ""
    step: str = ""
    role: Role = ""
    remark: str = ""
    freed: Bar | None = None

    def html(self) -> str:
        """Return the box with the arrow that leads to it."""
        edge = f'<span class="pk-step">{named(self.step)}</span>' if self.step else ""
        arrow = f'<div class="pk-edge" aria-hidden="true">&darr; {edge}</div>' if self.role != "root" else ""
        if self.role == "gap":
            return f'<li class="pk-hop">{arrow}<p class="pk-note">{escape(self.name)}</p></li>'
        kind = f'<span class="pk-kind">{escape(self.kind)}</span> ' if self.kind else ""
        remark = f' <span class="pk-remark">{escape(self.remark)}</span>' if self.remark else ""
        freed = f'<div class="pk-freed">{self.freed.html()}</div>' if self.freed else ""
        return (
            f'<li class="pk-hop">{arrow}<div class="pk-node pk-{self.role or "between"}" style="{_BOX}">'
            f'<div>{kind}<code class="pk-name">{named(self.name)}</code>{remark}</div>{freed}</div></li>'
        )

    def text(self) -> str:
        """Return the box on one line."""
        kind = f"{self.kind} " if self.kind else ""
        freed = f" [{self.freed.text()}]" if self.freed else ""
        return f"{f'-- {self.step} --> ' if self.step else ''}{kind}{self.name} {self.remark}".rstrip() + freed


@dataclass(frozen=True, slots=True)
class BoxChain:
    """Boxes from a root down to what it keeps alive, with a sentence above and notes below."""

    caption: str
    boxes: Sequence[Box]
    notes: Sequence[str] = ()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        hops = "".join(box.html() for box in self.boxes)
        notes = "".join(f'<p class="pk-note">{escape(note)}</p>' for note in self.notes)
        html = (
            f'<figure class="pk-path"><figcaption>{named(self.caption)}</figcaption>'
            f'<ol style="list-style:none;padding:0;margin:0">{hops}</ol></figure>{notes}'
        )
        lines = [f"{'  ' * depth}{box.text()}" for depth, box in enumerate(self.boxes)]
        return {"text/html": html, "text/plain": "\n".join([self.caption, *lines, *self.notes])}
