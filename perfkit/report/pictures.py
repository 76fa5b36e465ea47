"""The only place that draws without scripts: charts and flame graphs as images, for places that forbid JavaScript."""

import base64
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from perfkit.errors import UsageError
from perfkit.views import charts
from perfkit.views.flame_graph import KINDS

WIDTH = 860
_ROW = 20
_GLYPH = 7.0
_FILLS = {
    "python": "#7fb0e3", "library": "#e3bd85", "stdlib": "#cdd3dc", "native": "#c9b3e6", "interpreter": "#dfe3e8",
    "probe": "#b9d8c9", "synthetic": "#e7eaef",
}  # fmt: skip


def chart_picture(spec: Mapping[str, Any], title: str) -> str:
    """Return a chart as an image element.

    Raises:
        UsageError: the package that draws it is not installed.
    """
    try:
        import vl_convert
    except ImportError:
        raise UsageError(
            "charts cannot be drawn as pictures: vl-convert-python is not installed",
            hint="Install it with `pip install perfkit[static]`, or leave out --static.",
        ) from None
    fixed = {**spec, "width": WIDTH, "config": charts.theme(charts.LIGHT) | {"background": "white"}}
    return image(vl_convert.vegalite_to_svg(fixed), title)


def flame_picture(data: Mapping[str, Any]) -> str:
    """Return a flame graph as an image element, root on top; frames too narrow to see are left out."""
    scale = WIDTH / max(data["total"], 1)
    height = (max(data["node_depth"], default=0) + 1) * _ROW
    boxes = "".join(
        _box(data["names"][name], KINDS[data["kinds"][name]], start * scale, depth * _ROW, value * scale)
        for start, depth, value, name in _laid_out(data)
        if value * scale >= 0.5
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="monospace" font-size="11.5">{boxes}</svg>'
    )
    return image(svg, str(data["label"]))


def image(svg: str, title: str) -> str:
    """Return an SVG as an image element: scripts in images do not run."""
    source = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{escape(title)}" src="data:image/svg+xml;base64,{source}" style="width:100%">'


def _laid_out(data: Mapping[str, Any]) -> Iterator[tuple[int, int, int, int]]:
    """Yield start, depth, value and name of each frame; children begin where their parent begins."""
    free: list[int] = []  # per depth of the open frames, where the next child begins
    for depth, value, name in zip(data["node_depth"], data["node_value"], data["node_name"], strict=True):
        del free[depth:]
        start = free[depth - 1] if depth else 0
        if depth:
            free[depth - 1] += value
        free.append(start)
        yield start, depth, value, name


def _box(name: str, kind: str, x: float, y: int, width: float) -> str:
    """Return one frame, with as much of its name as fits."""
    room = int((width - 8) / _GLYPH)
    text = "" if room < 3 else name if len(name) <= room else name[: room - 1] + "\N{HORIZONTAL ELLIPSIS}"
    shape = f'<rect x="{x:.1f}" y="{y}" width="{max(width - 0.8, 0.4):.1f}" height="{_ROW - 1}" fill="{_FILLS[kind]}"/>'
    return shape + (f'<text x="{x + 4:.1f}" y="{y + 14}" fill="#14181f">{escape(text)}</text>' if text else "")
