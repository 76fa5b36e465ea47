"""What the census knows of a type: its name, whether it is the probe's own, how long and how large its objects are.

The types are the target's, and whatever they override is its code: names, ancestors and fields are
read as `type` itself stores them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from io import BytesIO, StringIO

from perfkit.probe.names import MODULE, OWN, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MIN_ITEMS = 32
MIN_BYTES = 16_384
OF_BYTES = frozenset({"builtins.bytearray", "_io.BytesIO", "_io.StringIO"})
_LENGTHS: dict[type, Callable[[Any], int]] = {
    dict: dict.__len__, list: list.__len__, set: set.__len__, deque: deque.__len__, OrderedDict: OrderedDict.__len__,
    bytearray: bytearray.__len__,
}  # fmt: skip
_OTHER_LENGTHS = {"array.array": "__len__", "_queue.SimpleQueue": "qsize"}
"""Methods of types that need not be loaded."""


def is_a(thing: Any, kinds: type | tuple[type, ...]) -> bool:
    """Whether an object is of one of these types: `isinstance` would also ask its `__class__`, which may be code."""
    return issubclass(type(thing), kinds)


class Kind:
    """What the census needs to know of a type."""

    __slots__ = ("is_module", "is_sized", "least", "length", "name", "own", "size_bytes")

    def __init__(self, example: Any) -> None:
        kind = type(example)
        self.name = type_name(kind)
        self.own = self.name.startswith(OWN)
        self.is_module = issubclass(kind, MODULE)
        mro = type.__dict__["__mro__"].__get__(kind)
        self.length = next((_LENGTHS[base] for base in mro if base in _LENGTHS), None)
        if self.name == "functools._lru_cache_wrapper":
            self.length = lambda cached: cached.cache_info().currsize
        for base in mro if self.length is None else ():
            if base is BytesIO or base is StringIO:
                # Not the length of a view of its buffer: while there is one, nobody can write.
                self.length = _position
            elif method := _OTHER_LENGTHS.get(type_name(base)):
                self.length = base.__dict__[method]
        self.least = MIN_BYTES if self.name in OF_BYTES else MIN_ITEMS
        # Sizes differ within a type only where it says so itself; its own Python code is not run.
        spaces = [type.__dict__["__dict__"].__get__(base) for base in mro]
        sizer = next(space["__sizeof__"] for space in spaces if "__sizeof__" in space)
        self.is_sized = sizer is not object.__dict__["__sizeof__"] and type(sizer).__name__ == "method_descriptor"
        varies = self.is_sized or type.__dict__["__itemsize__"].__get__(kind)
        self.is_sized = self.is_sized or bool(varies and self.name.startswith("builtins."))
        try:
            self.size_bytes = 0 if self.is_sized else object.__sizeof__(example) + 16
        except Exception:  # noqa: BLE001 - a type may claim anything about itself
            self.size_bytes = 0


def _position(file: Any) -> int:
    """Return where a file in memory will be written next; 0 when it is closed."""
    try:
        return int((BytesIO if is_a(file, BytesIO) else StringIO).tell(file))
    except ValueError:
        return 0
