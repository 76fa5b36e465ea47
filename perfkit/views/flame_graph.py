"""A flame graph: live in a notebook, in a report, and as plain numbers where neither can be drawn."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from perfkit.profile import Profile
from perfkit.views.display import Bar, Cell, Note, Place, PlainTable
from perfkit.views.selection import chosen_pid
from perfkit.views.units import bytes_text, percent_text, seconds_text

MIME = "application/vnd.perfkit.flamegraph.v1+json"
KINDS = ("python", "library", "stdlib", "native", "interpreter", "synthetic")
LEAST = 0.001
"""Frames below this share of everything are folded into what called them: nobody can see them."""

Frame = tuple[str, str, str]
"""Function, place as `file:line`, kind."""

_CPU = """
select list({'function': f.function, 'file': f.file, 'line': null::int, 'kind': f.kind} order by b.pos) as frames,
    w.weight
from (
    select stack_id, sum(weight_ns)::bigint as weight from cpu_samples c join threads t using (thread_id)
    where t.pid = $pid and ($idle or coalesce(c.active, true)) group by stack_id
) w join stack_frames b using (stack_id) join frames f using (frame_id)
group by w.stack_id, w.weight order by w.stack_id
"""
_SURVIVORS = """
select list({'function': f.function, 'file': f.file, 'line': f.line, 'kind': f.kind} order by b.pos) as frames, w.weight
from (
    select stack_id, sum(size_bytes)::bigint as weight from heap_survival
    where pid = $pid and freed_ns is null and allocated_ns > $warmup_ns group by stack_id
) w join stack_frames b using (stack_id) join frames f using (frame_id)
group by w.stack_id, w.weight order by w.stack_id
"""


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


def cpu_flame_graph(
    profile: Profile, *, pid: int | None = None, idle: bool = False, least: float = LEAST
) -> FlameGraph | Note:
    """Return where the CPU time went, as a flame graph with the functions that used most of it.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        idle: count waiting threads too.
        least: frames below this share of everything are not drawn.
    """
    stacks = profile.sql(_CPU, pid=chosen_pid(profile, pid), idle=idle)
    if stacks.empty:
        return Note("Nothing was recorded: the CPU sampler saw no running thread of this process.")
    return flame_graph(_weighted(stacks), unit="ns", label="CPU time by function", least=least)


def survivor_flame_graph(
    profile: Profile, *, pid: int | None = None, warmup_s: float = 0.0, least: float = LEAST
) -> FlameGraph | Note:
    """Return who allocated the bytes that were still alive at the end, as a flame graph by line.

    Args:
        profile: what was recorded.
        pid: process to show; None or 0: the main one.
        warmup_s: what was allocated before is left out, in seconds.
        least: frames below this share of everything are not drawn.
    """
    stacks = profile.sql(_SURVIVORS, pid=chosen_pid(profile, pid), warmup_ns=int(warmup_s * 1e9))
    if stacks.empty:
        return Note("Nothing was recorded: no traced allocation made after the warm-up was still alive at the end.")
    return flame_graph(
        _weighted(stacks), unit="bytes", label="Living bytes by the stack that allocated them", least=least
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
    total = sum(weight for _, weight in weighted)
    names: dict[Frame, int] = {("all", "", "synthetic"): 0}
    nodes: list[tuple[int, int, int]] = []
    folded = 0
    root = _grow(weighted)
    pending: list[tuple[int, Frame, _Node]] = [(0, ("all", "", "synthetic"), root)]
    while pending:
        depth, frame, node = pending.pop()
        nodes.append((names.setdefault(frame, len(names)), depth, node.weight))
        kept = [(child, below) for child, below in node.children.items() if below.weight >= least * total]
        folded += sum(below.weight for below in node.children.values()) - sum(below.weight for _, below in kept)
        for child, below in sorted(kept, key=lambda item: (item[1].weight, item[0])):
            pending.append((depth + 1, child, below))
    data = {
        "label": label,
        "unit": unit,
        "total": total,
        "least": least,
        "folded": folded,
        "names": [function for function, _, _ in names],
        "places": [place for _, place, _ in names],
        "kinds": [KINDS.index(kind) if kind in KINDS else len(KINDS) - 1 for _, _, kind in names],
        "node_name": [name for name, _, _ in nodes],
        "node_depth": [depth for _, depth, _ in nodes],
        "node_value": [value for _, _, value in nodes],
    }
    return FlameGraph(data, _top(weighted, total, unit))


class _Node:
    """A frame below the frames that called it."""

    __slots__ = ("children", "weight")

    def __init__(self) -> None:
        self.weight = 0
        self.children: dict[Frame, _Node] = {}


def _grow(stacks: Iterable[tuple[tuple[Frame, ...], int]]) -> _Node:
    """Return the tree of all stacks."""
    root = _Node()
    for frames, weight in stacks:
        node = root
        node.weight += weight
        for frame in frames:
            node = node.children.setdefault(frame, _Node())
            node.weight += weight
    return root


def _weighted(stacks: Any) -> list[tuple[tuple[Frame, ...], int]]:
    """Return the rows of a query as stacks."""
    return [
        (tuple((f["function"], _place(f["file"], f["line"]), f["kind"]) for f in row.frames), int(row.weight))
        for row in stacks.itertuples()
    ]


def _place(file: str | None, line: float | None) -> str:
    """Return `file:line`, or as much as is known of it."""
    if not file:
        return ""
    return f"{file}:{int(line)}" if line and line > 0 else file


def _top(stacks: list[tuple[tuple[Frame, ...], int]], total: int, unit: str, rows: int = 15) -> PlainTable:
    """Return the functions with the largest own weight, recursion counted once."""
    own: dict[Frame, int] = {}
    whole: dict[Frame, int] = {}
    for frames, weight in stacks:
        own[frames[-1]] = own.get(frames[-1], 0) + weight
        for frame in set(frames):
            whole[frame] = whole.get(frame, 0) + weight
    text = bytes_text if unit == "bytes" else lambda value: seconds_text(value / 1e9)
    cells: list[list[Cell]] = []
    for frame in sorted(own, key=lambda each: (-own[each], each))[:rows]:
        function, place, _ = frame
        share = own[frame] / total if total else 0.0
        cells.append(
            [
                Place(function, place or None),
                Bar(f"{text(own[frame])}, {percent_text(share)}", share),
                text(whole[frame]),
            ]
        )
    headers = ("function", "self", "total")
    return PlainTable(headers, cells, numbers=frozenset(headers[1:]), caption=f"Largest by own {_WHAT.get(unit, unit)}")


_WHAT = {"ns": "time", "bytes": "bytes"}


def script_json(value: object) -> str:
    """Return JSON that is safe inside a script element: no character can end it or begin markup."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def asset(name: str) -> str:
    """Return a file of the flame graph's code and style."""
    return (files("perfkit") / "assets" / "flame" / name).read_text("utf-8")
