"""The only place that turns heap_objects and heap_references into a graph with roots, paths and retained sizes.

A graph has n objects, numbered in order of their addresses, and one more node, number n, which
refers to every root. Weak references are not in it: nothing that a weak reference alone leads to
is held by it, and the interpreter does not list them as references.
"""

import re
import sys
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from perfkit.analysis.dominators import immediate_dominators, preorder, sums_over_subtrees
from perfkit.profile import Profile

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_matrix

Ints = NDArray[np.int64]
Codes = NDArray[np.int32]

ROOTS = ("module", "frame", "task", "library", "stdlib", "native", "garbage", "perfkit")
"""Why an object is a root, in the order in which paths prefer to begin at it.

The program's own modules come before what its threads and tasks do at the moment, libraries and
the standard library after that. A `task` is where paths to what only a coroutine holds begin;
it keeps nothing alive, the event loop does. `native` objects have more references than were seen, so C code
holds them; `garbage` has none from outside and waits for the collector; `perfkit` is our own, and what is
listed by chance (`_is_passing`): it is left out of all numbers.
"""
_DISTANCE = {"module": 1, "frame": 3, "library": 5, "task": 7, "stdlib": 7, "native": 9, "garbage": 9, "perfkit": 9}
"""How many steps farther from the start than the nearest root: what a path to a better root may be longer."""
_NEVER_ENTERED = ("module", "frame", "library", "stdlib")
"""Paths begin at these: `sys.modules` leads from each module to all others."""
_TASK = ROOTS.index("task")
MAX_STEPS = 50
"""Steps that are told of a path at its start and at its end."""
_DIGITS = re.compile(r"\d+")
_SKIPPED = frozenset(("<dict>", "<closure>", "<code>", "<frame>"))
_PLAIN = frozenset(f"builtins.{name}" for name in ("str", "bytes", "int", "float", "bool", "complex", "NoneType"))
_ITEMS = {
    "builtins.dict": "dict value", "collections.OrderedDict": "dict value", "collections.defaultdict": "dict value",
    "builtins.list": "list item", "builtins.tuple": "tuple item", "builtins.set": "set item",
    "builtins.frozenset": "set item", "collections.deque": "deque item", "functools._lru_cache_wrapper": "cache",
    "builtins.cell": "", "builtins.method": "method",
}  # fmt: skip


@dataclass(frozen=True)
class HeapGraph:
    """One snapshot of a heap.

    Arrays with one entry per object: `object_id` addresses, increasing; `type_of` number in
    `types`; `size_bytes`; `refcount`, -1 unknown; `items` length, -1 not a container; `root` number
    in `ROOTS`, -1 none; `name_of` number in `names`, -1 none. Object i refers to
    `targets[offsets[i]:offsets[i + 1]]` by `labels[label_of[...]]` (-1: no label).
    """

    object_id: Ints
    type_of: Codes
    types: tuple[str, ...]
    size_bytes: Ints
    refcount: Ints
    items: Ints
    root: Codes
    name_of: Codes
    names: tuple[str, ...]
    offsets: Ints
    targets: Codes
    label_of: Codes
    labels: tuple[str, ...]

    @classmethod
    def of(cls, profile: Profile, pid: int, rung: int) -> "HeapGraph | None":
        """Return a snapshot of a profile, or None when there is none; rung -1 is the last.

        The two latest are kept, so that whoever asks next has the dominators and paths at once.
        """
        taken = snapshots(profile, pid)
        number = taken[-1] if rung < 0 and taken else rung
        return _snapshot(*_recording(profile), pid, number) if number in taken else None

    @classmethod
    def from_tables(cls, objects: pa.Table, references: pa.Table) -> "HeapGraph":
        """Return the graph of one snapshot; references to objects that are not in it are dropped.

        Args:
            objects: heap_objects of one process and rung, in order of object_id.
            references: heap_references of the same, in order of from_id.
        """
        ids = objects["object_id"].to_numpy()
        source, target = _places(ids, references["from_id"]), _places(ids, references["to_id"])
        known = (source >= 0) & (target >= 0)
        label_of, labels = _codes(references["label"])
        if not known.all():
            source, target, label_of = source[known], target[known], label_of[known]
        type_of, types = _codes(objects["type"])
        name_of, names = _codes(objects["name"])
        why_of, why = _codes(objects["root"])
        numbers = np.array([ROOTS.index(word) if word in ROOTS else ROOTS.index("native") for word in why] + [-1])
        return cls(
            object_id=ids,
            type_of=type_of,
            types=types,
            size_bytes=objects["size_bytes"].to_numpy(),
            refcount=_filled(objects["refcount"]),
            items=_filled(objects["items"]),
            root=numbers[why_of].astype(np.int32),
            name_of=name_of,
            names=names,
            offsets=np.searchsorted(source, np.arange(len(ids) + 1)),
            targets=target,
            label_of=label_of,
            labels=labels,
        )

    def __len__(self) -> int:
        return len(self.object_id)

    def type(self, node: int) -> str:
        """Return module.qualname of the type of an object."""
        return self.types[int(self.type_of[node])]

    def of_type(self, name: str) -> Ints:
        """Return the objects of a type, increasing."""
        return np.flatnonzero(self.type_of == self.types.index(name)) if name in self.types else np.zeros(0, np.int64)

    @cached_property
    def incoming(self) -> Ints:
        """How many references to each object were seen."""
        return np.bincount(self.targets, minlength=len(self))

    @cached_property
    def root_of(self) -> Codes:
        """Number in `ROOTS` of every root, found ones included; -1 for others.

        What cannot be reached from known roots is held by C code if it has more references than
        were seen, and is garbage in cycles if it has not.
        """
        root = self.root.copy()
        root[root == _TASK] = -1
        lost = ~self._reached(root >= 0)
        left_out = lost & (self._is_passing | self._is_on_our_stack)
        root[left_out] = ROOTS.index("perfkit")
        lost &= ~left_out
        native = lost & (self.refcount > self.incoming)
        root[native] = ROOTS.index("native")
        lost &= ~self._reached(root >= 0)
        first = self._firsts(lost)
        # Immortal objects, whose reference count says nothing, are never garbage.
        root[first] = np.where(self.refcount[first] < 0, ROOTS.index("native"), ROOTS.index("garbage"))
        return root

    @cached_property
    def _is_on_our_stack(self) -> NDArray[np.bool_]:
        """Whether nothing refers to an object, and it to roots of ours only: an iterator that the probe is at."""
        ours = self.root == ROOTS.index("perfkit")
        to_ours = np.bincount(self._sources, weights=ours[self.targets], minlength=len(self))
        references = np.diff(self.offsets)
        found: NDArray[np.bool_] = (references > 0) & (to_ours == references) & (self.incoming == 0) & (self.root < 0)
        return found

    @property
    def _sources(self) -> Codes:
        """The object that each reference is from."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.offsets))

    @cached_property
    def _is_passing(self) -> NDArray[np.bool_]:
        """Whether an object is a tuple of plain values that no object refers to.

        The collector lists such tuples only until it meets them, so one snapshot has those that were made a moment
        ago, and another has none. Mostly they are the names in code that was compiled, two or three per function.
        """
        plain = np.isin(self.types, list(_PLAIN))
        leads_on = np.zeros(len(self), bool)
        leads_on[self._sources[~plain[self.type_of[self.targets]]]] = True
        tuples = np.zeros(len(self), bool)
        tuples[self.of_type("builtins.tuple")] = True
        passing: NDArray[np.bool_] = tuples & ~leads_on & (self.incoming == 0) & (self.root < 0)
        return passing

    @cached_property
    def parent(self) -> Codes:
        """The object before each on a shortest path from a root; n, the virtual root, before roots."""
        from scipy.sparse.csgraph import breadth_first_order

        _order, parent = breadth_first_order(self._rooted, len(self), return_predecessors=True)
        found = parent[: len(self)].astype(np.int32)
        return np.minimum(found, np.int32(len(self)))

    @cached_property
    def order(self) -> Ints:
        """All objects, the closest to a root first."""
        from scipy.sparse.csgraph import breadth_first_order

        order = breadth_first_order(self._rooted, len(self), return_predecessors=False)
        return order[order < len(self)].astype(np.int64)

    @cached_property
    def idom(self) -> Ints:
        """The immediate dominator of each object, n where only the virtual root is; n + 1 entries."""
        roots = np.flatnonzero(self.root_of >= 0)
        offsets = np.r_[self.offsets, self.offsets[-1] + len(roots)]
        return immediate_dominators(offsets, np.r_[self.targets, roots], len(self))

    @cached_property
    def retained_bytes(self) -> Ints:
        """What would be freed if an object went, in bytes; n + 1 entries, the last is the whole heap."""
        return sums_over_subtrees(self.idom, self._preorder, np.r_[self.size_bytes, 0])

    @cached_property
    def dominated_objects(self) -> Ints:
        """How many objects would be freed if an object went, itself included; n + 1 entries."""
        return sums_over_subtrees(self.idom, self._preorder, np.r_[np.ones(len(self), np.int64), 0])

    @cached_property
    def is_ours(self) -> NDArray[np.bool_]:
        """Whether an object is held by perfkit's own only: no other root leads to it."""
        return ~self._reached((self.root_of >= 0) & (self.root_of != ROOTS.index("perfkit")))

    @cached_property
    def edge_label(self) -> Codes:
        """Number of the label of the reference from each object's parent, -1: none; 0 and more: in `labels`."""
        found = np.full(len(self), -1, np.int32)
        sources = self._sources
        is_step = self.parent[self.targets] == sources
        labelled = is_step & (self.label_of >= 0)
        # Backwards, so that the first of several references between two objects is the one that is told.
        found[self.targets[labelled][::-1]] = self.label_of[labelled][::-1]
        return found

    @cached_property
    def _preorder(self) -> Ints:
        """The dominator tree, each object after its dominator."""
        return preorder(self.idom, len(self))[0]

    @cached_property
    def _rooted(self) -> "csr_matrix":
        """The references that paths go along, with a chain of virtual nodes at whose links the roots hang."""
        from scipy.sparse import csr_matrix

        n, depth = len(self), max(_DISTANCE.values())
        start = np.where(self.root == _TASK, np.where(self.root_of < 0, _TASK, self.root_of), self.root_of)
        is_closed = np.isin(start, [ROOTS.index(word) for word in _NEVER_ENTERED])
        kept = ~is_closed[self.targets]
        if "<dict>" in self.labels:
            # Functions lead to the globals of other modules: a module's namespace is reached through the module.
            is_namespace = self.label_of == self.labels.index("<dict>")
            sources = np.repeat(np.arange(n, dtype=np.int32), np.diff(self.offsets))
            of_module = np.zeros(n, bool)
            of_module[self.targets[is_namespace & is_closed[sources]]] = True
            kept &= ~of_module[self.targets] | (is_namespace & is_closed[sources])
        kept_before = np.r_[0, np.cumsum(kept)]
        roots = np.flatnonzero(start >= 0)
        distance = np.array([_DISTANCE[word] for word in ROOTS])[start[roots]]
        # By name: which of two functions at work a path begins at must not change from snapshot to snapshot.
        place = {name: number for number, name in enumerate(sorted(self.names))}
        rank = np.array([place[name] for name in self.names] + [-1])[self.name_of[roots]]
        by_name = np.lexsort((rank, start[roots]))
        roots, distance = roots[by_name], distance[by_name]
        hanging = [roots[distance == step] for step in range(1, depth + 1)]
        rows = [np.r_[n + step, each] if step < depth else each for step, each in enumerate(hanging, 1)]
        targets = np.concatenate([self.targets[kept], *rows]).astype(np.int32)
        offsets = kept_before[self.offsets]
        offsets = np.r_[offsets, offsets[-1] + np.cumsum([len(row) for row in rows])]
        return csr_matrix((np.ones(len(targets), np.int8), targets, offsets), shape=(n + depth, n + depth))

    def _reached(self, start: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return what can be reached from some objects."""
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import breadth_first_order

        n, roots = len(self), np.flatnonzero(start)
        targets = np.r_[self.targets, roots.astype(np.int32)]
        offsets = np.r_[self.offsets, self.offsets[-1] + len(roots)]
        matrix = csr_matrix((np.ones(len(targets), np.int8), targets, offsets), shape=(n + 1, n + 1))
        reached = np.zeros(n + 1, bool)
        reached[breadth_first_order(matrix, n, return_predecessors=False)] = True
        return reached[:n]

    def _firsts(self, among: NDArray[np.bool_]) -> Ints:
        """Return objects from which all of some can be reached: one of each cycle that nothing refers to."""
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import connected_components

        nodes = np.flatnonzero(among)
        if not len(nodes):
            return nodes
        number = np.full(len(self), -1, np.int64)
        number[nodes] = np.arange(len(nodes))
        sources = self._sources
        inside = among[sources] & among[self.targets]
        before, after = number[sources[inside]], number[self.targets[inside]]
        matrix = csr_matrix((np.ones(len(before), np.int8), (before, after)), shape=(len(nodes), len(nodes)))
        _count, component = connected_components(matrix, connection="strong")
        entered = np.zeros(len(nodes), bool)
        crossing = component[before] != component[after]
        entered[component[after[crossing]]] = True
        _components, first = np.unique(component, return_index=True)
        return nodes[first[~entered[component[first]]]]

    # --- paths ---

    def path(self, node: int) -> list[int]:
        """Return the objects of a shortest path from a root to an object, both included."""
        nodes = [node]
        while (parent := int(self.parent[nodes[-1]])) < len(self):
            nodes.append(parent)
        return nodes[::-1]

    def steps(self, node: int) -> list[str]:
        """Return a shortest path in words, from its root to the type of the object.

        Keys and digits are masked, so that paths to objects of one kind read the same; a step
        that is repeated is told once. For example `["module app", "SESSIONS", "dict value", "Session"]`.
        """
        nodes = self.path(node)
        words = [self.root_name(nodes[0])]
        if len(nodes) > 2 * MAX_STEPS:
            nodes = nodes[:MAX_STEPS] + nodes[-MAX_STEPS:]
        for before, after in pairwise(nodes):
            word = self.step(before, after)
            if word and not (len(words) > 1 and words[-1] == word):
                words.append(word)
        last = self.types[self.type_of[node]].rpartition(".")[2]
        return words if len(nodes) == 1 else [*words, last]

    def root_name(self, node: int) -> str:
        """Return what a root is called: its kind and name."""
        number = self.root_of[node] if self.root_of[node] >= 0 else self.root[node]
        kind = ROOTS[number]
        name = self.names[self.name_of[node]] if self.name_of[node] >= 0 else ""
        match kind:
            case "module" | "library" | "stdlib":
                return f"module {name}"
            case "native":
                return f"native code, {name or self.type(node)}"
            case "garbage":
                return f"garbage, {name or self.type(node)}"
        return f"{kind} {name}".strip()

    def step(self, before: int, after: int) -> str:
        """Return the step from an object's parent to it in words; nothing for steps that say nothing."""
        number = self.edge_label[after]
        if number < 0:
            return _ITEMS.get(self.type(before), "reference")
        label = masked(self.labels[number])
        if label in _SKIPPED:
            return ""
        if label.startswith("<"):
            return {"<key>": "dict key"}.get(label, label.strip("<>"))
        grandparent = int(self.parent[before])
        holder = grandparent if self.type(before) == "builtins.dict" and grandparent < len(self) else before
        is_global = self.type(holder) == "builtins.module"
        return label[1:] if is_global and label.startswith(".") else label

    def owner(self, node: int) -> int | None:
        """Return the closest object on the path to an object, or itself, that is not the standard library's.

        It is an instance, class or function of the program or of a library, or one of their
        modules; None when the whole path is the standard library's.

        Source: Eclipse MAT, api/inspections/LeakHunterQuery.java: first referrer that is no system class
        """
        for each in reversed(self.path(node)):
            if not is_standard(self._belongs_to(each)):
                return each
        return None

    def _belongs_to(self, node: int) -> str:
        """Return the module that an object's code is in, as far as it says so."""
        kind = self.type(node)
        if kind in ("builtins.module", "builtins.function") or self.name_of[node] >= 0:
            return self.names[self.name_of[node]] if self.name_of[node] >= 0 else "builtins"
        return kind


def snapshots(profile: Profile, pid: int) -> tuple[int, ...]:
    """Return the numbers of the snapshots of the heap of one process, increasing."""
    return _numbers(*_recording(profile), pid)


@lru_cache(maxsize=8)
def _numbers(path: str, _started_unix_ns: int, pid: int) -> tuple[int, ...]:
    """Return what `snapshots` returns."""
    import pyarrow.compute as pc

    objects = Profile(path).table("heap_objects").select(["pid", "rung"])
    return tuple(sorted(pc.unique(objects.filter(pc.field("pid") == pid)["rung"]).to_pylist()))


@lru_cache(maxsize=2)
def _snapshot(path: str, _started_unix_ns: int, pid: int, rung: int) -> HeapGraph:
    """Return one snapshot."""
    import pyarrow.compute as pc

    chosen = (pc.field("pid") == pid) & (pc.field("rung") == rung)
    tables = (Profile(path).table(f"heap_{what}").filter(chosen) for what in ("objects", "references"))
    return HeapGraph.from_tables(*tables)


def _recording(profile: Profile) -> tuple[str, int]:
    """Return what tells a recording from all others, whoever opened it."""
    return str(profile.path.resolve()), profile.manifest.started_unix_ns


def masked(label: str) -> str:
    """Return a label without what tells apart things of one kind.

    >>> masked(".worker_12")
    '.worker_#'
    """
    return _DIGITS.sub("#", label)


def is_standard(name: str) -> bool:
    """Return whether a dotted name is the standard library's.

    >>> is_standard("collections.deque"), is_standard("__main__.Session")
    (True, False)
    """
    return name.partition(".")[0] in sys.stdlib_module_names


def largest(graph: HeapGraph, top: int = 50) -> "pd.DataFrame":
    """Return the objects that retain the most, but none that another of them retains most of.

    Columns: node, object_id, type, size_bytes, retained_bytes, objects (how many would be freed),
    path (steps). perfkit's own objects are left out. An object that hands down at least 0.7 of
    what it retains to one other is told by the other: that is where memory piles up.

    Source: Eclipse MAT, FindLeaksQuery.java: big_drop_ratio 0.7
    """
    import pandas as pd

    from perfkit.analysis.retainers import accumulation_point

    n = len(graph)
    top_level = np.flatnonzero((graph.idom[:n] == n) & ~graph.is_ours)
    by_size = top_level[np.argsort(-graph.retained_bytes[top_level], kind="stable")][: 4 * top]
    nodes = list(dict.fromkeys(accumulation_point(graph, int(node)) for node in by_size))[:top]
    rows = [
        {
            "node": node,
            "object_id": int(graph.object_id[node]),
            "type": graph.type(node),
            "size_bytes": int(graph.size_bytes[node]),
            "retained_bytes": int(graph.retained_bytes[node]),
            "objects": int(graph.dominated_objects[node]),
            "path": graph.steps(node),
        }
        for node in nodes
    ]
    columns = ["node", "object_id", "type", "size_bytes", "retained_bytes", "objects", "path"]
    return pd.DataFrame(rows, columns=columns).sort_values("retained_bytes", ascending=False, ignore_index=True)


def by_type(graph: HeapGraph) -> "pd.DataFrame":
    """Return the types: objects, size_bytes, and held_bytes, what their objects hold as immediate dominators.

    `held_bytes` adds up to the size of everything that has a dominator, so it can be compared
    between snapshots; retained sizes cannot be added up, since they contain each other.
    """
    import pandas as pd

    n, kinds = len(graph), len(graph.types)
    ours = graph.is_ours
    weight = np.where(ours, 0, graph.size_bytes)
    holder = graph.idom[:n]
    held = holder < n
    return pd.DataFrame(
        {
            "type": graph.types,
            "objects": np.bincount(graph.type_of[~ours], minlength=kinds),
            "size_bytes": np.bincount(graph.type_of, weights=weight, minlength=kinds).astype(np.int64),
            "held_bytes": np.bincount(graph.type_of[holder[held]], weights=weight[held], minlength=kinds).astype(
                np.int64
            ),
        }
    ).sort_values(["size_bytes", "type"], ascending=[False, True], ignore_index=True)


def _places(ids: Ints, wanted: pa.ChunkedArray) -> Codes:
    """Return the position of addresses among the sorted ones of objects, -1 where they are not."""
    values = wanted.to_numpy()
    place = np.searchsorted(ids, values).astype(np.int32)
    place[place == len(ids)] = 0
    return np.where(ids[place] == values, place, np.int32(-1)) if len(ids) else np.full(len(values), -1, np.int32)


def _codes(texts: pa.ChunkedArray) -> tuple[Codes, tuple[str, ...]]:
    """Return numbers of texts, -1 for NULL, and the texts."""
    encoded = texts.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    numbers = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return numbers, tuple(encoded.dictionary.to_pylist())


def _filled(numbers: pa.ChunkedArray) -> Ints:
    """Return numbers with -1 for NULL."""
    return np.asarray(numbers.fill_null(-1).to_numpy(), np.int64)
