"""Functions of the target, and attributes as they are stored: what can be known without running any of its code.

Descriptors, `__getattr__`, metaclasses and `__class__` may all be the target's own, so nothing here
asks an object or a class for an attribute. Sent as source, in one piece with `container_code`.
"""

from __future__ import annotations

import opcode
import os
import sys
from types import ModuleType

from perfkit.probe.names import namespace_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FunctionType
    from typing import Any

CREATING = frozenset({"__new__", "__post_init__", "__setstate__", "__attrs_post_init__"})
MISSING = object()
_STEPS_BACK = 6
_JUMPS = frozenset(opcode.hasjrel)
_FIRST_INSTRUMENTED = 236
_NEVER_RUN = 1 << 4 | 1
_SPACE: Any = type.__dict__["__dict__"]


class Function:
    """A function, or code within one, with what its names stand for."""

    __slots__ = (
        "code",
        "comparisons",
        "function",
        "is_inner",
        "name",
        "namespace",
        "outer",
        "owner",
        "reader",
        "timely",
    )

    def __init__(self, code: CodeType, namespace: dict[str, Any], name: str, function: Any, outer: Any) -> None:
        self.code, self.namespace, self.name = code, namespace, name
        self.function: FunctionType | None = function
        self.outer: Function | None = outer
        self.reader: Any = None
        self.comparisons: list[tuple[Any, Any]] | None = None
        self.timely: list[tuple[Any, Any]] | None = None
        self.owner: Any = MISSING

    def class_(self) -> Any:
        """Return the class whose method this is, or is within; None if of none that can be found."""
        if self.owner is MISSING:
            self.owner = self.outer.class_() if self.outer is not None else _class_of(self.name, self.namespace)
        return self.owner

    @property
    def first(self) -> str | None:
        """Return what the method that this is, or is within, calls its object."""
        outermost = self
        while outermost.outer is not None:
            outermost = outermost.outer
        code = outermost.code
        return code.co_varnames[0] if code.co_argcount else None

    @property
    def is_creating(self) -> bool:
        """Whether it makes things that were not there before."""
        name = self.code.co_name
        return name in CREATING or name.lstrip("_").startswith(("init", "setup")) or not self.code.co_flags & 1


def has(class_: Any, owner: Any, is_exact: bool) -> bool:
    """Whether methods of a class are also those of an owner, or of one of its subclasses if it may be one."""
    return derives(owner, class_) or (not is_exact and derives(class_, owner))


def mro(kind: Any) -> tuple[Any, ...]:
    """Return a class and what it derives from; nothing for what is no class."""
    return type.__dict__["__mro__"].__get__(kind) if is_class(kind) else ()


def derives(kind: Any, other: Any) -> bool:
    """Whether a class derives from another, or is it."""
    return any(each is other for each in mro(kind))


def is_class(each: Any) -> bool:
    """Whether an object is a class, whatever it says itself."""
    return issubclass(type(each), type)


def is_module(each: Any) -> bool:
    """Whether an object is a module, whatever it says itself."""
    return issubclass(type(each), ModuleType)


def is_builtin(each: Any) -> bool:
    """Whether an object is of one of the interpreter's or standard library's container types itself."""
    return type_name_of(each).partition(".")[0] in ("builtins", "collections", "array", "_io", "weakref")


def is_of_library(each: Any) -> bool:
    """Whether an object is of a class of the standard library: a queue, a logger."""
    module = type_name_of(each).partition(".")[0]
    return module in sys.stdlib_module_names and module not in ("builtins", "types")


def is_library_file(file: str) -> bool:
    """Whether a file is one of the standard library."""
    folder = (getattr(os, "__file__", "") or "").rpartition("os.py")[0]
    return file.startswith("<frozen") or bool(folder and file.startswith(folder) and "-packages" not in file)


def type_name_of(each: Any) -> str:
    """Return module.qualname of an object's type, whatever its metaclass overrides."""
    kind = type(each)
    try:
        return f"{type.__dict__['__module__'].__get__(kind)}.{type.__dict__['__qualname__'].__get__(kind)}"
    except AttributeError:
        return ""


def getters(value: Any) -> list[Any]:
    """Return the functions behind a property."""
    if type(value) is property:
        return [value.fget, value.fset, value.fdel]
    if type_name_of(value) == "functools.cached_property":
        return [value.func]
    return []


def members(kind: Any, *, inherited: bool = True) -> list[Any]:
    """Return what a class and those it derives from define."""
    return [value for base in (mro(kind) if inherited else (kind,)) for value in list(_SPACE.__get__(base).values())]


def member(kind: Any, name: str) -> Any:
    """Return what a class defines or inherits under a name."""
    spaces = (_SPACE.__get__(base) for base in mro(kind))
    return next((space[name] for space in spaces if name in space), MISSING)


def static(of: Any, name: str) -> Any:
    """Return an attribute as it is stored; MISSING if it is not, or would have to be computed."""
    if is_module(of):
        return namespace_of(of).get(name, MISSING)
    if is_class(of):
        return plain(member(of, name))
    kind = type(of)
    # A module or class has its own way to its attributes; of others, the first `__dict__` that is a field.
    space: Any = next((each for base in mro(kind) if (each := _SPACE.__get__(base).get("__dict__")) is not None), None)
    if type(space).__name__ == "getset_descriptor":
        attributes = space.__get__(of)
        if type(attributes) is dict and name in attributes:
            return attributes[name]
    value = member(kind, name)
    if type(value).__name__ == "member_descriptor":
        try:
            return value.__get__(of)
        except AttributeError:
            return MISSING
    return plain(value)


def plain(value: Any) -> Any:
    """Return what is behind a static or class method."""
    return value.__func__ if type(value) in (staticmethod, classmethod) else value


def _class_of(qualname: str, namespace: dict[str, Any]) -> Any:
    """Return the class of a method from its qualified name."""
    parts = qualname.split(".")[:-1]
    if not parts or "<locals>" in parts:
        return None
    found = namespace.get(parts[0])
    for part in parts[1:]:
        found = _SPACE.__get__(found).get(part) if is_class(found) else None
    return found if is_class(found) else None


def cell(function: Any, name: str) -> Any:
    """Return what a variable of a closure holds."""
    try:
        return function.__closure__[function.__code__.co_freevars.index(name)].cell_contents
    except (ValueError, IndexError, TypeError):
        return MISSING


def default(function: Function, name: str) -> Any:
    """Return the default of a parameter."""
    code, made = function.code, function.function
    if made is None:
        return MISSING
    names = code.co_varnames[: code.co_argcount]
    defaults = made.__defaults__ or ()
    if name in names and (place := names.index(name) - (len(names) - len(defaults))) >= 0:
        return defaults[place]
    return (made.__kwdefaults__ or {}).get(name, MISSING)


def relative(expression: Any, function: Function) -> Any:
    """Return the module of a relative import."""
    package = function.namespace.get("__package__")
    if type(package) is not str:
        return MISSING
    parts = package.split(".")
    parts = parts[: len(parts) - expression[2] + 1]
    return sys.modules.get(".".join([*parts, expression[1]] if expression[1] else parts), MISSING)


def has_run(code: CodeType, offset: int) -> bool | None:
    """Return whether an instruction has been run since the program began; None where that cannot be seen.

    From 3.12 each instruction that can be specialised counts down from 1 (with a backoff of 1) to
    when it is, in the code that is being run: what still stands there was never run. Others are
    judged by one before them that nothing jumps away from.
    Source: CPython 3.12 and 3.13, Include/internal/pycore_code.h, adaptive_counter_warmup
    """
    is_specialising = getattr(sys, "_is_gil_enabled", lambda: True)()
    if sys.version_info[:2] not in ((3, 12), (3, 13)) or not is_specialising:
        return None
    plain, now = code.co_code, bytes(code._co_code_adaptive)  # type: ignore[attr-defined]
    for step in range(_STEPS_BACK):
        if offset < 0 or (step and plain[offset] in _JUMPS):
            return None
        if plain[offset] not in _JUMPS and plain[offset + 2 : offset + 3] == b"\0":
            if now[offset] >= _FIRST_INSTRUMENTED:
                return None
            return now[offset] != plain[offset] or now[offset + 2] | now[offset + 3] << 8 != _NEVER_RUN
        offset -= 2
        while offset > 0 and not plain[offset]:
            offset -= 2
    return None


def names_in(code: CodeType) -> tuple[str, ...]:
    """Return every name in some code."""
    return code.co_names + code.co_varnames + code.co_freevars + code.co_cellvars
