"""Heaps that can be drawn on paper."""

from collections import Counter
from collections.abc import Sequence

from perfkit.analysis.heap_graph import HeapGraph
from perfkit.tables import HEAP_OBJECTS, HEAP_REFERENCES

Row = dict[str, object]


def heap(objects: Sequence[Row], references: Sequence[tuple[int, int] | tuple[int, int, str]]) -> HeapGraph:
    """Return a graph of objects (plain ones of 10 bytes where nothing is said) and `(from, to, label)`."""
    counts = Counter(edge[1] for edge in references)
    rows = [
        {
            "pid": 1, "rung": 0, "object_id": number, "type": "app.Thing", "size_bytes": 10,
            "refcount": counts[number], **more,
        }
        for number, more in enumerate(objects)
    ]  # fmt: skip
    edges = [
        {"pid": 1, "rung": 0, "from_id": edge[0], "to_id": edge[1], "label": edge[2] if len(edge) > 2 else None}
        for edge in references
    ]
    return HeapGraph.from_tables(HEAP_OBJECTS.from_rows(rows), HEAP_REFERENCES.from_rows(edges))


def module(name: str, kind: str = "module") -> Row:
    return {"type": "builtins.module", "root": kind, "name": name}


DICT: Row = {"type": "builtins.dict", "items": 0}
SESSION: Row = {"type": "app.Session", "size_bytes": 100}


def sessions(count: int, *, static: int = 0) -> HeapGraph:
    """Return module app > SESSIONS > that many sessions; beside it STATIC with other ones."""
    things: list[Row] = [module("app"), DICT, {**DICT, "items": count}, {**DICT, "items": static}]
    edges: list[tuple[int, int] | tuple[int, int, str]] = [(0, 1, "<dict>"), (1, 2, ".SESSIONS"), (1, 3, ".STATIC")]
    for number in range(static + count):
        things.append(SESSION)
        edges.append((3 if number < static else 2, len(things) - 1))
    return heap(things, edges)


def pool(connections: int, sockets_elsewhere: int = 0) -> HeapGraph:
    """Return module app > POOL > connections > sockets, beside a list with sockets of its own."""
    things: list[Row] = [module("app"), DICT, {"type": "builtins.list"}, {"type": "builtins.list"}]
    edges: list[tuple[int, int] | tuple[int, int, str]] = [(0, 1, "<dict>"), (1, 2, ".POOL"), (1, 3, ".OTHERS")]
    for _ in range(connections):
        things += [{"type": "app.Connection", "size_bytes": 500}, {"type": "socket.socket", "size_bytes": 90}]
        edges += [(2, len(things) - 2), (len(things) - 2, len(things) - 1, ".sock")]
    for _ in range(sockets_elsewhere):
        things.append({"type": "socket.socket", "size_bytes": 90})
        edges.append((3, len(things) - 1))
    return heap(things, edges)
