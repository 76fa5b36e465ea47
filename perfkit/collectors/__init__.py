"""Collectors, one per file: each records one kind of data about a running process.

`record` touches the process and nothing else; `decode` touches files and nothing else, so
tests of `decode` need no process, only a raw file. A module here defines `COLLECTOR`; adding
a file is all it takes.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from perfkit.attach.permission import preflight
from perfkit.attach.streams import streaming
from perfkit.attach.target import Target
from perfkit.clock import Clock
from perfkit.plugins import discover
from perfkit.symbols import Symbols

if TYPE_CHECKING:
    import pyarrow as pa

    from perfkit.attach.budget import Budget
    from perfkit.attach.session import Session


@dataclass(frozen=True)
class Recording:
    """What a collector is given to record one process.

    `raw` is the collector's own folder for this process. `session` yields the probe inside
    the target; the first collector that calls it injects, the others share it. `say` shows
    one line to the user. `duration_s` is the planned length, None: until the user stops it.
    `budget` is what recording may cost the target, None: as much as it takes.
    """

    target: Target
    raw: Path
    clock: Clock
    session: Callable[[], "Session"]
    say: Callable[[str], None]
    duration_s: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    budget: "Budget | None" = None


@dataclass(frozen=True)
class Raw:
    """What `decode` is given: the folder of one collector and process, and the shared clock and symbols."""

    folder: Path
    pid: int
    clock: Clock
    symbols: Symbols
    until_ns: int
    """When the recording ended, as recording time."""


@runtime_checkable
class Collector(Protocol):
    """Records one kind of data.

    `name` equals the module's. `group` is the word for `--collect` (cpu, heap, objects, gc,
    pools, sockets, process). `writes` names the tables it fills beside recording_quality.
    `options` are its settings with their defaults. One with a true `on_request` (absent in most)
    runs only when `--collect` names it: it costs much, or few need it. One with a true `encloses`
    (absent in most) begins before all others and ends after them.
    """

    name: str
    group: str
    writes: tuple[str, ...]
    options: Mapping[str, Any]

    def problem(self, target: Target) -> Exception | None:
        """Return why this collector cannot work on the target, or None; touches nothing."""
        ...

    def record(self, recording: Recording) -> AbstractContextManager[None]:
        """Record while the context is open; its exit never raises because the target is gone.

        Everything written is usable without a clean exit: in windows, flushed as they end.
        """
        ...

    def decode(self, raw: Raw) -> dict[str, "pa.Table"]:
        """Return the tables, among them one row of recording_quality; what is broken is left out and said there."""
        ...


class FromProbe:
    """What collectors have in common that run one recorder of the probe, with their options as its settings."""

    probe: ClassVar[str]
    """Module of `perfkit.probe`."""
    options: Mapping[str, Any]

    def problem(self, target: Target) -> Exception | None:
        """Return why the target cannot be entered, or None; touches nothing in it."""
        return preflight(target)

    @contextmanager
    def record(self, recording: Recording) -> Iterator[None]:
        """Record while the context is open, or until the target is gone."""
        options = {**self.options, **recording.options}
        with streaming(recording.session(), self.probe, recording.raw, **options):
            yield


@contextmanager
def watching(watch: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Run `watch(*arguments, stop)` in a thread of its own while the context is open; it ends when `stop` is set."""
    stop = threading.Event()
    thread = threading.Thread(target=watch, args=(*arguments, stop), name=f"perfkit {watch.__name__}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@cache
def collectors() -> dict[str, Collector]:
    """Return every collector by name."""
    import perfkit.collectors as package

    return discover(package, "COLLECTOR", Collector)  # type: ignore[type-abstract]
