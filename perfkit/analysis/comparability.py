"""The only place that says whether two recordings can be compared, and what differs between how they came about.

A comparison is refused only where it would be wrong whatever one knows; where just some of the
numbers would be, those are shown and not judged.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from perfkit.analysis.latency import summary
from perfkit.profile import Profile

MIN_LENGTH_S = 5.0
"""Ten blocks of half a second: shorter ones hold a few requests or no reading of /proc at all."""
MAX_LENGTH_RATIO = 3.0
"""Rates do not depend on the length, but what fills up, warms up or comes once a minute does."""
LOAD_TOLERANCE = 0.1
"""Latency rises slowly with the load until it rises quickly: a tenth more requests is noticed at 80 % of capacity."""
MIN_COMMON_CODE = 0.2
"""Two versions of one service share most of their functions, two services hardly more than the standard library."""
TIMED = ("latency", "throughput", "cpu", "gc")
HEAVY = {"memray_heap": (*TIMED, "memory"), "object_sites": (*TIMED, "memory"), "object_graph": TIMED}
"""Collectors that cost the target, and what: the tracer takes memory of its own and up to 3 times the CPU
(benchmarks/collector_overhead.py), the graph a copy of the process."""
_COMMON = ("cpu_samples", "heap_survival", "memory_ledger", "object_census", "heap_objects", "gc_pauses", "requests",
           "process_stats")  # fmt: skip
_NOT_COMPARED = ("name", "doc", "expect", "record.duration_s", "record.warmup_s", "load.seed", "proxy.port")
_READINGS = ("gc.callbacks", "gc.frozen_objects", "census.forced_collection")
"""Settings that nobody set: they come of running, or of being recorded."""


class Bearing(StrEnum):
    """What a difference means: the comparison is wrong, some numbers cannot be judged, or it is told."""

    REFUSED = "refused"
    NOT_JUDGED = "not_judged"
    NOTED = "noted"


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not the same in two recordings; `families` are the numbers that are not judged for it."""

    what: str
    base: str
    head: str
    bearing: Bearing
    because: str = ""
    families: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it as a sentence."""
        values = f"{self.what}: {self.base}, then {self.head}" if self.base or self.head else self.what
        return f"{values} ({self.because})" if self.because else values


def differs(
    what: str, values: Sequence[object], bearing: Bearing, because: str = "", families: tuple[str, ...] = ()
) -> Iterator[Difference]:
    """Yield the difference between two values, the one of BASE first, if there is one."""
    before, after = values
    if before != after:
        yield Difference(what, str(before), str(after), bearing, because, families)


def differences(base: Profile, head: Profile) -> list[Difference]:
    """Return what differs in how two recordings came about, refusals first; what they measured is not looked at."""
    found = [
        *_interpreters(base, head),
        *_data(base, head),
        *_lengths(base, head),
        *_programs(base, head),
        *_hosts(base, head),
        *_collectors(base, head),
        *_loads(base, head),
        *_mixes(base, head),
        *_scenarios(base, head),
        *_settings(base, head),
        *_quality(base, head),
    ]
    return sorted(found, key=lambda each: list(Bearing).index(each.bearing))


def requests_per_s(profile: Profile) -> float | None:
    """Return the load that was offered, or None when perfkit does not know it."""
    requests = profile.table("requests")
    return summary(requests).requests_per_s if requests.num_rows else None


def _interpreters(base: Profile, head: Profile) -> Iterator[Difference]:
    """Yield a refusal for another interpreter, a note for another patch release."""
    before, after = (_target(profile).get("python", "") for profile in (base, head))
    if before.split(".")[:2] != after.split(".")[:2]:
        because = "memory and speed of another minor version differ for every program"
        yield Difference("Python", before, after, Bearing.REFUSED, because)
    elif before != after:
        yield Difference("Python", before, after, Bearing.NOTED)
    threaded = ["yes" if _target(profile).get("free_threaded") else "no" for profile in (base, head)]
    yield from differs("free-threaded build", threaded, Bearing.REFUSED, "it is another interpreter")


def _data(base: Profile, head: Profile) -> Iterator[Difference]:
    """Yield a refusal when there is nothing that both have."""
    before, after = ({name for name in _COMMON if profile.manifest.rows.get(name)} for profile in (base, head))
    if not before & after:
        because = "no kind of data is in both"
        yield Difference("data", ", ".join(sorted(before)), ", ".join(sorted(after)), Bearing.REFUSED, because)


def _lengths(base: Profile, head: Profile) -> Iterator[Difference]:
    """Yield a refusal for a recording that is too short, a note for very different lengths."""
    lengths = [f"{profile.duration_s:.3g} s" for profile in (base, head)]
    shorter, longer = sorted((base.duration_s, head.duration_s))
    if shorter < MIN_LENGTH_S:
        yield Difference(
            "length", lengths[0], lengths[1], Bearing.REFUSED, f"less than {MIN_LENGTH_S:g} s tell nothing"
        )
    elif longer > MAX_LENGTH_RATIO * shorter:
        yield from differs("length", lengths, Bearing.NOTED, "what fills up or warms up depends on it")


def _programs(base: Profile, head: Profile) -> Iterator[Difference]:
    """Yield a difference for another program: a refusal when they have hardly any code in common."""
    before, after = (str(_target(profile).get("program", "")) for profile in (base, head))
    shared = _common_code(base, head)
    if shared is not None and shared < MIN_COMMON_CODE:
        because = f"{shared:.0%} of their functions are in both"
        yield Difference("program", before, after, Bearing.REFUSED, because)
    elif before != after:
        if shared is None:
            yield Difference("program", before, after, Bearing.REFUSED, "whether it is the same code is not known")
        else:
            yield Difference("program", before, after, Bearing.NOTED, f"{shared:.0%} of their functions are in both")
    counts = [len(profile.pids) for profile in (base, head)]
    yield from differs("processes", counts, Bearing.NOTED, "their numbers are added up")


def _common_code(base: Profile, head: Profile) -> float | None:
    """Return the share of functions outside of the standard library that both ran; None when one has none.

    memray comes with the recording, not with the program.
    """
    ours = (
        "select distinct function_hash from frames where kind in ('python', 'library') "
        "and coalesce(split_part(module, '.', 1), '') <> 'memray'"
    )
    before, after = (set(profile.sql(ours)["function_hash"]) for profile in (base, head))
    return len(before & after) / min(len(before), len(after)) if before and after else None


def _hosts(base: Profile, head: Profile) -> Iterator[Difference]:
    """Yield what differs in the machines: times of other hardware are not judged."""
    because = "times of other hardware say nothing about the program"
    for key in ("machine", "cores", "memory_bytes", "kernel"):
        values = [profile.manifest.host.get(key, "") for profile in (base, head)]
        if key in ("machine", "cores"):
            yield from differs(f"host {key}", values, Bearing.NOT_JUDGED, because, TIMED)
        else:
            yield from differs(f"host {key}", values, Bearing.NOTED)


def _collectors(base: Profile, head: Profile) -> Iterator[Difference]:
    """Yield collectors that only one has, and options that differ."""
    before, after = base.manifest.collectors, head.manifest.collectors
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            words = ["recorded" if name in each else "not recorded" for each in (before, after)]
            if name in HEAVY:
                because = "it costs the target; record both with the same --collect"
                yield Difference(name, words[0], words[1], Bearing.NOT_JUDGED, because, HEAVY[name])
            else:
                yield Difference(name, words[0], words[1], Bearing.NOTED)
            continue
        for option, old, new in _changed(before[name], after[name]):
            yield Difference(f"{name}.{option}", old, new, Bearing.NOTED)


def _loads(base: Profile, head: Profile) -> Iterator[Difference]:
    """Yield a difference for another load: times and levels then say nothing about the program."""
    before, after = requests_per_s(base), requests_per_s(head)
    if before is None or after is None:
        if before != after:
            words = ["not known" if each is None else f"{each:.3g} requests/s" for each in (before, after)]
            yield Difference("load", words[0], words[1], Bearing.NOTED)
        return
    if abs(before - after) > LOAD_TOLERANCE * max(before, after):
        because = "another load has other times and levels; growth and CPU are compared per request"
        families = ("latency", "throughput", "gc", "memory")
        words = [f"{each:.3g} requests/s" for each in (before, after)]
        yield Difference("load", words[0], words[1], Bearing.NOT_JUDGED, because, families)


def _mixes(base: Profile, head: Profile) -> Iterator[Difference]:
    """Yield a difference for another mix of requests: it has other times, whatever the program does."""
    query = "select route, count(*) / (select count(*) from requests) as share from requests group by route"
    mixes: list[dict[str, float]] = []
    for profile in (base, head):
        answer = profile.sql(query)
        mixes.append(dict(zip(answer["route"], answer["share"], strict=True)))
    before, after = mixes
    if not before or not after:
        return
    moved = {route: abs(before.get(route, 0.0) - after.get(route, 0.0)) for route in before.keys() | after.keys()}
    if sum(moved.values()) / 2 > LOAD_TOLERANCE:
        values = [", ".join(f"{share:.0%} {route}" for route, share in sorted(mix.items())) for mix in mixes]
        families = ("latency", "throughput", "cpu", "gc")
        yield from differs("mix of requests", values, Bearing.NOT_JUDGED, "each kind takes its own time", families)


def _scenarios(base: Profile, head: Profile) -> Iterator[Difference]:
    """Yield what differs in the scenarios of the reference proxy, setting by setting."""
    if base.manifest.scenario is None or head.manifest.scenario is None:
        return
    for key, old, new in _changed(base.manifest.scenario, head.manifest.scenario):
        if not any(key == skipped or key.startswith(f"{skipped}.") for skipped in _NOT_COMPARED):
            is_other_server = key.startswith("upstream.")
            because = "the server behind it answers in another way" if is_other_server else ""
            bearing = Bearing.NOT_JUDGED if is_other_server else Bearing.NOTED
            yield Difference(key, old, new, bearing, because, ("latency",) if is_other_server else ())


def _settings(base: Profile, head: Profile) -> Iterator[Difference]:
    """Yield settings of the target that were other ones when the recording began."""
    query = "select name, arg_min(value, at_ns) as value from settings where pid = $pid group by name"
    found: list[dict[str, str]] = []
    for profile in (base, head):
        answer = profile.sql(query, pid=profile.pids[0] if profile.pids else -1)
        found.append(dict(zip(answer["name"], answer["value"], strict=True)))
    before, after = found
    for name in sorted(before.keys() & after.keys()):
        if name not in _READINGS:
            yield from differs(name, (before[name], after[name]), Bearing.NOTED)


def _quality(base: Profile, head: Profile) -> Iterator[Difference]:
    """Yield what one recording lacks."""
    for name, profile in (("BASE", base), ("HEAD", head)):
        for sentence in profile.manifest.missing:
            yield Difference(f"{name} lacks: {sentence}", "", "", Bearing.NOTED)


def _target(profile: Profile) -> Mapping[str, Any]:
    """Return what is known of the main process."""
    return profile.manifest.targets[0] if profile.manifest.targets else {}


def _changed(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (dotted name, value before, value after) of each leaf that differs; `-` stands for none."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted(before.keys() | after.keys()):
            yield from _changed(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
    elif before != after:
        yield path, _text(before), _text(after)


def _text(value: Any) -> str:
    """Return a setting as people write it."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)
