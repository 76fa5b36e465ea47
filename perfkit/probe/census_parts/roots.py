"""Where paths to an object begin: modules, and the variables of functions that run or wait."""

from __future__ import annotations

import sys
from _thread import get_ident

from perfkit.probe.census_parts.containers import unchanged
from perfkit.probe.census_parts.kinds import is_a
from perfkit.probe.names import MODULE, namespace_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_AWAITS = 20
"""Coroutines that wait for each other and are looked at, from a task inwards."""


def find_roots() -> list[list[tuple[str, Any]]]:
    """Return where paths begin: the program's modules, frames and tasks, libraries, the standard library."""
    program: list[tuple[str, Any]] = []
    libraries: list[tuple[str, Any]] = []
    standard: list[tuple[str, Any]] = []
    names = sys.stdlib_module_names
    for name, module in unchanged(lambda: list(sys.modules.items())):
        if not is_a(module, MODULE):
            continue
        namespace = namespace_of(module)
        file = namespace.get("__file__")
        place = f"module {name}", namespace
        if name != "__main__" and name.partition(".")[0] in names:
            standard.append(place)
        elif type(file) is str and ("site-packages" in file or "dist-packages" in file):
            libraries.append(place)
        else:
            program.append(place)
    return [program, [*_frames(), *_tasks()], libraries, standard]


def _frames() -> Iterator[tuple[str, Any]]:
    """Yield the local variables of functions that are being run, by any thread but ours."""
    for thread, frame in list(sys._current_frames().items()):
        each: Any = frame if thread != get_ident() else None
        while each is not None:
            code = each.f_code
            # At module level the locals are the module's namespace, which is a root already.
            if code.co_flags & 1:
                yield f"frame {each.f_globals.get('__name__', '?')}.{code.co_name}", variables_of(each)
            each = each.f_back


def _tasks() -> Iterator[tuple[str, Any]]:
    """Yield asyncio's tasks that are not done."""
    tasks = sys.modules.get("asyncio.tasks")
    for name in ("_scheduled_tasks", "_all_tasks"):
        known = getattr(tasks, name, None)
        if known is None:
            continue
        try:
            alive = list(known)
        except RuntimeError:  # it changed while we looked
            continue
        for task in alive:
            coroutine = task.get_coro()
            yield f"task {getattr(coroutine, '__qualname__', '?')}", coroutine
        return


def variables_of(frame: Any) -> dict[str, Any]:
    """Return a copy of the local variables of a function that is being run, or suspended.

    Up to 3.12 the frame keeps the snapshot that it makes for whoever asks, and with it the values, until
    it returns; so that is emptied again, unless the target has it in its own hands, from `locals()`.
    """
    values = frame.f_locals
    copy = dict(values)
    # Held by the frame, by us, and by the call that counts.
    if type(values) is dict and frame.f_code.co_flags & 1 and sys.getrefcount(values) <= 3:
        values.clear()
    return copy


def places_of_variables() -> dict[int, list[tuple[int, str]]]:
    """Return `{id of an object: [(id of code, name), ...]}`: which running or suspended functions call it what."""
    found: dict[int, list[tuple[int, str]]] = {}
    frames: list[Any] = []
    threads = sys._current_frames()
    threads.pop(get_ident(), None)  # a frame that holds itself, as ours would, is left to the collector
    while threads:
        each: Any = threads.popitem()[1]
        while each is not None:
            frames.append(each)
            each = each.f_back
    for _label, task in _tasks():
        waiting = task
        for _step in range(_AWAITS):
            if (each := getattr(waiting, "cr_frame", None)) is not None:
                frames.append(each)
            waiting = getattr(waiting, "cr_await", None)
    for each in frames:
        if each.f_code.co_flags & 1:
            for name, value in variables_of(each).items():
                found.setdefault(id(value), []).append((id(each.f_code), name))
    return found
