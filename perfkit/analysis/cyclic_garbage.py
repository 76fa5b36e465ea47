"""The only place that says what garbage consists of: its rate, its kinds, what it holds until it is collected."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from perfkit.analysis.gc_costs import Costs, site_of
from perfkit.analysis.survival import Place
from perfkit.profile import Profile

PROBE_FILE = "<perfkit probe>"
"""File of code that recorded, as the process saw it."""
_WORTH_NAMING = 0.02
_KINDS = """
select g.type, f.function, f.file, f.line, coalesce(f.kind, '') as kind, sum(g.objects)::double as objects,
    sum(g.size_bytes)::double as size_bytes, sum(g.descriptors)::double as descriptors, count(distinct g.at_ns) as looks
from garbage g left join stacks s using (stack_id) left join frames f on f.frame_id = s.leaf_frame_id
where pid = $pid and g.type is not null group by all order by 6 desc, 1, 2
"""
_LOOKS = """
select count(*) as looks, coalesce(sum(examined), 0)::double as examined
from (select distinct at_ns, examined from garbage where pid = $pid)
"""


_CALLERS = """
select caller.function, caller.file, caller.line, caller.kind, sum(h.allocations)::double as allocations
from heap_survival h join stack_frames below using (stack_id) join frames made using (frame_id)
join stack_frames above on above.stack_id = below.stack_id and above.pos = below.pos - 1
join frames caller on caller.frame_id = above.frame_id
where h.pid = $pid and made.file = $file and made.line between $line and $until
    and (made.function = $name or made.function = $function)
group by 1, 2, 3, 4 order by 5 desc, 1 limit 1
"""
"""Who calls a constructor, as the allocation tracer saw it: it names functions without their class."""
_LONGEST_LINES = 80
_MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of garbage as the looks found it; `site` is its constructor, or the code of a function.

    `caller` is the line that calls the constructor most, where the allocation tracer was there to see it.

    `is_own` says that the program's own code defines it, not an installed package or the interpreter.
    """

    type: str
    site: Place | None
    is_own: bool
    objects: float
    size_bytes: float
    descriptors: float
    looks: int
    caller: Place | None = None


@dataclass(frozen=True)
class Garbage:
    """The garbage of one process.

    `objects_per_s` is exact, from the collections, manual ones included; the rest is from looks at
    the newest objects: kinds, and what one object of garbage holds on average. `looks` 0: it was
    not looked for, or there never was enough to look at.
    """

    objects_per_s: float
    looks: int
    examined: float
    kinds: tuple[Kind, ...]

    def without(self, is_left_out: Callable[[Kind], bool]) -> "Garbage":
        """Return the garbage without some kinds; without any kind when none that is left says anything.

        What is left then, plain tuples and dicts, are what those that were left out held.
        """
        kept = replace(self, kinds=tuple(kind for kind in self.kinds if not is_left_out(kind)))
        return kept if len(kept.kinds) == len(self.kinds) or kept.named else replace(self, kinds=())

    @property
    def seen_objects(self) -> float:
        """Return how many unreachable objects the looks found."""
        return sum(kind.objects for kind in self.kinds)

    @property
    def share(self) -> float:
        """Return the share of garbage among the objects that were looked at."""
        return self.seen_objects / self.examined if self.examined else 0.0

    @property
    def bytes_per_object(self) -> float:
        """Return what each object of garbage holds on average."""
        return sum(kind.size_bytes for kind in self.kinds) / self.seen_objects if self.kinds else 0.0

    @property
    def descriptors_per_object(self) -> float:
        """Return how many open descriptors there are per object of garbage."""
        return sum(kind.descriptors for kind in self.kinds) / self.seen_objects if self.kinds else 0.0

    @property
    def bytes_per_s(self) -> float:
        """Return how many bytes become garbage per second."""
        return self.objects_per_s * self.bytes_per_object

    @property
    def descriptors_per_s(self) -> float:
        """Return how many open descriptors become garbage per second."""
        return self.objects_per_s * self.descriptors_per_object

    @property
    def named(self) -> tuple[Kind, ...]:
        """Return the kinds that say something: classes and functions, not lists and dicts; the program's first."""
        telling = [kind for kind in self.kinds if kind.site is not None or not kind.type.startswith("builtins.")]
        most = max((kind.objects for kind in telling), default=0.0)
        telling = [kind for kind in telling if kind.objects >= _WORTH_NAMING * most]
        return tuple(sorted(telling, key=lambda kind: (not kind.is_own, -kind.size_bytes, -kind.objects, kind.type)))

    @property
    def own_share(self) -> float:
        """Return the share of the named garbage that the program's own code makes."""
        named = sum(kind.objects for kind in self.named)
        return sum(kind.objects for kind in self.named if kind.is_own) / named if named else 0.0


def cyclic_garbage(profile: Profile, costs: Costs) -> Garbage:
    """Return what is known of a process's garbage."""
    looks = profile.sql(_LOOKS, pid=costs.pid).iloc[0]
    rows = profile.sql(_KINDS, pid=costs.pid)
    kinds = _with_callers(profile, costs.pid, tuple(_kind(row) for row in rows.to_dict("records")))
    collected = int(costs.pauses.collected.sum())
    return Garbage(collected / costs.covered_s, int(looks["looks"]), float(looks["examined"]), kinds)


def _kind(row: Mapping[Hashable, Any]) -> Kind:
    """Return one kind from a row of the query."""
    return Kind(
        type=row["type"],
        site=site_of(row),
        # Cython tells the path at which it was built, which is nobody's installed package.
        is_own=row["kind"] == "python" and not str(row["file"]).endswith(".pyx"),
        objects=row["objects"],
        size_bytes=row["size_bytes"],
        descriptors=row["descriptors"],
        looks=int(row["looks"]),
    )


def _with_callers(profile: Profile, pid: int, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
    """Return the kinds with who calls their constructors; only for those that make up most of the garbage."""
    if not profile.manifest.rows.get("heap_survival"):
        return kinds
    lines = sorted({(kind.site.file, kind.site.line) for kind in kinds if kind.site and kind.site.line})
    found = []
    for number, kind in enumerate(kinds):
        site = kind.site
        if number < _MOST_NAMED and site is not None and site.file is not None and site.line is not None:
            after = [line for file, line in lines if file == site.file and line is not None and line > site.line]
            rows = profile.sql(
                _CALLERS,
                pid=pid,
                file=site.file,
                line=site.line,
                until=min([site.line + _LONGEST_LINES, *(line - 1 for line in after)]),
                name=site.function.rpartition(".")[2],
                function=site.function,
            )
            if not rows.empty:
                kind = replace(kind, caller=site_of(rows.iloc[0].to_dict()))  # noqa: PLW2901
        found.append(kind)
    return tuple(found)
