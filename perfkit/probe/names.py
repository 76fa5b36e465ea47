"""What types, modules and the probe's own things are called in a target, read without running the target's code."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

OWN = "perfkit probe"
"""What the names of our modules begin with in a target."""
OWN_MODULES = (OWN, "perfkit.probe")
"""The same of frames: a target may have imported the probe itself, and the rest runs in a function of that module."""
OWN_FILE = "<perfkit probe>"
"""The file that our code is from, there."""
MODULE = type(sys)
namespace_of: Callable[[Any], Any] = MODULE.__dict__["__dict__"].__get__  # type: ignore[index]
"""Returns the namespace of a module, whatever its class overrides."""


def type_name(kind: type) -> str:
    """Return module.qualname of a type, whatever its metaclass overrides."""
    try:
        module = type.__dict__["__module__"].__get__(kind)
        return f"{module}.{type.__dict__['__qualname__'].__get__(kind)}"
    except AttributeError:
        return short_name(kind)


def short_name(kind: type) -> str:
    """Return the name of a type, whatever its metaclass overrides."""
    return str(type.__dict__["__name__"].__get__(kind))


def is_ours(namespace: dict[str, Any]) -> bool:
    """Whether a module's namespace is one of the probe's."""
    name = namespace.get("__name__")
    return type(name) is str and name.startswith(OWN)
