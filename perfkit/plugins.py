"""The only place that turns a folder of one-thing modules into a registry."""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def discover(package: ModuleType, attribute: str, kind: type[T]) -> dict[str, T]:
    """Return `{module name: object}` for every module of `package`, sorted by name.

    Adding a file is all it takes to add an entry; nothing registers itself at
    import time, so the result depends on the folder alone.

    Args:
        package: the folder to look in.
        attribute: the module-level name that each of its modules defines.
        kind: a class or a runtime-checkable protocol the object must satisfy.

    Raises:
        TypeError: a module lacks `attribute`, or it is not a `kind`.
    """
    found: dict[str, T] = {}
    for info in sorted(iter_modules(package.__path__), key=lambda module: module.name):
        module = import_module(f"{package.__name__}.{info.name}")
        value = getattr(module, attribute, None)
        if not isinstance(value, kind):
            raise TypeError(f"{module.__name__} must define {attribute}: {kind.__name__}")
        found[info.name] = value
    return found
