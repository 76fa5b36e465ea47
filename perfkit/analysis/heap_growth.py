"""The only place that says what grew between two snapshots of a heap, and where it piles up.

Two snapshots hold requests that come and go, caches whose content is replaced, and what piles
up. Objects cannot tell which is which, classes of paths can: what comes and goes leaves its
class as large as it was. So growth is summed by class, and followed from the roots to the last
object that is not more numerous than before: that is what holds the others.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from perfkit.analysis.heap_graph import HeapGraph
from perfkit.analysis.path_classes import MAX_DEPTH, PathClasses, classify_all, counts
from perfkit.profile import Profile

Ints = NDArray[np.int64]

SHARE = 0.1
"""Smaller shares of the whole growth are not followed for themselves."""
MIN_BYTES = 4096.0
"""Less than a page is not followed, however still the rest of the heap is."""
STEADY_RATIO = 0.02
STEADY_OBJECTS = 2
"""A class that has hardly more objects than before does not pile up: its objects got larger."""
_INSIDE = frozenset(("<dict>", "<class>"))
"""Labels of what belongs to its object rather than being held by it."""
_IN_HAND = frozenset(("task", "frame"))
"""Roots whose local variables hold what they work on at the moment."""
_CANNOT_GROW = frozenset(("builtins.bytes", "builtins.str", "builtins.int"))
"""Types whose objects never get larger: a larger one in hand is another one."""


@dataclass(frozen=True, slots=True)
class Pile:
    """Something that grew between two snapshots.

    `holders` are the objects of the later snapshot that the growth piles up in, `node` the longest
    of them, `steps` the path from a root to it; `item_type` what piles up (None: the holder
    itself got larger). What no object of Python holds is its own holder. `newcomers` are objects of
    the later snapshot that were not in the earlier one, `objects` how many more there are; `bytes`
    is all that grew behind the holder, `share` that part of the growth of the whole heap. `kind`
    is the kind of the root.
    """

    kind: str
    steps: tuple[str, ...]
    node: int
    holders: Ints
    holder_ids: Ints
    type: str
    item_type: str | None
    items_before: int
    items_after: int
    objects: int
    bytes: int
    share: float
    newcomers: Ints
    replaced_ratio: float = 0.0
    """Part of `objects` that made no holder longer: they took the place of what several holders had in common."""


@dataclass(frozen=True, slots=True)
class HeapGrowth:
    """What two snapshots differ in.

    `bytes` is by how much Python's objects grew, `garbage_bytes` the part of it that waits for the
    collector, `piles` where it piles up, most bytes first. Modules that were imported in between
    are not in it: `imported_bytes` is their size. `classes` are the classes of paths in both, of
    which each has `added_objects` and `added_bytes` more than before, and `objects` now.
    """

    before: HeapGraph
    after: HeapGraph
    classes: PathClasses
    objects: Ints
    added_objects: Ints
    added_bytes: Ints
    bytes: int
    garbage_bytes: int
    imported_bytes: int
    piles: tuple[Pile, ...]
    is_whole: bool = True
    """Whether both are of one moment each: else what is held and by whom may not fit together."""


def heap_growth(before: HeapGraph, after: HeapGraph, least_bytes: float = MIN_BYTES) -> HeapGrowth:
    """Return what grew between two snapshots of one process, and where it piles up.

    Args:
        before: the earlier snapshot.
        after: the later one.
        least_bytes: growth behind an object that is worth telling.

    Source: comparing snapshots by masked labels is Eclipse MAT's (FindLeaksQuery2.java); that a
    holder is told by its growth rather than by its size BLeak's (Vilk & Berger 2018,
    doi:10.1145/3192366.3192376)
    """
    classes, (groups_before, groups_after) = classify_all((before, after))
    stayed_before, stayed_after = _stayed(before, after)
    is_new = np.ones(len(after), bool)
    is_new[stayed_after] = False
    objects_before, bytes_before = counts(classes, groups_before, before)
    objects_after, bytes_after = counts(classes, groups_after, after)
    more, bytes_more = objects_after - objects_before, bytes_after - bytes_before
    then, now = groups_before[stayed_before], groups_after[stayed_after]
    came, new_bytes = counts(classes, np.where(is_new, groups_after, -1), after)
    below = classes.children()
    _join_renamed(classes, below, objects_before, objects_after, (then, now), (more, bytes_more))
    _take_back_moves(then, now, after.size_bytes[stayed_after], (more, bytes_more))
    growth = _Growth(
        before=before,
        after=after,
        groups_before=groups_before,
        groups_after=groups_after,
        is_new=is_new,
        classes=classes,
        objects=more,
        objects_before=objects_after - more,
        bytes=bytes_more,
        behind=classes.sums(bytes_more),
        came=came,
        new_behind=classes.sums(new_bytes),
        below=below,
    )
    roots = [number for number, parent in enumerate(classes.parent) if parent < 0]
    roots = [each for each in roots if not classes.label[each].startswith("perfkit")]
    imported = {each for each in roots if not growth.objects_before[each] and classes.type[each] == "builtins.module"}
    imported_bytes = sum(int(growth.behind[each]) for each in imported)
    roots = [each for each in roots if each not in imported]
    total = sum(int(growth.behind[each]) for each in roots)
    garbage = sum(int(growth.behind[each]) for each in roots if classes.label[each].startswith("garbage"))
    least = max(SHARE * sum(max(int(growth.behind[each]), 0) for each in roots), least_bytes)
    found = [place for root in roots if growth.behind[root] >= least for place in growth.places(root, least)]
    piles = [_pile(growth, place, total) for place in found]
    return HeapGrowth(
        before=before,
        after=after,
        classes=classes,
        objects=objects_after,
        added_objects=growth.objects,
        added_bytes=growth.bytes,
        bytes=total,
        garbage_bytes=garbage,
        imported_bytes=imported_bytes,
        piles=tuple(sorted((pile for pile in piles if pile is not None), key=lambda pile: (-pile.bytes, pile.steps))),
    )


def held_below(grown: HeapGrowth, pile: Pile, kinds: re.Pattern[str]) -> int:
    """Return how many objects of some types the holders of a pile lead to in the later snapshot.

    Args:
        grown: the snapshots.
        pile: what grew.
        kinds: matches the names of the types.
    """
    after = grown.after
    wanted = [number for number, name in enumerate(after.types) if kinds.search(name)]
    at = np.flatnonzero(np.isin(after.type_of, wanted) & ~after.is_ours)
    below = np.zeros(len(at), bool)
    for _step in range(MAX_DEPTH):
        below |= np.isin(at, pile.holders)
        inside = at < len(after)
        at = np.where(inside, after.parent[np.where(inside, at, 0)], at)
    return int(below.sum())


def _moves(then: Ints, now: Ints, values: Ints) -> list[tuple[int, int, int, float]]:
    """Return (class before, class after, objects, sum of their values) of what seems to have changed its class."""
    moved = (then != now) & (then >= 0) & (now >= 0)
    pairs, group, number = np.unique(
        np.column_stack([then[moved], now[moved]]), axis=0, return_inverse=True, return_counts=True
    )
    sums = np.bincount(group.ravel(), weights=values[moved], minlength=len(pairs))
    order = np.argsort(-number, kind="stable").tolist()
    return [(*pairs[each].tolist(), int(number[each]), float(sums[each])) for each in order]


def _join_renamed(
    classes: PathClasses,
    below: list[list[int]],
    objects_before: Ints,
    objects_after: Ints,
    stayed: tuple[Ints, Ints],
    growth: tuple[Ints, Ints],
) -> None:
    """Let a class that has become another go on there, with all that is behind it.

    Which of two functions at work leads to a queue, say, differs from moment to moment; and what was in it before may
    have gone from it since.

    Args:
        classes: m classes.
        below: the classes below each.
        objects_before: objects of each class in the earlier snapshot.
        objects_after: objects of each class in the later one.
        stayed: class of each object that is in both, then and now.
        growth: by how many objects and bytes each class grew; changed in place.
    """
    for loser, winner, number, _bytes in sorted(_moves(*stayed, np.ones(len(stayed[0]), np.int64))):
        if number < objects_before[loser] or objects_after[loser] or not growth[0][loser]:
            continue  # not all of it, or done with what it hangs below
        waiting = [(loser, winner)]
        while waiting:
            old, new = waiting.pop()
            if objects_after[old]:
                continue
            for each in growth:
                each[new] += each[old]
                each[old] = 0
            names = {(classes.label[each], classes.type[each]): each for each in below[new]}
            pairs = ((each, names.get((classes.label[each], classes.type[each]))) for each in below[old])
            waiting += [(each, other) for each, other in pairs if other is not None and other != each]


def _take_back_moves(then: Ints, now: Ints, size_bytes: Ints, growth: tuple[Ints, Ints]) -> None:
    """Take from what classes grew by what another class lost to them.

    Which of several ways to an object is the shortest changes, and then it is in another class. But an address is
    also given to the next object of the kind, which then seems to have moved. So only as many objects count as moved
    as the one class has fewer and the other more: where others have come to the first, these are what is new.

    Args:
        then: class of each of m objects with an address and type that are in both snapshots, in the earlier one.
        now: its class in the later one.
        size_bytes: its size.
        growth: by how many objects and bytes each class grew; changed in place.
    """
    objects, sizes = growth
    for loser, winner, number, moved_bytes in _moves(then, now, size_bytes):
        count = min(number, -int(objects[loser]), int(objects[winner]))
        if count > 0:
            size = round(moved_bytes * count / number)
            objects[loser] += count
            objects[winner] -= count
            sizes[loser] += size
            sizes[winner] -= size


def _stayed(before: HeapGraph, after: HeapGraph) -> tuple[Ints, Ints]:
    """Return the objects that are in both snapshots, by their places in the earlier and in the later one.

    They have the same address and type; of an object that took the place of another of its kind
    this cannot be told.
    """
    _ids, then, now = np.intersect1d(before.object_id, after.object_id, assume_unique=True, return_indices=True)
    number = {name: index for index, name in enumerate(before.types)}
    kind = np.array([number.get(name, -1) for name in after.types] or [-1])[after.type_of[now]]
    same = kind == before.type_of[then]
    return then[same], now[same]


@dataclass(frozen=True, slots=True)
class _Place:
    """A class that growth piles up in, and the classes of what piles up; none: it got larger itself."""

    holder: int
    items: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class _Growth:
    """What each class grew by, and the snapshots with the class of each object; `is_new`: it was not in the earlier.

    Of each class, `came` are its new objects, `new_behind` the bytes of all new objects behind it, its own included.
    """

    before: HeapGraph
    after: HeapGraph
    groups_before: Ints
    groups_after: Ints
    is_new: NDArray[np.bool_]
    classes: PathClasses
    objects: Ints
    objects_before: Ints
    bytes: Ints
    behind: Ints
    came: Ints
    new_behind: Ints
    below: list[list[int]]

    def is_steady(self, number: int) -> bool:
        """Whether a class has hardly more objects than before, or what grew is not behind those that it has more of.

        Of a leak that is old, the share that is new is small: then most of its new objects must have stayed,
        and they, and about as many others as they are, must make up the growth.
        """
        more = int(self.objects[number])
        if more <= STEADY_OBJECTS or more > STEADY_RATIO * int(self.objects_before[number]):
            return more <= STEADY_OBJECTS
        most = max((int(self.objects[child]) for child in self.below[number]), default=0)
        is_theirs = 2 * int(self.new_behind[number]) >= int(self.behind[number]) > 0
        return not (is_theirs and int(self.came[number]) <= 2 * more and most <= 2 * more)

    def places(self, start: int, least: float) -> Iterator[_Place]:
        """Yield where the growth behind a class piles up; places with less than `least` bytes are left out."""
        if not self.is_steady(start):
            # What C code, a thread or nobody holds: there is no holder that could be looked at.
            yield _Place(start, (start,), int(self.behind[start]))
            return
        waiting = [start]
        while waiting:
            number = waiting.pop()
            children = sorted(self.below[number], key=lambda child: (-int(self.behind[child]), child))
            growing = [child for child in children if self.behind[child] > 0]
            numerous = [child for child in growing if not self.is_steady(child)]
            steady = [child for child in growing if self.is_steady(child) and self.behind[child] >= least]
            by_number = sum(int(self.behind[child]) for child in numerous)
            own = int(self.bytes[number])
            waiting += steady
            # Its own growth, such as a longer table of a dict, belongs to what is put into it.
            here = by_number + own
            if here < least:
                continue
            if by_number >= 0.5 * own or by_number >= least:
                yield _Place(number, tuple(numerous), here)
            elif own >= least:
                yield _Place(number, (), own)


def _pile(growth: _Growth, place: _Place, total: int) -> Pile | None:
    """Return what is known of a place in the later snapshot; None when its holders are gone from it.

    None, too, for a text or a number in a local variable: it cannot grow, and another one that is larger is the next
    request, not growth.
    """
    after, groups = growth.after, growth.groups_after
    holders = np.flatnonzero((groups == place.holder) & ~after.is_ours)
    if not len(holders):
        return None
    items = [each for each in place.items if growth.classes.label[each] not in _INSIDE]
    main = max(items, key=lambda each: (int(growth.behind[each]), -each), default=None)
    holder = int(holders[np.argmax(after.items[holders])])
    chosen = (
        np.isin(groups, np.array(place.items, np.int64)) & growth.is_new if place.items else np.zeros(len(after), bool)
    )
    newcomers = np.flatnonzero(chosen)
    if place.items == (place.holder,) and len(newcomers):
        holder = int(newcomers[0])
    root = holder
    while (parent := int(after.parent[root])) < len(after):
        root = parent
    name = after.root_name(root)
    pile = Pile(
        kind=name.partition(" ")[0].rstrip(","),
        steps=tuple(after.steps(holder)[:-1] or [name]),
        node=holder,
        holders=holders,
        holder_ids=after.object_id[holders],
        type=after.type(holder),
        item_type=None,
        items_before=0,
        items_after=0,
        objects=0,
        bytes=place.bytes,
        share=place.bytes / total if total > 0 else 0.0,
        newcomers=newcomers,
    )
    if main is None:
        return None if pile.kind in _IN_HAND and pile.type in _CANNOT_GROW else pile
    objects = int(growth.objects[main])
    return replace(
        pile,
        item_type=growth.classes.type[main],
        replaced_ratio=_replaced(growth, place.holder, holders, objects),
        items_before=int(growth.objects_before[main]),
        items_after=int(growth.objects_before[main] + growth.objects[main]),
        objects=objects,
    )


def _replaced(growth: _Growth, holder: int, now: Ints, objects: int) -> float:
    """Return which part of what holders have more of did not make them any longer: 0 to 1, and 0 where it is not known.

    Args:
        growth: the snapshots.
        holder: the class of the holders.
        now: the holders in the later snapshot.
        objects: how many more objects there are in them.
    """
    before, after = growth.before, growth.after
    then = np.flatnonzero(growth.groups_before == holder)
    if not len(then) or objects <= 0 or (before.items[then] < 0).any() or (after.items[now] < 0).any():
        return 0.0
    longer = int(after.items[now].sum()) - int(before.items[then].sum())
    return min(max(1.0 - longer / objects, 0.0), 1.0)


@lru_cache(maxsize=2)
def _between(path: str, recorded_unix_ns: int, pid: int) -> tuple[HeapGrowth, float, float] | None:
    """Return what `between` returns; kept, since the rule and several views ask for it."""
    profile = Profile(path)
    snapshots = profile.frame("heap_snapshots")
    snapshots = snapshots[snapshots["pid"] == pid].sort_values("rung")
    if len(snapshots) < 2:
        return None
    first, last = snapshots.iloc[0], snapshots.iloc[-1]
    before, after = (HeapGraph.of(profile, pid, int(each["rung"])) for each in (first, last))
    if before is None or after is None or last["at_ns"] <= first["at_ns"]:
        return None
    grown = heap_growth(before, after)
    if {first["mode"], last["mode"]} != {"copy"}:
        # An object that was not met, or met before what holds it, looks like one that nobody holds.
        held = tuple(pile for pile in grown.piles if pile.kind not in ("native", "garbage"))
        grown = replace(grown, is_whole=False, piles=held)
    return grown, first["at_ns"] / 1e9, last["at_ns"] / 1e9


def between(profile: Profile, pid: int) -> tuple[HeapGrowth, float, float] | None:
    """Return what grew between the first and the last snapshot of a process, and when these were taken, in seconds.

    None when there are not two of them.
    """
    return _between(str(profile.path.resolve()), profile.manifest.started_unix_ns, pid)
