"""The only place that reads the files of `perfkit.probe.object_graph`: blocks of numbers into tables."""

import json
import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from perfkit.tables import HEAP_OBJECTS, HEAP_REFERENCES

MAGIC = b"perfkit graph 1\n"


@dataclass(frozen=True, slots=True)
class GraphFile:
    """What a file holds: the tables of one snapshot; `why` says why it is not `complete`."""

    objects: pa.Table
    references: pa.Table
    complete: bool
    why: str = ""


def read_graph(file: Path, pid: int, rung: int) -> GraphFile:
    """Return the tables of a snapshot, sorted as they are stored.

    Args:
        file: what the probe wrote.
        pid: process it was taken of.
        rung: number of the snapshot.
    """
    blocks = _Blocks()
    with file.open("rb") as opened:
        if file.stat().st_size > len(MAGIC) and opened.read(len(MAGIC)) == MAGIC:
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
                blocks.read(content)
                return GraphFile(
                    _objects(blocks, pid, rung), _references(blocks, pid, rung), blocks.complete, blocks.why
                )
    return GraphFile(HEAP_OBJECTS.empty(), HEAP_REFERENCES.empty(), complete=False)


@dataclass
class _Blocks:
    """The numbers of a file, a list of arrays per column; index 0 of `texts` is none."""

    texts: list[str | None] = field(default_factory=lambda: [None])
    columns: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    complete: bool = False
    why: str = ""

    def add(self, name: str, values: NDArray[Any]) -> None:
        """Append to a column."""
        self.columns.setdefault(name, []).append(values)

    def column(self, name: str, dtype: type) -> NDArray[Any]:
        """Return a whole column and forget its parts."""
        parts = self.columns.pop(name, [])
        return np.concatenate(parts) if parts else np.zeros(0, dtype)

    def read(self, content: mmap.mmap) -> None:
        """Read block after block as far as they are whole."""
        at = len(MAGIC)
        while at + 9 <= len(content):
            kind, size = content[at : at + 1], int.from_bytes(content[at + 1 : at + 9], "little")
            at += 9
            if at + size > len(content):
                return
            data = _Cursor(content, at)
            at += size
            match kind:
                case b"S":
                    self.texts += json.loads(content[at - size : at])
                case b"O":
                    self._objects(data)
                case b"A":
                    self._more(data)
                case b"U":
                    self._untracked(data)
                case b"R":
                    self._roots(data)
                case b"X":
                    self.why = f" ({content[at - size : at].decode('utf-8', 'replace')})"
                case b"E":
                    self.complete = True

    def _objects(self, data: "_Cursor") -> None:
        """Take a batch of objects of one type and their references."""
        count, kind, size_bytes, has_items, references, has_labels = data.take(np.int64, 6).tolist()
        ids = data.take(np.int64, count)
        self.add("id", ids)
        self.add("refcount", data.take(np.int32, count))
        self.add("size", data.take(np.int64, count) if size_bytes < 0 else np.full(count, size_bytes, np.int64))
        self.add("items", data.take(np.int64, count) if has_items else np.full(count, -1, np.int64))
        self.add("type", np.full(count, kind, np.int32))
        degrees = data.take(np.uint32, count)
        self.add("from", np.repeat(ids, degrees))
        self.add("to", data.take(np.int64, references))
        self.add("label", data.take(np.int32, references) if has_labels else np.zeros(references, np.int32))

    def _more(self, data: "_Cursor") -> None:
        """Take more references of one object."""
        number, count, has_labels = data.take(np.int64, 3).tolist()
        self.add("from", np.full(count, number, np.int64))
        self.add("to", data.take(np.int64, count))
        self.add("label", data.take(np.int32, count) if has_labels else np.zeros(count, np.int32))

    def _untracked(self, data: "_Cursor") -> None:
        """Take objects that refer to nothing; the same one may come again."""
        count, kind = data.take(np.int64, 2).tolist()
        self.add("id", data.take(np.int64, count))
        self.add("refcount", np.full(count, -1, np.int32))
        self.add("size", data.take(np.int64, count))
        self.add("items", np.full(count, -1, np.int64))
        self.add("type", np.full(count, kind, np.int32))

    def _roots(self, data: "_Cursor") -> None:
        """Take roots and names."""
        count = int(data.take(np.int64, 1)[0])
        self.add("root_id", data.take(np.int64, count))
        self.add("root", data.take(np.int32, count))
        self.add("name", data.take(np.int32, count))


class _Cursor:
    """A place in a file that moves on as numbers are taken."""

    def __init__(self, content: mmap.mmap, at: int) -> None:
        self._content, self._at = content, at

    def take(self, dtype: type, count: int) -> NDArray[Any]:
        """Return the next numbers; valid while the file is open."""
        size = np.dtype(dtype).itemsize * count
        # Bytes rather than a view: a view that is left over would keep the file from being closed.
        values: NDArray[Any] = np.frombuffer(self._content[self._at : self._at + size], dtype)
        self._at += size
        return values


def _objects(blocks: _Blocks, pid: int, rung: int) -> pa.Table:
    """Return heap_objects: each object once, in order of its address."""
    ids, first = np.unique(blocks.column("id", np.int64), return_index=True)
    texts = pa.array(blocks.texts, pa.string())
    refcount, items = blocks.column("refcount", np.int32)[first], blocks.column("items", np.int64)[first]
    roots = blocks.column("root_id", np.int64)
    why, name = np.zeros(len(ids), np.int32), np.zeros(len(ids), np.int32)
    place = np.searchsorted(ids, roots)
    known = (place < len(ids)) & (ids[np.minimum(place, max(len(ids) - 1, 0))] == roots if len(ids) else False)
    root, named = blocks.column("root", np.int32), blocks.column("name", np.int32)
    for column, values in ((why, root), (name, named)):
        told = known & (values > 0)
        # The first to say it is right: a module under two names keeps the one it was imported by.
        column[place[told][::-1]] = values[told][::-1]
    return HEAP_OBJECTS.from_columns(
        {
            "pid": np.full(len(ids), pid, np.int32),
            "rung": np.full(len(ids), rung, np.int32),
            "object_id": ids,
            "type": texts.take(pa.array(blocks.column("type", np.int32)[first])),
            "size_bytes": blocks.column("size", np.int64)[first],
            "refcount": pa.array(refcount.astype(np.int64), mask=refcount < 0),
            "items": pa.array(items, mask=items < 0),
            "root": texts.take(pa.array(why)),
            "name": texts.take(pa.array(name)),
        }
    )


def _references(blocks: _Blocks, pid: int, rung: int) -> pa.Table:
    """Return heap_references in order of the object that refers."""
    source = blocks.column("from", np.int64)
    order = np.argsort(source, kind="stable")
    texts = pa.array(blocks.texts, pa.string())
    return HEAP_REFERENCES.from_columns(
        {
            "pid": np.full(len(source), pid, np.int32),
            "rung": np.full(len(source), rung, np.int32),
            "from_id": source[order],
            "to_id": blocks.column("to", np.int64)[order],
            "label": texts.take(pa.array(blocks.column("label", np.int32)[order])),
        }
    )
