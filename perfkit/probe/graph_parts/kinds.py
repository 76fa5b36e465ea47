"""What is known of a type before its objects are written: sizes, lengths, where its attributes are.

Types are asked without running what a metaclass or a class of the target overrides.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from io import StringIO

from perfkit.probe.names import OWN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

NAMED_ITEMS = 16
"""So many slots of a type, or keys of a dictionary, are told by name."""

_IS_COLLECTED, _HAS_MANAGED_DICT, _HAS_INLINE_VALUES = 1 << 14, 1 << 4, 1 << 2
_HAS_PREHEADER = _HAS_MANAGED_DICT | 1 << 3
"""Flags of types: Py_TPFLAGS_HAVE_GC, _MANAGED_DICT, _INLINE_VALUES, _PREHEADER. Source: CPython, Include/object.h"""

_GETSET = type(type(lambda: None).__dict__["__code__"])
_MEMBER = type(type(lambda: None).__dict__["__globals__"])
_LENGTHS: dict[type, Callable[[Any], int]] = {
    dict: dict.__len__, list: list.__len__, set: set.__len__, frozenset: frozenset.__len__, deque: deque.__len__,
    OrderedDict: OrderedDict.__len__, tuple: tuple.__len__, str: str.__len__, bytes: bytes.__len__,
    bytearray: bytearray.__len__,
}  # fmt: skip


class Kind:
    """What the walk needs to know of a type."""

    __slots__ = ("constant_bytes", "get_dict", "has_values", "is_own", "length", "number", "slots", "value_names")

    def __init__(self, kind: type, number: int, name: str) -> None:
        self.number = number
        self.is_own = name.startswith(OWN)
        mro = type.__dict__["__mro__"].__get__(kind)
        spaces = [type.__dict__["__dict__"].__get__(base) for base in mro]
        self.length = next((_LENGTHS[base] for base in mro if base in _LENGTHS), None)
        sizer = next(space["__sizeof__"] for space in spaces if "__sizeof__" in space)
        varies = type.__dict__["__itemsize__"].__get__(kind) or sizer is not object.__dict__["__sizeof__"]
        # Python code of the target is not run: then the basic size has to do.
        is_python = hasattr(sizer, "__code__") or hasattr(sizer, "__func__")
        flags = type.__dict__["__flags__"].__get__(kind)
        self.constant_bytes: int | None = None
        if is_python or not varies:
            # As sys.getsizeof does: what stands before the object for the collector, and for its `__dict__`.
            before = 16 * bool(flags & _IS_COLLECTED) + 16 * bool(flags & _HAS_PREHEADER)
            self.constant_bytes = type.__dict__["__basicsize__"].__get__(kind) + before
        self.has_values = bool(flags & _HAS_MANAGED_DICT) and (
            sys.version_info < (3, 13) or bool(flags & _HAS_INLINE_VALUES)
        )
        self.get_dict = None
        self.slots: list[tuple[Any, str]] = []
        for space in spaces:
            descriptor = space.get("__dict__")
            if self.get_dict is None and type(descriptor) is _GETSET and not issubclass(kind, type):
                self.get_dict = descriptor.__get__
            for slot, member in space.items():
                if type(member) is _MEMBER and len(self.slots) < NAMED_ITEMS:
                    self.slots.append((member.__get__, slot))
        # Names of attributes, from an example: only where they cannot be had from each object.
        self.value_names: tuple[str, ...] | None = None

    def learn_names(self, kind: type, example: dict[Any, Any]) -> None:
        """Note the names of attributes that can be read without running the target's code."""
        mro = type.__dict__["__mro__"].__get__(kind)
        spaces = [type.__dict__["__dict__"].__get__(base) for base in mro]
        self.value_names = tuple(
            key for key in example if type(key) is str and not any(key in space for space in spaces)
        )


def bytes_of_values(count: int) -> int:
    """Return what the attributes of an instance take beside it while nobody has asked for its `__dict__`.

    There is room for those that instances of its class have, and for one more.
    Source: CPython, new_values() in Objects/dictobject.c of 3.11 and 3.12, _PyInlineValuesSize() of 3.13
    """
    if sys.hexversion < 0x030D0000:
        return (count + 10) // 8 * 8 + 8 * (count + 1)
    return 8 + (9 * (count + 1) + 7) // 8 * 8


def characters(file: Any) -> int:
    """Return how much was written into a text file in memory; 0 when it is closed."""
    try:
        return StringIO.tell(file)
    except ValueError:
        return 0
