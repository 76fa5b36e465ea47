"""Tells what is the probe's own among the objects of a target, so that a census can leave it out.

By type, function and namespace, all of which bear the probe's name, and by what these hold; never
by what our steps have in hand, which may be all of the target.
"""

from __future__ import annotations

import gc
from collections import Counter, OrderedDict, defaultdict, deque

from perfkit.probe.names import OWN, is_ours, short_name, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FUNCTION = type(lambda: None)
_GENERATOR = type(_ for _ in ())
_PLAIN = frozenset(
    (dict, list, tuple, set, frozenset, deque, OrderedDict, defaultdict, Counter, _GENERATOR, type([].append))
)
"""Types without code of their own, which the probe's objects are made of as well as anybody's."""


def own_objects(recorder: Any, probe: Any, lengths: dict[int, list[int]], untracked: dict[int, Any]) -> list[Any]:
    """Return the probe's own objects: its instances and functions, and the plain containers that these hold.

    Not what suspended steps of other recorders have in hand, such as a walk over all objects:
    from there on everything is the target's.

    Args:
        recorder: that of the census.
        probe: what it emits by.
        lengths: a list of numbers per container, which are not looked at one by one.
        untracked: what the recorder holds of the target's.
    """
    # Frames are not tracked while they run; what ours hold between two rungs is in the recorder.
    found: dict[int, Any] = {}
    waiting: list[Any] = [recorder, probe, globals()]
    while waiting:
        each = waiting.pop()
        kind = type(each)
        if id(each) in found or each is __builtins__:
            continue
        if kind is dict and "__name__" in each and not is_ours(each):
            continue
        if kind is _FUNCTION:
            if not is_ours(each.__globals__):
                continue
        elif issubclass(kind, type):
            if not type_name(each).startswith(OWN):
                continue
        elif kind not in _PLAIN and short_name(kind) != "cell" and not type_name(kind).startswith(OWN):
            continue
        found[id(each)] = each
        if each is lengths:
            found.update((id(numbers), numbers) for numbers in lengths.values())
        elif each is not untracked and kind is not _GENERATOR:
            waiting += gc.get_referents(each)
    return list(found.values())
