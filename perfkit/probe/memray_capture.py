"""Switches memray's tracker on and off, in a target that need not have memray installed.

The capture ends by itself when it reaches its time or size, even if nobody is left to ask.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
import threading
import time
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_CHECK_EVERY_S = 0.25


class Recorder:
    """One capture of memray, into a file."""

    def __init__(self, probe: Any) -> None:
        self._probe = probe
        self._tracker: Any = None
        self._ended: dict[str, Any] = {}
        self._file = ""

    def start(
        self,
        file: str,
        memray_folder: str,
        trace_python_allocators: bool = True,
        interval_ms: int = 50,
        max_seconds: float = 120.0,
        max_bytes: int = 512 << 20,
    ) -> dict[str, Any]:
        """Start the capture; return both clocks at its start and how long starting took."""
        if getattr(sys.modules.get("tracemalloc"), "is_tracing", lambda: False)():
            raise RuntimeError("the target uses tracemalloc, and two tracers of allocations get into each other's way")
        hook = threading._profile_hook
        if hook is not None and "memray" not in str(getattr(hook, "__module__", "")):
            raise RuntimeError("another profiler is active in the target (threading.setprofile)")
        memray = _import_memray(memray_folder)
        memray.set_log_level(40)  # its warnings would go to the target's standard error
        tracker = memray.Tracker(
            # Compressing at the end would hold up the target; buffered writes would be lost if it is killed.
            destination=memray.FileDestination(file, overwrite=True, compress_on_exit=False),
            native_traces=False,
            follow_fork=False,
            trace_python_allocators=trace_python_allocators,
            memory_interval_ms=interval_ms,
        )
        began_ns = time.monotonic_ns()
        clocks = {"monotonic_ns": began_ns, "unix_ns": time.time_ns(), "process_ns": time.process_time_ns()}
        tracker.__enter__()
        held_ns = time.monotonic_ns() - began_ns
        self._tracker, self._file = tracker, file
        atexit.register(self._finish, "the target ended")
        self._probe.spawn(self._watch(max_seconds, max_bytes))
        return {**clocks, "start_took_ns": held_ns, "memray": memray.__version__}

    def _watch(self, max_seconds: float, max_bytes: int) -> Iterator[float]:
        """End the capture when it is long or large enough."""
        until = time.monotonic() + max_seconds
        while self._tracker is not None:
            if time.monotonic() >= until:
                self._finish("its time was up")
            elif os.stat(self._file).st_size >= max_bytes:  # noqa: PTH116
                self._finish("its file was full")
            else:
                yield max(0.0, min(_CHECK_EVERY_S, until - time.monotonic()))
        self._probe.emit(self._ended)

    def _finish(self, why: str) -> None:
        """Stop the tracker, once."""
        tracker, self._tracker = self._tracker, None
        if tracker is None:
            return
        began_ns, process_ns = time.monotonic_ns(), time.process_time_ns()
        tracker.__exit__(None, None, None)
        now_ns = time.monotonic_ns()
        took_ns = now_ns - began_ns
        self._ended = {"ended": why, "monotonic_ns": now_ns, "stop_took_ns": took_ns, "process_ns": process_ns}

    def stop(self) -> dict[str, Any]:
        """Stop the capture and forget memray; return when and why it ended."""
        self._finish("asked to")
        atexit.unregister(self._finish)
        # The shared library stays mapped: no process can get rid of one that has hooked it.
        for name in [name for name in sys.modules if name == "memray" or name.startswith("memray.")]:
            if name not in _found_there:
                del sys.modules[name]
        return self._ended


_found_there: set[str] = set()
"""Modules of memray that the target had imported itself."""


def _import_memray(folder: str) -> Any:
    """Return the module, from a folder that is on the import path for just as long."""
    _found_there.update(name for name in sys.modules if name == "memray" or name.startswith("memray."))
    if "memray" in sys.modules:
        return sys.modules["memray"]
    stand_ins = _stand_ins()
    sys.modules.update(stand_ins)
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("memray")
    finally:
        sys.path.remove(folder)
        sys.path_importer_cache.pop(folder, None)
        for name in stand_ins:
            if not name.startswith("memray."):
                sys.modules.pop(name, None)


def _stand_ins() -> dict[str, ModuleType]:
    """Return modules that memray imports for its reports, which are not made here.

    rich is a package the target may not have, and has no use for if it has not imported it.
    `module_tools` looks for the places that packages are installed in, which takes the target
    longer than all the rest.
    """
    reporters, tools = ModuleType("memray.reporters"), ModuleType("memray.reporters.module_tools")
    tools.get_python_path_info = lambda: {"stdlib": None, "site_packages": (), "sys_path": ()}  # type: ignore[attr-defined]
    found = {"memray.reporters": reporters, "memray.reporters.module_tools": tools}
    if "rich" not in sys.modules:
        rich, progress = ModuleType("rich"), ModuleType("rich.progress")
        rich.print = print  # type: ignore[attr-defined]
        rich.progress = progress  # type: ignore[attr-defined]
        progress.Progress = progress.SpinnerColumn = object  # type: ignore[attr-defined]
        found |= {"rich": rich, "rich.progress": progress}
    return found
