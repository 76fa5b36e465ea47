"""The file of a snapshot: blocks of numbers, texts written once and numbered from then on.

The copy of a process writes it, too: nothing here lets go of the GIL by itself.
"""

from __future__ import annotations

import json
import sys
from array import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

MAGIC = b"perfkit graph 1\n"
"""A file is this, then blocks: one letter, eight bytes of length, content; numbers in the machine's order."""

_FLUSH_BYTES = 1 << 20
_MAX_NAMES = 200_000


def block(kind: str, *parts: Any) -> bytearray:
    """Return one block of the file."""
    data = bytearray(9)
    data[:1] = kind.encode()
    for part in parts:
        data += part  # b"".join() lets go of the GIL when it has more than 1 MiB to copy
    data[1:9] = (len(data) - 9).to_bytes(8, sys.byteorder)
    return data


class Strings(dict):  # type: ignore[type-arg]
    """Numbers for texts, 0 is none; `new` holds those that were not written yet."""

    def __init__(self) -> None:
        self.new: list[str] = []

    def __missing__(self, text: str) -> int:
        number = self[text] = len(self) + 1
        self.new.append(text)
        return number


class Labels(dict):  # type: ignore[type-arg]
    """Numbers of labels by key, made when first asked for."""

    def __init__(self, strings: Strings, form: str, identifiers_only: bool) -> None:
        self._strings, self._form, self._identifiers_only = strings, form, identifiers_only

    def __missing__(self, key: Any) -> int:
        if type(key) is not str or len(key) > 40 or (self._identifiers_only and not key.isidentifier()):
            return 0
        if len(self) >= _MAX_NAMES:
            return 0
        number: int = self._strings[self._form.format(key)]
        self[key] = number
        return number


class Blocks:
    """The file while it is written: `emit` adds a block, `write` gets about a MiB at a time."""

    def __init__(self, write: Callable[[Any], None], strings: Strings) -> None:
        self._put, self._strings = write, strings
        self._waiting = bytearray(MAGIC)

    def emit(self, kind: str, *parts: Any) -> None:
        """Add a block to what is waiting; new texts come before what uses them."""
        if self._strings.new:
            new, self._strings.new = self._strings.new, []
            self._waiting += block("S", json.dumps(new).encode())
        self._waiting += block(kind, *parts)
        if len(self._waiting) >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        self._put(self._waiting)
        self._waiting = bytearray()

    def roots(self, rows: Iterable[tuple[int, str, str]]) -> None:
        """Write which objects are roots, and what they are called: identity, why it is one, name."""
        strings = self._strings
        ids, why, names = array("q"), array("I"), array("I")
        for number, root, name in rows:
            ids.append(number)
            why.append(strings[root] if root else 0)
            names.append(strings[name])
        self.emit("R", len(ids).to_bytes(8, sys.byteorder), ids, why, names)
