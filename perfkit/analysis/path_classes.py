"""The only place that splits a heap by the way its objects are reached, so that several snapshots can be compared.

Every object belongs to one class: that of its shortest path from a root, read without what
tells things of one kind apart. Sizes of classes therefore add up, and a class means the same in
another snapshot of the process, or of another one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perfkit.analysis.heap_graph import HeapGraph, masked

Ints = NDArray[np.int64]

MAX_DEPTH = 40
"""Steps after which paths are not told apart any more."""
_CYCLE = 4
"""Steps after which a structure that refers to its own kind is recognised, such as node, dict, next, node."""


@dataclass
class PathClasses:
    """A tree of classes; a class comes after its parent.

    Class c is reached from class `parent[c]` (-1: it is a root) by `label[c]` and has the type
    `type[c]`; `example[c]` is the snapshot and object that it was first seen with. Structures
    that refer to their own kind, such as linked lists, are one class.
    """

    parent: list[int] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    type: list[str] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    example: list[tuple[int, int]] = field(default_factory=list)
    _numbers: dict[tuple[int, int, int], int] = field(default_factory=dict)
    _texts: dict[str, int] = field(default_factory=dict)
    _inside: set[int] = field(default_factory=set)
    _spaces: dict[int, int] = field(default_factory=dict)
    """The class of the object that a namespace belongs to: attributes hang below it, with a `__dict__` or without."""

    def __len__(self) -> int:
        return len(self.parent)

    def classify(self, graph: HeapGraph, snapshot: int = 0) -> Ints:
        """Return the class of each object, -1 for what no root leads to.

        Args:
            graph: n objects.
            snapshot: number to note with the examples of new classes.
        """
        n = len(graph)
        label_of = np.array([self._text(masked(label)) for label in graph.labels] + [self._text("")])
        type_of = np.array([self._text(name) for name in graph.types] or [0])
        labels = label_of[graph.edge_label].tolist()
        types, parents = type_of[graph.type_of].tolist(), graph.parent.tolist()
        numbers, spaces, group = self._numbers, self._spaces, [-1] * n
        for node in graph.order.tolist():
            parent = parents[node]
            # Roots are told apart by kind and name.
            key = (
                (spaces.get(group[parent], group[parent]), labels[node], types[node])
                if parent < n
                else (-1, self._text(graph.root_name(node)), types[node])
            )
            number = numbers.get(key)
            if number is None:
                number = self._add(key, graph, node, snapshot)
            group[node] = number
        return np.array(group, np.int64)

    def sums(self, values: Ints) -> Ints:
        """Return, for each class, the sum of the values of the classes it leads to, its own included."""
        sums: list[int] = values.tolist()
        for number in range(len(self) - 1, -1, -1):
            if (parent := self.parent[number]) >= 0:
                sums[parent] += sums[number]
        return np.array(sums, np.int64)

    def children(self) -> list[list[int]]:
        """Return the classes below each class."""
        below: list[list[int]] = [[] for _ in self.parent]
        for number, parent in enumerate(self.parent):
            if parent >= 0:
                below[parent].append(number)
        return below

    def _text(self, text: str) -> int:
        """Return the number of a text."""
        number = self._texts.setdefault(text, len(self._texts))
        if text.startswith("<"):
            self._inside.add(number)
        return number

    def _add(self, key: tuple[int, int, int], graph: HeapGraph, node: int, snapshot: int) -> int:
        """Return the number of a new class, or of the one further up that it continues."""
        parent, label, kind = key
        above = parent
        # What belongs to its object, such as the `__dict__` of an instance, is no step of a structure.
        is_inside = label in self._inside
        chain: list[int] = []
        # A root continues nothing, and neither does what hangs directly below it.
        while not is_inside and len(chain) < 2 * _CYCLE and above >= 0 and self.parent[above] >= 0:
            chain.append(above)
            above = self.parent[above]
        for step, each in enumerate(chain[:_CYCLE]):
            if self.depth[each] >= MAX_DEPTH or (self._continues(each, label, kind) and self._repeats(chain, step + 1)):
                self._numbers[key] = each
                return each
        number = self._numbers[key] = len(self)
        self.parent.append(parent)
        self.label.append(graph.root_name(node) if parent < 0 else masked(self._label(graph, node)))
        self.type.append(graph.type(node))
        self.depth.append(self.depth[parent] + 1 if parent >= 0 else 0)
        self.example.append((snapshot, node))
        if self.label[number] == "<dict>":
            self._spaces[number] = parent
        return number

    def _continues(self, above: int, label: int, kind: int) -> bool:
        """Whether a class is reached like another and of its type."""
        return self._texts.get(self.label[above]) == label and self._texts.get(self.type[above]) == kind

    def _repeats(self, chain: list[int], length: int) -> bool:
        """Whether the steps since the last one of its kind are those before that one, too."""
        pairs = zip(chain[: length - 1], chain[length:], strict=False)
        same = [(self.label[a], self.type[a]) == (self.label[b], self.type[b]) for a, b in pairs]
        return all(same) and len(same) == length - 1

    @staticmethod
    def _label(graph: HeapGraph, node: int) -> str:
        """Return the label of the step to an object, empty when it has none."""
        number = int(graph.edge_label[node])
        return graph.labels[number] if number >= 0 else ""


def counts(classes: PathClasses, groups: Ints, graph: HeapGraph) -> tuple[Ints, Ints]:
    """Return (objects, bytes) of each class in a snapshot; perfkit's own objects are left out.

    Args:
        classes: m classes.
        groups: the class of each of n objects.
        graph: the snapshot.
    """
    counted = (groups >= 0) & ~graph.is_ours
    objects = np.bincount(groups[counted], minlength=len(classes))
    size_bytes = np.bincount(groups[counted], weights=graph.size_bytes[counted], minlength=len(classes))
    return objects.astype(np.int64), size_bytes.astype(np.int64)


def classify_all(graphs: Sequence[HeapGraph]) -> tuple[PathClasses, list[Ints]]:
    """Return the classes of several snapshots, and the class of each object of each."""
    classes = PathClasses()
    return classes, [classes.classify(graph, number) for number, graph in enumerate(graphs)]
