"""What objects refer to, each reference with the name of its attribute, key or variable where it has one."""

from __future__ import annotations

import gc
import sys
from array import array
from itertools import accumulate, chain, filterfalse, repeat

from perfkit.probe.graph_parts.blocks import Labels, Strings
from perfkit.probe.graph_parts.frames import Frames, is_intact
from perfkit.probe.graph_parts.kinds import NAMED_ITEMS, Kind, bytes_of_values
from perfkit.probe.names import MODULE, OWN, OWN_FILE, namespace_of, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from perfkit.probe.graph_parts.frames import Doubt

    Found = tuple[array[int], array[int] | None, array[int]]
    """Identities of what a batch of objects refers to, number of each label or None, and how many each object has."""

FUNCTION = type(lambda: None)
FRAME = type(sys._getframe())


async def _coroutine() -> None: ...


async def _asynchronous() -> Any:
    yield


_coroutine_ = _coroutine()
SUSPENDED = {
    type(_ for _ in range(0)): "gi_frame",
    type(_coroutine_): "cr_frame",
    type(_asynchronous()): "ag_frame",
}
_coroutine_.close()
del _coroutine_


class Referents:
    """Follows the references of objects, a batch of one type at a time.

    `found` collects the objects that the collector does not list, `own` the identities of what is the probe's,
    `named` the names of functions and classes, `beside` what the attributes of the last batch take beside it.
    """

    def __init__(self, strings: Strings, *, in_copy: bool, doubt: Doubt | None) -> None:
        self._strings, self._in_copy = strings, in_copy
        self.attributes = Labels(strings, ".{}", identifiers_only=False)
        self._keys = Labels(strings, "[{!r}]", identifiers_only=True)
        self._variables = Labels(strings, "{}", identifiers_only=False)
        self.frames = Frames(self._variables, in_copy=in_copy, doubt=doubt)
        self.namespaces: set[int] = set()
        self._closures: dict[int, tuple[str, ...]] = {}
        self.found: list[Any] = []
        self.own: list[int] = []
        self.named: list[tuple[int, str, str]] = []
        self.beside: array[int] | None = None
        self._labelled_kinds: dict[type, Callable[[Any], dict[int, Any]]] = {
            FUNCTION: self._of_function,
            type(type_name.__code__): self._of_code,
            FRAME: self._of_frame,
            **{kind: self._of_suspended(frame) for kind, frame in SUSPENDED.items()},
        }
        if task := getattr(sys.modules.get("_asyncio"), "Task", None):
            self._labelled_kinds[task] = self._of_task
        self.is_key, self._is_dict, self._is_class = strings["<key>"], strings["<dict>"], strings["<class>"]

    def of(self, known: Kind, kind: type, part: list[Any]) -> Found:
        """Return what each object refers to: identities, labels or None, and how many each has."""
        if issubclass(kind, dict):
            return self._of_dicts(kind, part)
        labelled = self._labelled_kinds.get(kind)
        if labelled is not None:
            return self._labelled(part, labelled)
        if issubclass(kind, type):
            return self._labelled(part, self._of_type)
        if issubclass(kind, MODULE):
            return self._labelled(part, self._of_module)
        if known.get_dict is not None or known.slots:
            return self._of_instances(known, kind, part)
        lists = list(map(gc.get_referents, part))
        targets, _none, degrees = self._plain(lists)
        if kind is tuple and (labels := self._of_closures(part, targets, degrees)):
            return targets, labels, degrees
        return targets, None, degrees

    def note(self, referents: dict[int, Any]) -> None:
        """Keep those referents that the collector does not list."""
        self.found += filterfalse(gc.is_tracked, referents.values())

    def _plain(self, lists: list[list[Any]]) -> tuple[array[int], None, array[int]]:
        """Return references that have no labels."""
        flat = list(chain.from_iterable(lists))
        targets = array("q", map(id, flat))
        self.note(dict(zip(targets, flat)))  # noqa: B905
        return targets, None, array("I", map(len, lists))

    def _labelled(
        self, part: list[Any], names: Callable[[Any], dict[int, Any]]
    ) -> tuple[array[int], array[int], array[int]]:
        """Return references with labels that a function knows, by identity of what is referred to."""
        targets, labels, degrees = array("q"), array("I"), array("I")
        noted: dict[int, Any] = {}
        for each in part:
            referents = gc.get_referents(each)
            known = names(each)
            ids = list(map(id, referents))
            if extra := known.pop(-1, None):
                referents += extra
                ids += map(id, extra)
            targets.extend(ids)
            labels.extend(map(known.get, ids, repeat(0)))
            degrees.append(len(ids))
            noted.update(zip(ids, referents))  # noqa: B905
        self.note(noted)
        return targets, labels, degrees

    def _of_instances(self, known: Kind, kind: type, part: list[Any]) -> tuple[array[int], array[int], array[int]]:
        """Return the references of instances, with the names of their attributes.

        From 3.11 on an instance refers to its values directly until somebody asks for its
        `__dict__`; asking would cost the target memory, so only the copy does.
        """
        targets, labels, degrees = array("q"), array("I"), array("I")
        attributes, namespaces = self.attributes, self.namespaces
        is_dict, is_class = self._is_dict, self._is_class
        class_id = id(kind)
        noted: dict[int, Any] = {}
        get_dict, slots = known.get_dict, known.slots
        beside = self.beside = array("q") if known.has_values else None
        lists = list(map(gc.get_referents, part))
        for each, referents in zip(part, lists):  # noqa: B905
            ids = list(map(id, referents))
            names = {class_id: is_class}
            values_bytes = 0
            if get_dict is not None:
                space = None
                if self._in_copy or sys.version_info < (3, 11):
                    space = get_dict(each)
                else:
                    space = self._space_in_slices(known, each, referents, get_dict)
                if type(space) is dict:
                    if id(space) in ids:
                        names[id(space)] = is_dict
                        namespaces.add(id(space))
                    else:
                        names.update(zip(map(id, space.values()), map(attributes.__getitem__, space)))  # noqa: B905
                        values_bytes = bytes_of_values(len(space))
            if beside is not None:
                beside.append(values_bytes)
            for get, slot in slots:
                try:
                    names[id(get(each))] = attributes[slot]
                except AttributeError:
                    continue
            targets.extend(ids)
            labels.extend(map(names.get, ids, repeat(0)))
            degrees.append(len(ids))
            noted.update(zip(ids, referents))  # noqa: B905
        lists.clear()
        self.note(noted)
        return targets, labels, degrees

    def _space_in_slices(
        self, known: Kind, each: Any, referents: list[Any], get_dict: Callable[[Any], Any]
    ) -> dict[str, Any] | None:
        """Return names and values of an instance without making it a dictionary, but for a few examples."""
        if known.value_names is None:
            example: dict[str, Any] = get_dict(each)
            known.learn_names(type(each), example)
            return example
        for referent in referents:
            if type(referent) is dict and next(iter(referent), None) in known.value_names:
                # It looks like its `__dict__`: it has one already.
                found: dict[str, Any] = get_dict(each)
                return found
        found = {}
        for name in known.value_names:
            try:
                found[name] = object.__getattribute__(each, name)
            except AttributeError:
                continue
        return found

    def _of_dicts(self, kind: type, part: list[Any]) -> tuple[array[int], array[int], array[int]]:
        """Return keys and values: attributes of namespaces by name, keys of data only where they look like names."""
        targets, labels, degrees = array("q"), array("I"), array("I")
        namespaces, attributes, settings = self.namespaces, self.attributes, self._keys
        noted: dict[int, Any] = {}
        is_exact, key_label = kind is dict, self.is_key
        for each in part:
            values = list(dict.values(each))
            ids = list(map(id, values))
            count = len(ids)
            if is_exact and id(each) in namespaces:
                labels.extend(map(attributes.__getitem__, each))
            else:
                keys = list(dict.keys(each))
                if count <= NAMED_ITEMS and all(type(key) is str for key in keys):
                    labels.extend(map(settings.__getitem__, keys))
                else:
                    labels.extend(repeat(0, count))
                labels.extend(repeat(key_label, count))
                ids += map(id, keys)
                values += keys
                if not is_exact:
                    known = set(ids)
                    others = [one for one in gc.get_referents(each) if id(one) not in known]
                    labels.extend(repeat(0, len(others)))
                    ids += map(id, others)
                    values += others
            targets.extend(ids)
            degrees.append(len(ids))
            noted.update(zip(ids, values))  # noqa: B905
        self.note(noted)
        return targets, labels, degrees

    def _of_function(self, function: Any) -> dict[int, int]:
        """Return labels of what a function refers to."""
        module = str(function.__globals__.get("__name__", "?"))
        self.named.append((id(function), "", f"{module}.{function.__qualname__}"))
        if module.startswith(OWN):
            self.own.append(id(function))
        names = {id(function.__globals__): self._strings["<globals>"], id(function.__code__): self._strings["<code>"]}
        if (closure := function.__closure__) is not None:
            names[id(closure)] = self._strings["<closure>"]
            self._closures[id(closure)] = function.__code__.co_freevars
        if function.__defaults__ is not None:
            names[id(function.__defaults__)] = self._strings["<defaults>"]
        return names

    def _of_closures(self, part: list[tuple[Any, ...]], targets: array[int], degrees: array[int]) -> array[int] | None:
        """Return labels for the cells of closures among some tuples, the names of their variables; None: no closure."""
        closures = self._closures
        found = [place for place, number in enumerate(map(id, part)) if number in closures]
        if not found:
            return None
        starts = [0, *accumulate(degrees)]
        labels = array("I", bytes(4 * starts[-1]))
        for place in found:
            # By identity: the collector goes through a tuple from its end.
            names = dict(zip(map(id, part[place]), map(self._variables.__getitem__, closures[id(part[place])])))  # noqa: B905
            mine = slice(starts[place], starts[place + 1])
            labels[mine] = array("I", map(names.get, targets[mine], repeat(0)))
        return labels

    def _of_task(self, task: Any) -> dict[int, int]:
        """Return the label of a task's coroutine."""
        return {id(task.get_coro()): self._strings["<coroutine>"]}

    def _of_code(self, code: Any) -> dict[int, Any]:
        """Return what a code object refers to, which it does not say by itself."""
        return {-1: [code.co_consts, code.co_names], id(code.co_consts): self._strings["<constants>"]}

    def _of_module(self, module: Any) -> dict[int, int]:
        """Return the label of a module's namespace, and note that it is one."""
        space = namespace_of(module)
        if type(space) is dict:
            self.namespaces.add(id(space))
            return {id(space): self._is_dict}
        return {}

    def _of_type(self, kind: Any) -> dict[int, Any]:
        """Return labels of what a class refers to, and note its namespace."""
        space = type.__dict__["__dict__"].__get__(kind)
        inner = gc.get_referents(space)
        name = type_name(kind)
        self.named.append((id(kind), "", name))
        if name.startswith(OWN):
            self.own.append(id(kind))
        names: dict[int, Any] = {id(base): self._strings["<base>"] for base in type.__dict__["__bases__"].__get__(kind)}
        if inner and type(inner[0]) is dict:
            names[id(inner[0])] = self._is_dict
            self.namespaces.add(id(inner[0]))
            if not gc.is_tracked(kind):  # a static type refers to it too, but does not say so
                names[-1] = [inner[0]]
        names[id(type.__dict__["__mro__"].__get__(kind))] = self._strings["<mro>"]
        return names

    def _of_suspended(self, attribute: str) -> Callable[[Any], dict[int, int]]:
        """Return a function that labels the local variables of a generator or coroutine."""
        code = attribute.replace("_frame", "_code")

        def names(each: Any) -> dict[int, int]:
            if getattr(each, code).co_filename == OWN_FILE:
                self.own.append(id(each))
            frame = self.frames.of_suspended(each, attribute)
            if frame is None:
                return {}
            # Up to 3.10 the frame is an object between the generator and its variables.
            return {**self.frames.labels(frame), id(frame): self._strings["<frame>"]}

        return names

    def _of_frame(self, frame: Any) -> dict[int, int]:
        """Return labels of the local variables of a frame that something refers to, where they can be read."""
        return self.frames.labels(frame) if is_intact(frame) else {}
