"""One walk over all objects of the process: what `object_graph` writes down."""

from __future__ import annotations

import gc
import json
import sys
import time
from _thread import get_ident
from array import array
from collections import defaultdict
from io import StringIO
from itertools import repeat
from operator import add, sub

from perfkit.probe.graph_parts.blocks import Blocks, Strings
from perfkit.probe.graph_parts.kinds import Kind, characters
from perfkit.probe.graph_parts.referents import FRAME, FUNCTION, SUSPENDED, Referents
from perfkit.probe.names import MODULE, OWN_MODULES, namespace_of, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from perfkit.probe.graph_parts.frames import Doubt

_BATCH = 4096
_SMALL_BATCH = 256
"""In slices: fewer lists at a time than make the collector run."""
_SLICE_NS = 5_000_000
_LARGE_ITEMS = 4096
_IMMORTAL = 1 << 29

_ATOMS = frozenset(
    (str, bytes, int, float, bool, complex, type(None), bytearray, range, type(...), type(NotImplemented))
)


def walk_heap(
    write: Callable[[Any], None],
    max_objects: int,
    *,
    in_copy: bool,
    threads: dict[int, Any] | None = None,
    doubt: Doubt | None = None,
) -> Iterator[None]:
    """Walk over all objects, yielding where others may have their turn.

    Args:
        write: gets the file, piece by piece.
        max_objects: a process with more is left alone.
        in_copy: whether this process is a copy: then nobody else has to have a turn.
        threads: the frame that each thread was at, None: the one it is at.
        doubt: what `frames.doubt` said about frame objects.

    Raises:
        OverflowError: there are more objects than allowed.
    """
    objects = gc.get_objects()
    if len(objects) > max_objects:
        raise OverflowError(f"{len(objects)} objects are more than the limit of {max_objects}")
    walk = Walk(write, in_copy=in_copy, threads=threads, doubt=doubt)
    if not in_copy:
        yield
    groups: dict[type, list[Any]] = defaultdict(list)
    each: Any = None
    while objects:
        part = objects[-2 * _BATCH :]
        del objects[-2 * _BATCH :]
        for each in part:
            groups[type(each)].append(each)
        each = None
        part.clear()
        yield from walk.rest()
    del objects
    order = sorted(groups.items(), key=lambda pair: _turn(pair[0]))
    walk.blocks.roots(_modules())
    yield from walk.rest()
    walk.blocks.roots(_tasks())
    walk.static_types()
    yield from walk.rest()
    for kind, attribute in SUSPENDED.items():
        walk.referents.frames.look_at_running(groups[kind], attribute)
    walk.frames()  # without a rest in between: others would run by then
    groups.clear()
    walk.count(frozenset(kind for kind, _objects in order))
    for kind, group in order:
        yield from walk.group(kind, group)
        walk.names()
    walk.finish()


class Walk:
    """What is known while the walk goes on; see `walk_heap`."""

    def __init__(
        self,
        write: Callable[[Any], None],
        *,
        in_copy: bool,
        threads: dict[int, Any] | None,
        doubt: Doubt | None,
    ) -> None:
        self._in_copy, self._threads = in_copy, threads
        self._began_ns = time.thread_time_ns()
        self._strings = Strings()
        self.blocks = Blocks(write, self._strings)
        self.referents = Referents(self._strings, in_copy=in_copy, doubt=doubt)
        self._kinds: dict[type, Kind] = {}
        self._seen: set[int] = set()
        """Untracked objects that refer to others: they are entered once."""
        self._counted: frozenset[type] = frozenset()
        """Types that a list of ours refers to once."""
        self.objects = self.references = 0

    def kind(self, kind: type) -> Kind:
        """Return what is known of a type."""
        known = self._kinds.get(kind)
        if known is None:
            name = type_name(kind)
            known = self._kinds[kind] = Kind(kind, self._strings[name], name)
        return known

    def rest(self) -> Iterator[None]:
        """Let others work if it was our turn for long enough; never in the copy, where there is nobody else."""
        if not self._in_copy and time.thread_time_ns() - self._began_ns > _SLICE_NS:
            yield
            self._began_ns = time.thread_time_ns()

    def group(self, kind: type, objects: list[Any]) -> Iterator[None]:
        """Write all objects of one type, those that are tracked; empties the list."""
        known = self.kind(kind)
        size = _BATCH if self._in_copy else _SMALL_BATCH
        while objects:
            part = objects[-size:]
            del objects[-size:]
            if kind is FRAME:
                part = list(filter(self.referents.frames.is_readable, part))
            large = []
            if known.length is not None:
                large = [each for each in part if known.length(each) > _LARGE_ITEMS]
            if large:
                part = [each for each in part if known.length(each) <= _LARGE_ITEMS]  # type: ignore[misc]
            if part:
                self._objects(known, kind, part, self._reference_counts(kind, part))
            del part
            yield from self._enter_found()
            while large:
                each = large.pop()
                yield from self._large(known, each, sys.getrefcount(each) - _BASE_ALONE)
            each = None
            yield from self.rest()

    def _reference_counts(self, kind: type, part: list[Any]) -> array[int]:
        """Return the reference counts of a batch without our own references; -1 for immortal objects."""
        counts = array("q", map(sys.getrefcount, part))
        if issubclass(kind, type):
            ours = [(each in self._counted) + (each in self._kinds) for each in part]
            counts = array("q", map(sub, counts, ours))
        return array("i", [count - _BASE if count < _IMMORTAL else -1 for count in counts])

    def _objects(self, known: Kind, kind: type, part: list[Any], counts: array[int]) -> None:
        """Write a batch of objects of one type and what they refer to."""
        ids = array("q", map(id, part))
        targets, labels, degrees = self.referents.of(known, kind, part)
        if kind is StringIO:
            # What is in it is in no size: a byte for each character at least, four once it was read.
            self.referents.beside = array("q", map(characters, part))
        uniform, beside = known.constant_bytes, self.referents.beside
        sizes = array("q") if uniform is not None else array("q", map(sys.getsizeof, part, repeat(0)))
        if beside is not None:
            sizes = array("q", map(add, repeat(uniform) if uniform is not None else sizes, beside))
            uniform = self.referents.beside = None
        items = b"" if known.length is None else array("q", map(known.length, part))
        header = array(
            "q",
            (len(ids), known.number, -1 if uniform is None else uniform, known.length is not None,
             len(targets), labels is not None),
        )  # fmt: skip
        self.blocks.emit(
            "O", header, ids, counts, sizes, items, degrees, targets, labels if labels is not None else b""
        )
        self.objects += len(ids)
        self.references += len(targets)
        if known.is_own:
            self.referents.own += ids

    def _large(self, known: Kind, each: Any, count: int) -> Iterator[None]:
        """Write one container with very many items, in parts."""
        ids, nothing = array("q", (id(each),)), array("I", (0,))
        size = sys.getsizeof(each, 0) if known.constant_bytes is None else known.constant_bytes
        sizes, items = array("q", (size,)), array("q", (known.length(each),))  # type: ignore[misc]
        header = array("q", (1, known.number, -1, 1, 0, 0))
        counts = array("i", (count if count < _IMMORTAL else -1,))
        self.blocks.emit("O", header, ids, counts, sizes, items, nothing)
        self.objects += 1
        yield from self.rest()
        number = id(each)
        if issubclass(type(each), dict):
            is_namespace = number in self.referents.namespaces
            keys, values = list(dict.keys(each)), list(dict.values(each))
            yield from self.rest()
            while values:
                part, names = values[-_BATCH:], keys[-_BATCH:]
                del values[-_BATCH:], keys[-_BATCH:]
                if is_namespace:
                    self._more(number, part, array("I", map(self.referents.attributes.__getitem__, names)))
                else:
                    self._more(number, names, array("I", repeat(self.referents.is_key, len(names))))
                    self._more(number, part, None)
                del part, names
                yield from self._enter_found()
                yield from self.rest()
        else:
            referents = gc.get_referents(each)
            yield from self.rest()
            while referents:
                part = referents[-_BATCH:]
                del referents[-_BATCH:]
                self._more(number, part, None)
                del part
                yield from self._enter_found()
                yield from self.rest()

    def _more(self, number: int, referents: list[Any], labels: array[int] | None) -> None:
        """Write more references of one object."""
        targets = array("q", map(id, referents))
        header = array("q", (number, len(targets), labels is not None))
        self.blocks.emit("A", header, targets, labels if labels is not None else b"")
        self.references += len(targets)
        self.referents.note(dict(zip(targets, referents)))  # noqa: B905 - 3.10 has it, but it is slower

    def _enter_found(self) -> Iterator[None]:
        """Write the untracked objects found so far; those that refer to others are entered too."""
        while self.referents.found:
            waiting, self.referents.found = self.referents.found, []
            by_kind: dict[type, list[Any]] = defaultdict(list)
            for each in waiting:
                by_kind[type(each)].append(each)
            waiting.clear()
            for kind, objects in by_kind.items():
                known = self.kind(kind)
                if kind not in _ATOMS:
                    entered = []
                    for each in objects:
                        if id(each) not in self._seen:
                            self._seen.add(id(each))
                            entered.append(each)
                    if entered:
                        self._objects(known, kind, entered, array("i", repeat(-1, len(entered))))
                    continue
                ids = array("q", map(id, objects))
                sizes = array("q", map(sys.getsizeof, objects))
                self.blocks.emit("U", array("q", (len(ids), known.number)), ids, sizes)
            by_kind.clear()
            yield from self.rest()

    def count(self, kinds: frozenset[type]) -> None:
        """Note which types a list and this set refer to; their reference counts are read less these."""
        self._counted = kinds

    def static_types(self) -> None:
        """Write the types that are part of the interpreter or a library, which the collector does not list."""
        waiting: list[type] = [object]
        found: dict[int, Any] = {}
        while waiting:
            kind = waiting.pop()
            if id(kind) not in found:
                found[id(kind)] = kind
                waiting += type.__subclasses__(kind)
        static = {number: kind for number, kind in found.items() if not gc.is_tracked(kind)}
        self.blocks.roots([(number, "native", type_name(kind)) for number, kind in static.items()])
        self.referents.note(static)

    def frames(self) -> None:
        """Write the frames that are being executed, by any thread but ours."""
        part: list[Any] = []
        rows = []
        for thread, frame in list((self._threads or sys._current_frames()).items()):
            each: Any = frame
            while each is not None and self.referents.frames.admit(each):
                if not str(each.f_globals.get("__name__", "")).startswith(OWN_MODULES):
                    part.append(each)
                    code = each.f_code
                    name = getattr(code, "co_qualname", code.co_name)
                    rows.append((id(each), "frame", f"{each.f_globals.get('__name__', '?')}.{name}"))
                elif thread == get_ident() and each.f_globals is not globals():
                    rows += [(id(value), "perfkit", "") for value in self.referents.frames.values(each)]
                each = each.f_back
        del each, frame
        self.blocks.roots(rows)
        # What a running frame refers to it does not say itself from 3.11 on.
        ids, targets, labels, degrees = array("q", map(id, part)), array("q"), array("I"), array("I")
        noted: dict[int, Any] = {}
        for each in part:
            values = self.referents.frames.values(each)
            names = self.referents.frames.labels(each)
            keys = list(map(id, values))
            targets.extend(keys)
            labels.extend(map(names.get, keys, repeat(0)))
            degrees.append(len(keys))
            noted.update(zip(keys, values))  # noqa: B905
            del values
        known = self.kind(FRAME)
        sizes = array("q", map(sys.getsizeof, part))
        header = array("q", (len(ids), known.number, -1, 0, len(targets), 1))
        self.blocks.emit("O", header, ids, array("i", repeat(-1, len(ids))), sizes, degrees, targets, labels)
        self.referents.note(noted)

    def names(self) -> None:
        """Write the names of functions and classes."""
        if self.referents.named:
            self.blocks.roots(self.referents.named)
            self.referents.named.clear()

    def finish(self) -> None:
        """Write which objects are the probe's own, and the end."""
        self.blocks.roots((number, "perfkit", "") for number in self.referents.own)
        self.blocks.emit("E", json.dumps({"objects": self.objects, "references": self.references}).encode())
        self.blocks.flush()


def _turn(kind: type) -> int:
    """Return when a type's turn is: what names others comes first, dictionaries last."""
    if issubclass(kind, dict):
        return 3
    if kind is tuple:
        return 2
    return 0 if issubclass(kind, type) or issubclass(kind, MODULE) or kind is FUNCTION else 1


def _base() -> tuple[int, int]:
    """Return the reference counts that the walk reads of an object nobody else refers to: in a batch, and alone."""
    objects = [object()]
    part = objects[-1:]
    del objects[-1:]
    in_batch = array("q", map(sys.getrefcount, part))[0]
    each = part.pop()
    return in_batch, sys.getrefcount(each)


_BASE, _BASE_ALONE = _base()


def _modules() -> Iterator[tuple[int, str, str]]:
    """Yield identity, what it belongs to, and name of each module."""
    standard = sys.stdlib_module_names
    for name, module in list(sys.modules.items()):
        if not issubclass(type(module), MODULE):
            continue
        file = namespace_of(module).get("__file__")
        if name != "__main__" and name.partition(".")[0] in standard:
            why = "stdlib"
        elif type(file) is str and ("site-packages" in file or "dist-packages" in file):
            why = "library"
        else:
            why = "module"
        yield id(module), why, str(name)


def _tasks() -> Iterator[tuple[int, str, str]]:
    """Yield identity and name of asyncio's tasks that are not done; of their coroutines also why they are told."""
    tasks = sys.modules.get("asyncio.tasks")
    for known in ("_scheduled_tasks", "_all_tasks"):
        try:
            alive = list(getattr(tasks, known, ()))
        except RuntimeError:  # it changed while we looked
            continue
        for task in alive:
            coroutine = task.get_coro()
            name = str(getattr(coroutine, "__qualname__", "?"))
            yield id(task), "", name
            yield id(coroutine), "task", name
