"""Finds what holds an object: a search from roots forwards, and the names of the steps from there to it."""

from __future__ import annotations

import time
from collections import deque
from itertools import chain

from perfkit.probe.census_parts.containers import items_of, referents_of
from perfkit.probe.census_parts.kinds import is_a
from perfkit.probe.census_parts.roots import find_roots, variables_of
from perfkit.probe.census_parts.slices import PAUSE_S, SLICE_NS
from perfkit.probe.names import MODULE, OWN, short_name, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_MAX_VISITED = 300_000
SEARCH_NS = 1_500_000_000
_ATOMS = frozenset(map(id, (str, bytes, int, float, bool, complex, type(None), range, type(...))))
_MEMBER = type(type(lambda: None).__dict__["__globals__"])


class Search:
    """A breadth-first search from modules, running frames and tasks to given objects."""

    def __init__(self, wanted: set[int], urgent: set[int], budget_ns: int = SEARCH_NS) -> None:
        self._budget_ns = budget_ns
        self._wanted = set(wanted)
        self._urgent = set(urgent)
        self._parents: dict[int, int] = {}
        self._roots: dict[int, tuple[str, Any]] = {}
        self._found: list[int] = []
        self._is_dead_end: dict[int, bool] = {}

    def run(self) -> Iterator[float]:
        """Search, a slice at a time, until the urgent ones are found or the time is up."""
        began_ns = time.thread_time_ns()
        groups = find_roots()
        for label, root in chain.from_iterable(groups):
            # All roots are known before the first is entered: paths begin at the nearest one.
            self._roots.setdefault(id(root), (label, root))
        for group in groups:
            level: list[Any] = []
            for _label, root in group:
                if id(root) not in self._parents:
                    self._parents[id(root)] = 0
                    level.append(root)
                    self._check(id(root))
            while level and self._urgent and len(self._parents) < _MAX_VISITED:
                following: list[Any] = []
                slice_ns = time.thread_time_ns()
                for count, holder in enumerate(level):
                    self._expand(holder, following)
                    if not count % 64 and time.thread_time_ns() - slice_ns > SLICE_NS:
                        yield PAUSE_S
                        slice_ns = time.thread_time_ns()
                        if slice_ns - began_ns > self._budget_ns or len(self._parents) >= _MAX_VISITED:
                            return
                level = following
            if not self._urgent:
                return

    def _expand(self, holder: Any, following: list[Any]) -> None:
        """Visit what one object refers to."""
        number = id(holder)
        parents, roots = self._parents, self._roots
        for each in referents_of(holder):
            if id(type(each)) in _ATOMS:
                continue
            child = id(each)
            if child in parents or child in roots:
                continue
            parents[child] = number
            if child in self._wanted:
                self._check(child)
            kind = type(each)
            dead_end = self._is_dead_end.get(id(kind))
            if dead_end is None:
                dead_end = issubclass(kind, MODULE) or type_name(kind).startswith(OWN)
                self._is_dead_end[id(kind)] = dead_end
            if not dead_end:
                following.append(each)

    def _check(self, number: int) -> None:
        """Note an object that was looked for."""
        if number in self._wanted:
            self._wanted.discard(number)
            self._urgent.discard(number)
            self._found.append(number)

    def paths(self) -> Iterator[tuple[int, list[tuple[str, Any]]]]:
        """Yield `(identity, [(label, object), ...])` of what was found and is still there."""
        for number in self._found:
            label, steps = self.way(number)
            if path := path_to(number, label, steps, list(self._roots.values())):
                yield number, path

    def way(self, number: int) -> tuple[str, list[int]]:
        """Return the label of the root from which an object was found, and the identities from there to it."""
        steps = [number]
        while parent := self._parents.get(steps[-1]):
            steps.append(parent)
        label, _root = self._roots.get(steps.pop(), ("", None))
        return label, steps[::-1]

    def forget(self) -> None:
        """Let go of everything."""
        self._parents.clear()
        self._roots.clear()


def path_to(number: int, label: str, steps: list[int], roots: list[tuple[str, Any]]) -> list[tuple[str, Any]] | None:
    """Return `[(label, object), ...]` from a root of that label to an object, if that is still the way to it."""
    for root in roots:
        # Frames and tasks may be called the same.
        if root[0] != label:
            continue
        path = [root]
        for each in steps:
            holder = path[-1][1]
            held = _held(holder, each)
            if held is None:
                break
            path.append((_label(holder, held, path), held))
        else:
            if id(path[-1][1]) == number:
                return [step for step in path if step[0]]
    return None


def _held(holder: Any, number: int) -> Any:
    """Return the object of that identity that another refers to; None if it does no more."""
    referents = referents_of(holder)
    # In 3.11 and 3.12 an instance has a dictionary of its own from when it is first asked for it, as `_label` does.
    attributes = [each for each in referents if type(each) is dict and type(holder) is not dict]
    found = (each for each in (*referents, *(value for one in attributes for _name, value in items_of(one))))
    return next((each for each in found if id(each) == number), None)


def _label(holder: Any, held: Any, path: list[tuple[str, Any]]) -> str:
    """Return what a step of a path is called; nothing for steps that say nothing."""
    kind = type(holder)
    if is_a(holder, dict):
        key = next((key for key, value in items_of(holder) if value is held), None)
        is_namespace = len(path) == 1 or not path[-1][0]
        if is_namespace and type(key) is str:
            return key if len(path) == 1 else f".{key}"
        # Keys of data may be secrets; names of settings are not.
        if type(key) is str and key.isidentifier() and len(key) < 40 and dict.__len__(holder) <= 16:
            return f"[{key!r}]"
        return "dict value" if key is not None else "dict key"
    name = short_name(kind)
    if name == "cell":
        return _closure_variable(holder, path)
    if short_name(type(held)) in ("cell", "frame"):
        return ""
    if is_a(holder, (list, tuple, set, frozenset, deque)):
        return f"{name} item"
    if name == "function":
        if held is holder.__closure__ or held is holder.__dict__:
            return ""
        return "defaults"
    if name == "_lru_cache_wrapper":
        return "cache"
    if name in ("method", "builtin_function_or_method"):
        return "__self__"
    if name in ("coroutine", "generator", "async_generator", "frame"):
        return _local_variable(holder, held)
    if is_a(holder, type):
        return "" if type(held) is dict else f"<{type_name(type(held))}>"
    # An instance: its dictionary is a step of its own up to 3.10, and none at all later.
    try:
        attributes = object.__getattribute__(holder, "__dict__")
    except (AttributeError, TypeError):
        attributes = {}
    if attributes is held:
        return ""
    key = next((key for key, value in items_of(attributes) if value is held), None)
    if key is None:
        key = _slot(holder, held)
    return f".{key}" if key else f"<{type_name(type(held))}>"


def _closure_variable(cell: Any, path: list[tuple[str, Any]]) -> str:
    """Return the name of the variable in a cell, which the function knows that a path came from."""
    cells, function = (path[-2][1], path[-3][1]) if len(path) > 2 else ((), None)
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    if type(cells) is not tuple or len(cells) != len(names):
        return "closure"
    return next((str(name) for name, each in zip(names, cells, strict=True) if each is cell), "closure")


def _local_variable(holder: Any, held: Any) -> str:
    """Return the name of the local variable of a suspended function that holds an object."""
    frame = next(
        (getattr(holder, name) for name in ("cr_frame", "gi_frame", "ag_frame") if hasattr(holder, name)), holder
    )
    if frame is None:
        return "local"
    return next((name for name, value in variables_of(frame).items() if value is held), "local")


def _slot(holder: Any, held: Any) -> str | None:
    """Return the slot of an instance that holds an object."""
    for base in type.__dict__["__mro__"].__get__(type(holder)):
        for name, descriptor in items_of(type.__dict__["__dict__"].__get__(base)):
            if type(descriptor) is _MEMBER:
                try:
                    if descriptor.__get__(holder) is held:
                        return str(name)
                except AttributeError:
                    continue
    return None
