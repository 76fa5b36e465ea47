"""The only place where frames, stacks and threads get their numbers and their hashes."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import pyarrow as pa

from perfkit import tables
from perfkit.paths import clean_path, module_of


def content_hash(*parts: object) -> int:
    """Return a signed 64-bit hash of `parts` that is equal on every host and in every version."""
    text = "\0".join("" if part is None else str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big", signed=True)


_MAX_LINE = 1 << 31
"""What the column holds; the interpreter itself knows no longer files."""


class Symbols:
    """Numbers frames, stacks and threads in the order they are first seen.

    Decoders share one instance, so that a CPU sample and an allocation made at the same
    place have the same frame. `roots` are folders to cut off paths, see `clean_path`.
    """

    def __init__(self, roots: Sequence[str] = ()) -> None:
        self._roots = tuple(roots)
        self._frames: dict[tuple[str, str | None, int | None, str], int] = {}
        self._places: list[tuple[str, str | None, int | None, str]] = []
        self._raw_frames: dict[tuple[str, str | None, int | None], int] = {}
        self._stacks: dict[tuple[int, ...], int] = {}
        self._threads: dict[tuple[int, object], int] = {}
        self._thread_rows: list[dict[str, object]] = []

    def frame(self, function: str, file: str | None, line: int | None, kind: str | None = None) -> int:
        """Return the number of a frame; `kind` overrides what the file's path says."""
        raw = (function, file, line)
        if kind is None and (known := self._raw_frames.get(raw)) is not None:
            return known
        path, found = (None, "synthetic") if file is None else self.clean(file)
        # A sampler that does not stop the target may read a line number while it changes.
        line = line if line and 0 < line < _MAX_LINE else None
        place = (function, path, line, kind or found)
        number = self._frames.setdefault(place, len(self._frames))
        if number == len(self._places):
            self._places.append(place)
        if kind is None:
            self._raw_frames[raw] = number
        return number

    def clean(self, file: str) -> tuple[str, str]:
        """Return path and kind of a source file as frames have them."""
        return clean_path(file, self._roots)

    def place(self, frame_id: int) -> tuple[str, str | None, str]:
        """Return function, cleaned path and kind of a frame."""
        function, path, _line, kind = self._places[frame_id]
        return function, path, kind

    def stack(self, frame_ids: Sequence[int]) -> int:
        """Return the number of the stack with these frames, from root to leaf; at least one."""
        if not frame_ids:
            raise ValueError("a stack has at least one frame")
        return self._stacks.setdefault(tuple(frame_ids), len(self._stacks))

    def flat_stack(self, items: Sequence[Any]) -> int:
        """Return the number of a stack, root first, of which each frame is three items: function, file, line."""
        each = iter(items)
        return self.stack([self.frame(*frame) for frame in zip(each, each, each, strict=True)])

    def thread(self, pid: int, key: object, *, os_tid: int | None = None, name: str | None = None) -> int:
        """Return the number of a thread; `key` is any identity that is unique within the process."""
        number = self._threads.setdefault((pid, key), len(self._threads))
        if number == len(self._thread_rows):
            self._thread_rows.append({"thread_id": number, "pid": pid, "os_tid": os_tid, "name": name})
        else:
            row = self._thread_rows[number]
            row["os_tid"] = row["os_tid"] if os_tid is None else os_tid
            row["name"] = row["name"] if name is None else name
        return number

    def tables(self) -> dict[str, pa.Table]:
        """Return the dictionaries as tables: frames, stacks, stack_frames, threads."""
        frames = [
            {
                "frame_id": number,
                "frame_hash": content_hash(function, file, line),
                "function_hash": content_hash(function, file),
                "function": function,
                "module": module_of(file) if file else None,
                "file": file,
                "line": line,
                "kind": kind,
            }
            for (function, file, line, kind), number in self._frames.items()
        ]
        hashes = [row["frame_hash"] for row in frames]
        stacks, bridge = [], []
        for frame_ids, number in self._stacks.items():
            stacks.append(
                {
                    "stack_id": number,
                    "stack_hash": content_hash(*(hashes[frame] for frame in frame_ids)),
                    "depth": len(frame_ids),
                    "leaf_frame_id": frame_ids[-1],
                    "frame_ids": list(frame_ids),
                }
            )
            seen: set[int] = set()
            for position, frame in enumerate(frame_ids):
                bridge.append((number, position, frame, frame not in seen))
                seen.add(frame)
        bridge_columns = {
            column.name: [row[position] for row in bridge]
            for position, column in enumerate(tables.STACK_FRAMES.columns)
        }
        return {
            "frames": tables.FRAMES.from_rows(frames),
            "stacks": tables.STACKS.from_rows(stacks),
            "stack_frames": tables.STACK_FRAMES.from_columns(bridge_columns),
            "threads": tables.THREADS.from_rows(self._thread_rows),
        }
