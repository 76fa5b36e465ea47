"""The only place where frames, stacks and threads get their numbers and their hashes."""

import re
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa

from perfkit import tables

_LIBRARY = re.compile(r"^.*/(?:site|dist)-packages/")
_STDLIB = re.compile(r"^.*/lib(?:64)?/python(?:\d(?:\.\d+)?t?)/")
_FROZEN = re.compile(r"^<frozen (.*)>$")


def clean_path(file: str) -> tuple[str, str]:
    """Return `(path, kind)` of a source file, without the parts that differ between hosts.

    The prefix up to site-packages or the standard library is cut off and the current
    user's home is dropped, so that hashes agree across hosts and a shared report does not
    tell where things are installed. `kind` is python, library, stdlib or interpreter.

    >>> clean_path("/srv/venv/lib/python3.11/site-packages/flask/app.py")
    ('flask/app.py', 'library')
    >>> clean_path("/usr/lib/python3.11/asyncio/events.py")
    ('asyncio/events.py', 'stdlib')
    """
    if match := _LIBRARY.match(file):
        return file[match.end() :], "library"
    if match := _STDLIB.match(file):
        return file[match.end() :], "stdlib"
    if match := _FROZEN.match(file):
        return match[1], "stdlib"
    if file.startswith("<"):
        return file, "interpreter"
    home = str(Path.home())
    return (file[len(home) + 1 :] if file.startswith(home + "/") else file), "python"


def module_of(path: str, kind: str) -> str | None:
    """Return the dotted module of a cleaned path, or None where it cannot be told.

    >>> module_of("flask/app.py", "library")
    'flask.app'
    """
    if not path.endswith(".py"):
        return None
    parts = path[:-3].strip("/").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts if kind in ("library", "stdlib") else parts[-2:]) or None


def content_hash(*parts: object) -> int:
    """Return a signed 64-bit hash of `parts` that is equal on every host and in every version."""
    text = "\0".join("" if part is None else str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big", signed=True)


class Symbols:
    """Numbers frames, stacks and threads in the order they are first seen.

    Decoders share one instance, so that a CPU sample and an allocation made at the same
    place have the same frame.
    """

    def __init__(self) -> None:
        self._frames: dict[tuple[str, str | None, int | None, str], int] = {}
        self._raw_frames: dict[tuple[str, str | None, int | None], int] = {}
        self._stacks: dict[tuple[int, ...], int] = {}
        self._threads: dict[tuple[int, object], int] = {}
        self._thread_rows: list[dict[str, object]] = []

    def frame(self, function: str, file: str | None, line: int | None, kind: str | None = None) -> int:
        """Return the number of a frame; `kind` overrides what the file's path says."""
        raw = (function, file, line)
        if kind is None and (known := self._raw_frames.get(raw)) is not None:
            return known
        path, found = (None, "synthetic") if file is None else clean_path(file)
        number = self._frames.setdefault((function, path, line or None, kind or found), len(self._frames))
        if kind is None:
            self._raw_frames[raw] = number
        return number

    def stack(self, frame_ids: Sequence[int]) -> int:
        """Return the number of the stack with these frames, from root to leaf; at least one."""
        if not frame_ids:
            raise ValueError("a stack has at least one frame")
        return self._stacks.setdefault(tuple(frame_ids), len(self._stacks))

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
                "module": module_of(file, kind) if file else None,
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
