"""The only place that compares the growth of memory in two recordings, and says that a leak is fixed, and how surely.

The leak of one recording is looked for in the other by the same measure: the bytes that the
line keeps, else the number of objects of the type, else the process's memory as a whole.
"""

from dataclasses import dataclass

import numpy as np

from perfkit.analysis.changes import Outcome
from perfkit.analysis.growth import MIN_RUNGS
from perfkit.analysis.ledger import growth, ledger
from perfkit.analysis.survival import live_heap
from perfkit.analysis.trends import Slope, theil_sen
from perfkit.profile import Profile

MIN_FACTOR = 1.25
"""Rates of one leak in two runs differ with what the requests bring; below a quarter more they are the same."""
REST_SHARE = 0.2
"""A leak is gone when at most this share of it can be left; more is called slower growth."""
MIN_EXPLAINED = 0.5
"""A measure that shows less than this share of the growth that the rule found is not a measure of it."""
MIN_LOAD_RATIO = 0.1
"""With less than a tenth of the load, a leak per request hides: nothing is said."""


@dataclass(frozen=True, slots=True)
class Grower:
    """What the rule `memory_growth` says of one process, as far as it matters here.

    `fails` and `passes` are both false when it is undecided. `function` and `file` are where it is
    allocated, `rate` (low, estimate, high) how fast it grows in `unit`, `since_s` the end of the warm-up.
    """

    pid: int
    class_: str
    title: str
    needs: tuple[str, ...]
    fails: bool
    passes: bool
    since_s: float
    window_s: float
    gate_bytes_per_s: float
    function: str | None = None
    file: str | None = None
    type: str | None = None
    retainer: tuple[str, ...] = ()
    rate: tuple[float, float, float] | None = None
    unit: str = "bytes/s"

    @property
    def identity(self) -> tuple[str | None, ...]:
        """Return what tells one leak from another: class, line's function, type, the first steps of what holds it."""
        return self.class_, self.function, self.file, self.type, *self.retainer[:3]


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast something grows in both recordings, in `unit`, by the measure `what`; HEAD at BASE's load.

    `is_specific`: it is the leak itself that is measured, not the memory that it is in.
    """

    what: str
    unit: str
    base: Slope
    head: Slope
    is_specific: bool


@dataclass(frozen=True, slots=True)
class GrowthChange:
    """What became of the growth of memory.

    `rate` compares the leak that `of` ("base" or "head") has; None when none has one, or when there is no
    measure of it in both. `smallest_seen` is the growth that the recording without the leak would have shown.
    """

    outcome: Outcome
    of: str | None
    base: Grower
    head: Grower
    rate: Rate | None
    watched_s: float
    smallest_seen: float | None
    because: str = ""


def growth_changes(
    base: Profile, head: Profile, before: Grower, after: Grower, load_ratio: float | None
) -> list[GrowthChange]:
    """Return what became of each leak that one of two recordings has; one row when there is none.

    Args:
        base: the recording before.
        head: the recording after.
        before: what the rule says of BASE.
        after: what it says of HEAD.
        load_ratio: requests per second of HEAD by those of BASE, None when they are not known.
    """
    if load_ratio is not None and not MIN_LOAD_RATIO <= load_ratio <= 1 / MIN_LOAD_RATIO:
        return [_row(Outcome.CANNOT_TELL, None, before, after, None, "the load is another one altogether")]
    factor = 1.0 if load_ratio is None else 1 / load_ratio
    if not (before.fails or after.fails):
        if before.passes and after.passes:
            return [_row(Outcome.SAME, None, before, after, None)]
        undecided = after if not after.passes else before
        reason = "; it needs ".join((undecided.title, *undecided.needs[:1]))
        return [_row(Outcome.CANNOT_TELL, None, before, after, None, reason)]
    rows = []
    if before.fails:
        rows.append(_of(base, head, before, after, "base", factor))
    if after.fails and not (before.fails and before.identity == after.identity):
        rows.append(_of(base, head, before, after, "head", factor))
    return rows


def _of(base: Profile, head: Profile, before: Grower, after: Grower, of: str, factor: float) -> GrowthChange:
    """Return what became of the leak of one of the recordings, measured in both."""
    leak, other = (before, after) if of == "base" else (after, before)
    rate = _rate(base, head, before, after, leak, factor)
    if rate is None:
        return _row(Outcome.CANNOT_TELL, of, before, after, None, "no measure of this growth is in both recordings")
    there, here = (rate.base, rate.head) if of == "base" else (rate.head, rate.base)
    if not there.grows:
        return _row(Outcome.CANNOT_TELL, of, before, after, rate, "its rate is too uncertain")
    apart = here.high < there.low
    if apart and here.estimate * MIN_FACTOR < there.estimate:
        # Gone, or a good deal less, in the other recording: good when that one is HEAD.
        is_gone = (other.passes or (other.fails and rate.is_specific)) and here.high <= REST_SHARE * there.low
        if of == "head":
            return _row(Outcome.WORSE, of, before, after, rate)
        return _row(Outcome.FIXED if is_gone else Outcome.BETTER, of, before, after, rate)
    if here.low > there.high and here.estimate > MIN_FACTOR * there.estimate:
        return _row(Outcome.WORSE if of == "base" else Outcome.BETTER, of, before, after, rate)
    if other.fails or here.grows:
        return _row(Outcome.SAME, of, before, after, rate)
    return _row(Outcome.CANNOT_TELL, of, before, after, rate, "the intervals of the two rates overlap")


def _row(
    outcome: Outcome, of: str | None, before: Grower, after: Grower, rate: Rate | None, because: str = ""
) -> GrowthChange:
    """Return the answer with how long was watched and what would have been seen."""
    clean = before if of == "head" else after
    smallest = None
    if rate is not None:
        slope = rate.base if of == "head" else rate.head
        # Below its gate the rule says nothing; of what is counted, one more would have been seen.
        floor = clean.gate_bytes_per_s if rate.unit == "bytes/s" else 1 / max(clean.window_s, 1.0)
        smallest = max(slope.high - slope.estimate, slope.high, floor)
    elif of is None and before.passes and after.passes:
        smallest = max(before.gate_bytes_per_s, after.gate_bytes_per_s)
    return GrowthChange(outcome, of, before, after, rate, clean.window_s, smallest, because)


def _rate(base: Profile, head: Profile, before: Grower, after: Grower, leak: Grower, factor: float) -> Rate | None:
    """Return how fast a leak grows in both recordings, by the closest measure that both have."""
    for what, unit, measure in (
        ("threads or descriptors", "1/s", _counted),
        ("bytes kept by the line", "bytes/s", _site),
        ("objects of the type", "objects/s", _type),
        ("traced heap", "bytes/s", _traced),
        ("anonymous memory", "bytes/s", _anonymous),
    ):
        first, second = measure(base, before, leak), measure(head, after, leak)
        if first is None or second is None:
            continue
        second = _scaled(second, factor)
        its_own = first if leak is before else second
        if unit == "bytes/s" and leak.rate is not None and its_own.estimate < MIN_EXPLAINED * leak.rate[1]:
            continue
        if unit == "objects/s" and leak.rate is not None and its_own.estimate > 0:
            # What the rule found to grow, bytes, is what a reader wants to hear of.
            each_bytes = leak.rate[1] / its_own.estimate
            return Rate(what, "bytes/s", _scaled(first, each_bytes), _scaled(second, each_bytes), is_specific=True)
        return Rate(what, unit, first, second, is_specific=measure in (_counted, _site, _type))
    return None


def _counted(profile: Profile, grower: Grower, leak: Grower) -> Slope | None:
    """Return how fast threads or descriptors pile up, when that is the leak."""
    column = {"thread_leak": "threads", "fd_leak": "descriptors"}.get(leak.class_)
    if column is None:
        return None
    stats = profile.frame("process_stats")
    stats = stats[(stats["pid"] == grower.pid) & (stats["at_ns"] >= grower.since_s * 1e9)].sort_values("at_ns")
    found = growth(stats, column)
    return found.slope if found else None


def _site(profile: Profile, grower: Grower, leak: Grower) -> Slope | None:
    """Return the bytes per second that the function keeps; None where it did not run: it may be another one now."""
    if leak.function is None:
        return None
    heap = live_heap(profile, grower.pid, grower.since_s)
    if heap is None:
        return None
    return heap.slope([site for site in heap.sites if (site.function, site.file) == (leak.function, leak.file)])


def _type(profile: Profile, grower: Grower, leak: Grower) -> Slope | None:
    """Return how fast objects of the type become more; a type that is not there has none."""
    if leak.type is None:
        return None
    census = profile.frame("object_census")
    census = census[(census["pid"] == grower.pid) & (census["at_ns"] >= grower.since_s * 1e9)]
    time = census.groupby("rung")["at_ns"].min().sort_index() / 1e9
    if len(time) < MIN_RUNGS:
        return None
    objects = census[census["type"] == leak.type].groupby("rung")["objects"].sum().reindex(time.index, fill_value=0)
    return theil_sen(time.to_numpy(), objects.to_numpy(np.float64))


def _traced(profile: Profile, grower: Grower, leak: Grower) -> Slope | None:
    """Return the growth of the traced heap."""
    found = ledger(profile, grower.pid, grower.since_s).traced
    return found.slope if found else None


def _anonymous(profile: Profile, grower: Grower, leak: Grower) -> Slope | None:
    """Return the growth of anonymous memory."""
    found = ledger(profile, grower.pid, grower.since_s).anon
    return found.slope if found else None


def _scaled(slope: Slope, factor: float) -> Slope:
    """Return a slope at another load."""
    return Slope(slope.low * factor, slope.estimate * factor, slope.high * factor, slope.p, slope.points)
