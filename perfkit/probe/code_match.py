"""Which expressions of a function mean a given container, and what others stand for.

Sent as source, in one piece with `container_code`.
"""

from __future__ import annotations

import builtins
import sys
from types import FunctionType

from perfkit.probe.bytecode import Effect, Reader, name_of, nodes, read
from perfkit.probe.code_objects import (
    MISSING,
    Function,
    cell,
    default,
    derives,
    has,
    is_builtin,
    is_class,
    is_module,
    member,
    members,
    plain,
    relative,
    static,
    type_name_of,
)
from perfkit.probe.names import namespace_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType
    from typing import Any

LESS, MORE = frozenset({"<", "<="}), frozenset({">", ">=", "=="})

_RUNNING = {"builtins.coroutine": "cr_code", "builtins.generator": "gi_code", "builtins.async_generator": "ag_code"}
TIME_WORDS = ("expir", "ttl", "deadline", "timestamp", "stale", "last_seen", "last_used", "last_access", "created_at",
               "updated_at", "timeout", "max_age", "maxage", "valid_until", "too_old")  # fmt: skip
_TIME_EXACT = frozenset({"now", "age", "cutoff", "at", "when", "until", "ts", "time", "monotonic", "perf_counter",
                         "utcnow", "time_ns", "monotonic_ns"})  # fmt: skip


class Wanted:
    """A container and the names that lead to it.

    `depth` says how many steps lie between what has a name and the container: 1 for a list that
    is a value of a global dictionary.
    """

    def __init__(self, identity: str, path: list[tuple[str, Any]]) -> None:
        path = _by_parameters(path)
        self.identity, self.path = identity, path
        self.container = path[-1][1]
        self.depth = 0
        last = len(path) - 1
        while last > 0 and not _is_name(path[last][0]):
            last -= 1
            self.depth += 1
        self.is_named = last > 0
        label, self.named = path[last]
        self.owner = path[last - 1][1] if last else None
        self.attributes: dict[str, Any] = {}
        self.globals: set[str] = set()
        self.locals: set[tuple[int, str]] = set()
        self.free: set[str] = set()
        self.accessors: set[str] = set()
        self.measures: set[str] = set()
        self.predicates: dict[str, tuple[bool, float | None]] = {}
        owners = (type_name_of(each).split(".")[0] for each in (self.owner, self.container))
        self.is_queue = not {"queue", "_queue", "asyncio", "multiprocessing"}.isdisjoint(owners)
        self.is_default = member(type(self.container), "__missing__") is not MISSING
        if label.startswith(".") and self.is_named:
            of_class = is_class(self.owner)
            self.attributes[label[1:]] = (self.owner if of_class else type(self.owner), not of_class)
        elif self.is_named and last == 1 and path[0][0].startswith("module "):
            self.globals.add(label)
        elif self.is_named:
            self.free.add(label)
            running = _RUNNING.get(type_name_of(self.owner))
            if running is not None:
                self.locals.add((id(getattr(self.owner, running)), label))
            elif type(self.owner) is FunctionType:
                self.locals.add((id(self.owner.__code__), label))
        # A class of the program's own that is a container: its methods call it self.
        methods = any(type(each) is FunctionType for each in members(type(self.container)))
        self.subclass = type(self.container) if methods and not is_builtin(self.container) else None

    @property
    def names(self) -> set[str]:
        """Return the names by which code may mention it."""
        return {*self.attributes, *self.globals, *self.free, *self.accessors}

    @property
    def codes(self) -> set[int]:
        """Return which code deals with it without such a name: where it is a parameter, or self."""
        found = {number for number, _name in self.locals}
        if self.subclass is not None:
            methods = map(plain, members(self.subclass))
            found.update(id(each.__code__) for each in methods if type(each) is FunctionType)
        if "__len__" in self.measures:
            # len(self)
            methods = map(plain, members(type(self.owner)))
            found.update(
                id(each.__code__) for each in methods if type(each) is FunctionType and "len" in each.__code__.co_names
            )
        return found


class Match:
    """Whether expressions of one function mean the container."""

    def __init__(self, wanted: Wanted, function: Function) -> None:
        self._wanted, self._function = wanted, function
        self.is_sure = False
        self.is_other = False

    def level(self, expression: Any) -> int | None:
        """Return how many steps an expression is below what has a name: 0 for itself; None for something else.

        `is_sure` then says whether it is known to be, rather than called the same.
        """
        steps = 0
        while type(expression) is tuple and expression:
            if self._is_named(expression):
                return steps
            if steps >= 3:
                return None
            if expression[0] == "item" or (expression[0] == "each" and self._wanted.depth):
                expression = expression[1]
                steps += 1
            elif expression[0] == "call" and expression[1] and expression[1][0] == "attr":
                if expression[1][2] in ("get", "setdefault", "pop"):
                    steps += 1
                elif expression[1][2] not in ("values", "items", "__enter__"):
                    return None
                expression = expression[1][1]
            elif expression[0] == "call" and name_of(expression[1]) == "cast" and len(expression[2]) == 2:
                expression = expression[2][1]
            else:
                return None
        return None

    def _is_named(self, expression: tuple[Any, ...]) -> bool:
        """Whether an expression is a name of the container's outermost part."""
        wanted, function = self._wanted, self._function
        kind = expression[0]
        if kind == "global":
            return self._sure(function.namespace.get(expression[1], MISSING) is wanted.named)
        if kind == "local":
            name = expression[1]
            is_self = wanted.subclass is not None and wanted.depth == 0 and name == function.first
            if is_self and derives(wanted.subclass, function.class_()):
                return self._sure(True)
            if (id(function.code), name) in wanted.locals:
                return self._sure(True)
            if name not in wanted.free:
                return False
            outer = function
            while outer is not None:
                if name in outer.code.co_freevars and outer.function is not None:
                    return self._sure(cell(outer.function, name) is wanted.named)
                if (id(outer.code), name) in wanted.locals:
                    return self._sure(True)
                if outer.outer is None:
                    break
                outer = outer.outer
            # The function that made it, and others within: they share the name by being within it.
            if self._encloses(outer.code, name) or self._runs(outer):
                return self._sure(True)
            return False
        if kind in ("new", "call") and any(self._is_named(("local", name)) for name in expression[-1]):
            return True
        if kind == "call":
            name = name_of(expression[1])
            return name in wanted.accessors and name not in ("get", "pop") and self._loosely()
        if kind != "attr":
            return False
        of, name = expression[1], expression[2]
        if name not in wanted.attributes and name not in wanted.accessors and name not in wanted.globals:
            resolved = self.resolve(expression)
            return resolved is wanted.named and self._sure(True)
        resolved = self.resolve(of)
        if resolved is not MISSING:
            value = static(resolved, name)
            if value is wanted.named:
                return self._sure(True)
            if value is not MISSING and not type_name_of(value).endswith("property"):
                self.is_other = self.is_other or type(value) is type(wanted.named)
                return False
            if is_module(resolved):
                return False
        owner = wanted.attributes.get(name)
        if of == ("local", function.first) and function.class_() is not None:
            owners = [owner] if owner is not None else list(wanted.attributes.values())
            if any(has(function.class_(), *each) for each in owners):
                return self._sure(True)
            self.is_other = self.is_other or name in wanted.attributes
            return False
        if name in wanted.globals and owner is None and name not in wanted.accessors:
            return False
        return (owner is not None or name in wanted.accessors) and self._loosely()

    def _encloses(self, code: CodeType, name: str) -> bool:
        """Whether the container is a variable of that name in a closure made by this code."""
        holder = self._wanted.owner
        within = holder.__code__ if type(holder) is FunctionType else None
        return name in code.co_cellvars and within is not None and within in code.co_consts

    def _runs(self, function: Function) -> bool:
        """Whether the container is a local variable of a frame that runs this function."""
        return type(self._wanted.owner) is dict and function.function is None and not self._wanted.locals

    def _sure(self, value: bool) -> bool:
        self.is_sure = value or self.is_sure
        return value

    def _loosely(self) -> bool:
        self.is_sure = False
        return True

    def resolve(self, expression: Any) -> Any:
        """Return the object that an expression stands for, if it can be known without running anything."""
        if not expression:
            return MISSING
        kind, function = expression[0], self._function
        if kind == "const":
            return expression[1]
        if kind == "global":
            value = function.namespace.get(expression[1], MISSING)
            return builtins.__dict__.get(expression[1], MISSING) if value is MISSING else value
        if kind == "module":
            return sys.modules.get(expression[1], MISSING) if not expression[2] else relative(expression, function)
        if kind == "attr":
            of = self.resolve(expression[1])
            return MISSING if of is MISSING else static(of, expression[2])
        if kind == "local":
            name = expression[1]
            owner = self._wanted.owner
            if name == function.first and function.class_() is not None:
                if name == "cls":
                    return function.class_()
                for each in (self._wanted.container if self._wanted.subclass is not None else None, owner):
                    if each is not None and derives(type(each), function.class_()):
                        return each
            if function.function is not None and name in function.code.co_freevars:
                return cell(function.function, name)
        return MISSING

    def number(self, expression: Any, depth: int = 0) -> float | None:
        """Return the number that an expression stands for, if it can be known."""
        if not expression or depth > 4:
            return None
        if expression[0] == "op" and expression[1] in ("+", "-", "*", "//", "/"):
            left, right = (self.number(each, depth + 1) for each in expression[2:4])
            if left is None or right is None or (expression[1] in ("/", "//") and not right):
                return None
            return {"+": left + right, "-": left - right, "*": left * right}.get(
                expression[1], left / right if right else None
            )
        if expression[0] == "call" and name_of(expression[1]) == "timedelta":
            named = {name: self.number(value, depth + 1) for name, value in expression[3]}
            units = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1, "milliseconds": 1e-3, "weeks": 604800}
            values = [units[name] * value for name, value in named.items() if name in units and value is not None]
            return sum(values) if values else None
        if expression[0] == "call" and name_of(expression[1]) in ("total_seconds", "int", "float"):
            inner = expression[1][1] if name_of(expression[1]) == "total_seconds" else (expression[2] or (None,))[0]
            return self.number(inner, depth + 1)
        value = self.resolve(expression)
        if value is MISSING and expression[0] == "local":
            value = default(self._function, expression[1])
        if type(value) in (int, float):
            return float(value)
        if type_name_of(value) == "datetime.timedelta":
            return float(value.days * 86400 + value.seconds + value.microseconds / 1e6)
        return None

    def is_length(self, expression: Any) -> bool:
        """Whether an expression is the length of the container."""
        wanted = self._wanted
        if not expression or expression[0] not in ("call", "attr"):
            return False
        if expression[0] == "attr":
            return expression[2] in wanted.measures and self._is_owner(expression[1])
        what = expression[1]
        if not what:
            return False
        if what == ("global", "len") and expression[2]:
            if self.level(expression[2][0]) == wanted.depth:
                return True
            return "__len__" in wanted.measures and self._is_owner(expression[2][0])
        if what[0] == "attr" and what[2] in ("qsize", "__len__") and self.level(what[1]) == wanted.depth:
            return True
        if what[0] == "attr":
            return what[2] in wanted.measures and self._is_owner(what[1])
        return what[0] == "global" and what[1] in wanted.measures and what[1] != "__len__"

    def _is_owner(self, expression: Any) -> bool:
        """Whether an expression means the object that holds the container, or may."""
        function, wanted = self._function, self._wanted
        of = self.resolve(expression)
        if of is not MISSING:
            return self._sure(of is wanted.owner)
        if expression == ("local", function.first) and function.class_() is not None:
            return self._sure(any(has(function.class_(), *each) for each in wanted.attributes.values()))
        return False

    def is_within(self, expression: Any) -> bool:
        """Whether the container is mentioned in an expression."""
        return any(self.level(each) is not None for each in nodes(expression))


def effects_of(function: Function) -> Reader:
    """Return what a function does; each is read once."""
    if function.reader is None:
        known = effects_of(function.outer).known if function.outer is not None else {}
        function.reader = read(function.code, known)
    return function.reader  # type: ignore[no-any-return]


def comparisons(function: Function) -> list[tuple[Effect, Any]]:
    """Return `(effect, comparison)` of what a function compares as to which is more."""
    if function.comparisons is None:
        function.comparisons = [
            (effect, each)
            for effect in effects_of(function).effects
            if effect.kind in ("test", "return", "store")
            for each in nodes(effect.args if effect.kind == "store" else effect.what)
            if each[0] == "op" and (each[1] in LESS or each[1] in MORE)
        ]
    return function.comparisons


def timely(function: Function) -> list[tuple[Effect, Any]]:
    """Return `(effect, expression)` of what a function asks about time."""
    if function.timely is None:
        function.timely = [
            (effect, each) for effect, each in comparisons(function) if is_timely(each) and not _is_of_lengths(each)
        ]
        function.timely += [
            (effect, effect.what)
            for effect in effects_of(function).effects
            if effect.kind == "test"
            and effect.what
            and effect.what[0] in ("call", "attr")
            and is_like(effect.what, TIME_WORDS)
        ]
    return function.timely


def _is_of_lengths(comparison: Any) -> bool:
    """Whether a comparison is one of lengths, whatever the containers are called."""
    return any(side and side[0] == "call" and name_of(side[1]) == "len" for side in comparison[2:4])


def is_timely(expression: Any) -> bool:
    """Whether an expression speaks of time."""
    for each in nodes(expression):
        name = name_of(each)
        if each[0] == "item" and each[2] and each[2][0] == "const":
            name = each[2][1]
        if type(name) is str:
            lower = name.lower().strip("_")
            if lower in _TIME_EXACT or any(part in lower for part in TIME_WORDS) or lower.endswith("_at"):
                return True
    return False


def is_like(expression: Any, parts: tuple[str, ...]) -> bool:
    """Whether the last name of an expression has one of these in it."""
    if expression and expression[0] == "call":
        expression = expression[1]
    if expression and expression[0] == "op":
        return is_like(expression[2], parts) or is_like(expression[3], parts)
    name = name_of(expression)
    return type(name) is str and any(part in name.lower() for part in parts)


def note_aliases(wanted: list[Wanted]) -> Iterator[None]:
    """Note under which names modules know the containers."""
    named = {id(each.named): each for each in wanted if each.is_named}
    for module in list(sys.modules.values()):
        yield
        if is_module(module):
            # In one go, and names only: a thread of the target may change it as soon as it gets the GIL.
            namespace = dict(namespace_of(module))
            for name in list(namespace):
                value = namespace.get(name, MISSING)
                if id(value) in named and type(name) is str:
                    named[id(value)].globals.add(name)


def _by_parameters(path: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return a path in which the default of a parameter is called by its name, rather than by a place in a tuple."""
    for at in range(1, len(path) - 1):
        function, (label, held), value = path[at - 1][1], path[at], path[at + 1][1]
        if label == "defaults" and type(function) is FunctionType and held is function.__defaults__:
            code, defaults = function.__code__, function.__defaults__ or ()
            names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
            name = next((name for name, each in zip(names, defaults) if each is value), None)  # noqa: B905
            return path if name is None else [*path[:at], (name, value), *path[at + 2 :]]
    return path


def _is_name(label: str) -> bool:
    """Whether a step of a path is a name, rather than a place in a container."""
    return label.lstrip(".").isidentifier() and label not in ("cache", "closure", "local", "__self__", "defaults")
