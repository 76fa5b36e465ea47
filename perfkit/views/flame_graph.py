"""A flame graph: live in a notebook, in a report, and as plain numbers where neither can be drawn."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from perfkit.analysis.stacks import tree_of
from perfkit.profile import Profile
from perfkit.units import bytes_text, percent_text, seconds_text
from perfkit.views.display import Bar, Cell, Place, PlainTable

if TYPE_CHECKING:
    import pandas as pd

MIME = "application/vnd.perfkit.flamegraph.v1+json"
KINDS = ("python", "library", "stdlib", "native", "interpreter", "probe", "synthetic")
LEAST = 0.001
"""Frames below this share of everything are folded into what called them: nobody can see them."""

Frame = tuple[str, str, str]
"""Function, place as `file:line`, kind."""


@dataclass(frozen=True, slots=True)
class FlameGraph:
    """Frames in preorder with their sizes, and how to show them."""

    data: Mapping[str, Any]
    top: PlainTable

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {MIME: dict(self.data), "text/html": self.iframe() + self.top.html(), "text/plain": self.top.text()}

    def iframe(self) -> str:
        """Return the flame graph as a frame of its own, for live notebooks; nothing in it reaches the notebook."""
        page = (
            f"<!doctype html><meta charset=utf-8><meta http-equiv=Content-Security-Policy content=\"default-src 'none';"
            f" script-src 'unsafe-inline'; style-src 'unsafe-inline'\"><style>{asset('flame.css')}"
            f"body{{margin:0;font:14px system-ui,sans-serif;color-scheme:light dark}}</style>"
            f'<div class="pk-flame"></div><script>{asset("flame.js")}'
            f"perfkitFlame(document.querySelector('div'),{script_json(self.data)})</script>"
        )
        height = (max(self.data["node_depth"], default=0) + 1) * 21 + 100
        return (
            f'<iframe title="{escape(str(self.data["label"]))}" sandbox="allow-scripts" srcdoc="{escape(page)}" '
            f'style="width:100%;height:{height}px;border:0"></iframe>'
        )


def flame_graph(
    stacks: Iterable[tuple[tuple[Frame, ...], int]], *, unit: str, label: str, least: float = LEAST
) -> FlameGraph:
    """Return a flame graph of weighted stacks.

    Args:
        stacks: frames from root to leaf, each with its weight.
        unit: what the weights are: ns or bytes.
        label: what the graph shows.
        least: frames below this share of everything are not drawn.
    """
    weighted = list(stacks)
    numbers: dict[tuple[str, str | None, int | None], int] = {}
    kinds: dict[tuple[str, str | None, int | None], str] = {}
    paths = []
    for frames, _ in weighted:
        named = [(function, place or None, None) for function, place, _ in frames]
        kinds |= {each: frame[2] for each, frame in zip(named, frames, strict=True)}
        paths.append(np.array([numbers.setdefault(each, len(numbers)) for each in named], dtype=np.int32))
    values = np.array([weight for _, weight in weighted], dtype=np.int64)
    tree = tree_of(paths, values, tuple(numbers), unit=unit, min_ratio=least)
    depths = np.zeros(len(tree.parents), dtype=np.int64)
    for box, parent in enumerate(tree.parents[1:].tolist(), start=1):
        depths[box] = depths[parent] + 1
    data = {
        "label": label,
        "unit": unit,
        "total": tree.total,
        "least": least,
        "folded": int(tree.folded.sum()),
        "names": ["all", *(function for function, _, _ in tree.labels)],
        "places": ["", *(place or "" for _, place, _ in tree.labels)],
        "kinds": [KINDS.index("synthetic"), *(_kind(kinds[each]) for each in tree.labels)],
        "node_name": (tree.frames + 1).tolist(),
        "node_depth": depths.tolist(),
        "node_value": tree.values.tolist(),
    }
    return FlameGraph(data, _top(weighted, tree.total, unit))


def _kind_of(frame: Mapping[str, Any]) -> str:
    """Return the kind of a frame; perfkit's own code inside the target is a kind of its own."""
    return "probe" if str(frame["file"]).startswith("<perfkit") else str(frame["kind"])


def _kind(kind: str) -> int:
    """Return the number of a kind of frame."""
    return KINDS.index(kind) if kind in KINDS else KINDS.index("synthetic")


def weighted_stacks(
    profile: Profile, weights: "pd.DataFrame", *, lines: bool = False
) -> list[tuple[tuple[Frame, ...], int]]:
    """Return weighted stacks with their frames; without lines, a function is one frame wherever it was left."""
    frames = profile.table("frames").select(["function", "file", "line", "kind"]).to_pylist()
    known = [(f["function"], _place(f["file"], f["line"] if lines else None), _kind_of(f)) for f in frames]
    paths = profile.table("stacks")["frame_ids"].to_pylist()
    return [
        (tuple(known[frame] for frame in paths[stack]), value)
        for stack, value in zip(weights["stack_id"].tolist(), weights["value"].tolist(), strict=True)
    ]


def _place(file: str | None, line: int | None) -> str:
    """Return `file:line`, or as much as is known of it."""
    if not file:
        return ""
    return f"{file}:{line}" if line else file


def _top(stacks: list[tuple[tuple[Frame, ...], int]], total: int, unit: str, rows: int = 10) -> PlainTable:
    """Return the functions with the largest own weight, recursion counted once: those from one per cent on."""
    own: dict[Frame, int] = {}
    whole: dict[Frame, int] = {}
    measuring = 0
    for frames, weight in stacks:
        own[frames[-1]] = own.get(frames[-1], 0) + weight
        for frame in set(frames):
            whole[frame] = whole.get(frame, 0) + weight
        measuring += weight if any(kind == "probe" for _, _, kind in frames) else 0
    text = bytes_text if unit == "bytes" else lambda value: seconds_text(value / 1e9)
    cells: list[list[Cell]] = []
    for place, frame in enumerate(sorted(own, key=lambda each: (-own[each], each))[:rows]):
        share = own[frame] / total if total else 0.0
        if place < 3 or share >= 0.01:
            cells.append(
                [
                    Place(frame[0], frame[1] or None),
                    Bar(text(own[frame]), share, percent_text(share)),
                    text(whole[frame]),
                ]
            )
    headers = ("function", "self", "total")
    notes = (f"{percent_text(measuring / total)} of it is perfkit's own probe.",) if measuring else ()
    caption = f"Largest by own {_WHAT.get(unit, unit)}"
    return PlainTable(headers, cells, numbers=frozenset(headers[1:]), caption=caption, notes=notes)


_WHAT = {"ns": "time", "bytes": "bytes"}


def script_json(value: object) -> str:
    """Return JSON that is safe inside a script element: no character can end it or begin markup."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def asset(name: str) -> str:
    """Return a file of the flame graph's code and style."""
    return (files("perfkit") / "assets" / "flame" / name).read_text("utf-8")
