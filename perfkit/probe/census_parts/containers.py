"""Reads the target's containers: some of their items, what these are, and how many there may be.

Each is read in one go, by methods of the built-in types: other threads of the target may change it at any time.
"""

from __future__ import annotations

import gc
from collections import Counter, OrderedDict, deque
from itertools import islice

from perfkit.probe.census_parts.kinds import is_a
from perfkit.probe.names import short_name, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

INNER = frozenset({dict, list, set, deque, OrderedDict})
_LARGE_ITEMS = 4096
_TRIES = 20
_NEWEST = 24
_WHAT = ("", "size", "len", "length", "entries", "items", "keys", "count", "elements", "objects", "cache_size")
_NAMES = frozenset({"limit", "capacity", "bound", "cache_size", "size_limit", "item_limit", "entry_limit"}).union(
    prefix + what for prefix in ("max", "max_", "maximum_") for what in _WHAT
)
"""How limits of a container are called. Not max_age, max_bytes, max_retries: those count something else."""


def unchanged(read: Callable[[], list[Any]]) -> list[Any]:
    """Return what is read of a container of the target in one go; nothing where it changes every time.

    A thread of the target may change it as soon as it gets the GIL, which also happens when making the list starts a
    collection that calls somebody back.
    """
    for _try in range(_TRIES):
        try:
            return read()
        except RuntimeError:
            continue
    return []


def items_of(of: Any) -> list[tuple[Any, Any]]:
    """Return the items of a dict, or of a class; of a large dict, the oldest and newest only."""
    if not is_a(of, dict):  # of a class: what its namespace looks like from outside
        return unchanged(lambda: list(of.items()))
    if dict.__len__(of) > _LARGE_ITEMS:
        return unchanged(lambda: [*islice(dict.items(of), 64), *islice(reversed(dict.items(of)), 64)])
    return unchanged(lambda: list(dict.items(of)))


def newest_items(container: Any) -> list[Any]:
    """Return some of the items that were put in last."""
    if is_a(container, dict):
        return unchanged(lambda: list(islice(reversed(dict.values(container)), _NEWEST)))
    if is_a(container, list):
        return list.__getitem__(container, slice(-_NEWEST, None))
    if is_a(container, deque):
        return unchanged(lambda: list(islice(deque.__reversed__(container), _NEWEST)))
    for kind in (set, frozenset):
        if is_a(container, kind):
            return unchanged(lambda: list(islice(kind.__iter__(container), _NEWEST)))  # noqa: B023
    if is_a(container, tuple):
        return list(tuple.__getitem__(container, slice(-_NEWEST, None)))
    return []


def all_items(container: Any) -> list[Any]:
    """Return the items of a container, of a dict the values; nothing of what is none."""
    if is_a(container, dict):
        return unchanged(lambda: list(dict.values(container)))
    for kind in (list, deque, set, frozenset, tuple):
        if is_a(container, kind):
            return unchanged(lambda: list(kind.__iter__(container)))  # noqa: B023
    return []


def referents_of(holder: Any) -> list[Any]:
    """Return what an object refers to; of a large container, its oldest and newest items only."""
    kind = type(holder)
    if kind is dict and len(holder) > _LARGE_ITEMS:
        return unchanged(lambda: [*islice(holder.values(), 64), *islice(reversed(holder.values()), 64)])
    if kind in (list, deque) and len(holder) > _LARGE_ITEMS:
        return unchanged(lambda: [*islice(holder, 64), *islice(reversed(holder), 64)])
    if kind is set and len(holder) > _LARGE_ITEMS:
        return unchanged(lambda: list(islice(holder, 64)))
    return gc.get_referents(holder)


def item_type(container: Any) -> str | None:
    """Return the most frequent type among the newest items; of items that are containers, what is in them."""
    newest = newest_items(container)
    if not newest:
        return None
    kind, _count = Counter(map(type, newest)).most_common(1)[0]
    if kind in (list, tuple, dict, set, deque):
        inner = [each for item in newest if type(item) is kind for each in newest_items(item)]
        below = Counter(type(each) for each in inner if type_name(type(each)).partition(".")[0] != "builtins")
        if below:
            return type_name(below.most_common(1)[0][0])
    return type_name(kind)


def declared_limit(container: Any) -> int | None:
    """Return how many items a container says that it will hold at most; 0: it says that it has no limit."""
    kind, most = type(container), None
    if is_a(container, deque):
        most = deque.maxlen.__get__(container)
    elif short_name(kind) == "_lru_cache_wrapper":
        most = container.cache_info().maxsize
    else:
        return _limit_of(container)
    # A subclass of deque may have one of its own.
    return 0 if most is None and (kind is deque or not is_a(container, deque)) else most


def limit_of_owner(path: list[tuple[str, Any]]) -> int | None:
    """Return the limit that the object which holds a container declares."""
    for _step, holder in path[-2:-4:-1]:
        if type(holder) is dict:
            continue
        if short_name(type(holder)) == "_lru_cache_wrapper":
            return declared_limit(holder) or None
        if limit := _limit_of(holder):
            return limit
    return None


def _limit_of(holder: Any) -> int | None:
    """Return the value of an attribute that is named like a limit."""
    try:
        attributes = object.__getattribute__(holder, "__dict__")
    except (AttributeError, TypeError):
        return None
    for name, value in items_of(attributes):
        if (
            type(name) is str
            and type(value) is int
            and value > 0
            and name.rpartition("__")[2].strip("_").lower() in _NAMES
        ):
            return value
    return None
